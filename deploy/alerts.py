"""The alerts of Prometheus: when each fires, how bad it is, and what it says. Each has a page in docs/runbooks."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

import yaml

from deploy.known import SERVICES
from deploy.queries import increased
from schemas.errors import ERRORS, ErrorCode

_SAID_BY_US = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
_WRITTEN = "# Written by `make docs` from deploy/alerts.py.\n"


@dataclass(frozen=True)
class Alert:
    """``expr``: it fires while this has a result, once it has had one for as long as ``wait``. ``summary``: a template.

    ``critical``: clients notice it, or something is lost. ``warning``: look into it within the day.
    """

    name: str
    expr: str
    wait: str
    severity: Literal["critical", "warning"]
    summary: str

    @property
    def runbook(self) -> str:
        """The path of its page in this repository."""
        return f"docs/runbooks/{re.sub(r'(?<!^)(?=[A-Z])', '-', self.name).lower()}.md"


def alerts() -> list[Alert]:
    """All alerts, the most urgent first."""
    slots = "max by (state) (orchestra_worker_slots)"
    problems, accepted = "orchestra_gateway_problems_total", "orchestra_gateway_accepted_total"
    refusals = "|".join(code for code, kind in ERRORS.items() if kind.status in _SAID_BY_US)
    calls = f"(sum(rate({problems}[5m])) + sum(rate({accepted}[5m])))"
    lag = "sum by (topic) (max by (topic, partition) (orchestra_topic_lag_records))"
    letters = f'orchestra_worker_dead_letters_total{{reason!="{ErrorCode.OWNER_ERASED}"}}'
    generations = "orchestra_llm_generations_total"
    # Not the faults of requests, and not the refusals, which hold the model back.
    faults = f"{ErrorCode.BAD_UPSTREAM}|{ErrorCode.EMPTY_REPLY}|{ErrorCode.INTERNAL}|{ErrorCode.TIMEOUT}"
    return [
        Alert(
            "ServiceDown",
            f'up{{job=~"{"|".join(SERVICES)}"}} == 0',
            "2m",
            "critical",
            "{{ $labels.job }} at {{ $labels.instance }} does not answer Prometheus.",
        ),
        Alert(
            "NoWorkers",
            # Workers of a release that does not report its slots are alive all the same.
            f'sum({slots}) == 0 unless on () max(orchestra_workers{{version="unknown"}}) > 0',
            "1m",
            "critical",
            "No worker takes requests. They are accepted, and wait.",
        ),
        Alert(
            "GatewayNotReady",
            'min by (instance, part) (orchestra_gateway_part_ready{part=~"kafka|database|events|files"}) == 0',
            "2m",
            "critical",
            "The gateway at {{ $labels.instance }} is not ready: {{ $labels.part }}.",
        ),
        Alert(
            "GatewayErrors",
            f'sum by (code) (rate({problems}{{code=~"{refusals}"}}[5m])) / on () group_left () {calls} > 0.05',
            "5m",
            "critical",
            "{{ $value | humanizePercentage }} of what gateways accept or refuse is refused with {{ $labels.code }}.",
        ),
        Alert(
            "TopicHeld",
            "max by (topic) (orchestra_worker_topic_held) > 0",
            "1m",
            "critical",
            "Workers have paused reading the topic {{ $labels.topic }}: every record became a dead letter.",
        ),
        Alert(
            "LogGap",
            f"{increased('orchestra_worker_log_gap_records_total', '1h')} > 0",
            "",
            "critical",
            "Kafka deleted {{ $value | humanize }} records before a worker had read them.",
        ),
        Alert(
            "QueueOld",
            "max by (model) (orchestra_queue_oldest_seconds) > 300",
            "5m",
            "warning",
            "A turn for the model {{ $labels.model }} has waited for {{ $value | humanizeDuration }}.",
        ),
        Alert(
            "WorkersFull",
            'max(orchestra_worker_slots{state="free"}) == 0 and max(orchestra_worker_slots{state="used"}) > 0'
            " and max(orchestra_queue_oldest_seconds) > 60",
            "5m",
            "warning",
            "All slots of all workers are used, and turns wait.",
        ),
        Alert(
            "IntakeBehind",
            f"{lag} > 1000 and deriv(({lag})[10m:1m]) > 0",
            "5m",
            "warning",
            "{{ $value | humanize }} records of {{ $labels.topic }} have not been read yet, and their number grows.",
        ),
        Alert(
            "PartitionStalled",
            "max by (instance) (orchestra_worker_stalled_partitions) > 0",
            "5m",
            "warning",
            "A producer's open transaction blocks partitions that the worker at {{ $labels.instance }} reads.",
        ),
        Alert(
            "ModelHeldBack",
            # A probe ends a hold for a moment, so it is the average that counts.
            "avg_over_time((max by (model) (orchestra_models_held) > bool 0)[3m:15s]) > 0.8",
            "",
            "warning",
            "The model {{ $labels.model }} refuses calls. Its requests wait.",
        ),
        Alert(
            "ModelFails",
            f'sum by (model) (rate({generations}{{outcome=~"{faults}"}}[5m]))'
            f" / sum by (model) (rate({generations}[5m])) > 0.2",
            "5m",
            "warning",
            "{{ $value | humanizePercentage }} of the generations of {{ $labels.model }} fail.",
        ),
        Alert(
            "DeadLetters",
            # No record is at fault that an owner had sent before their erasure.
            f"{increased(letters, '15m', 'reason')} > 0",
            "",
            "warning",
            "{{ $value | humanize }} records became dead letters: {{ $labels.reason }}.",
        ),
        Alert(
            "LeasesLost",
            f"{increased('orchestra_worker_workers_lost_total', '30m')}"
            f" + {increased('orchestra_worker_leases_lost_total', '30m')} > 2",
            "",
            "warning",
            "{{ $value | humanize }} leases of workers were lost within 30 minutes.",
        ),
        Alert(
            "LateAcks",
            f"{increased('orchestra_gateway_late_acks_total', '15m')} > 0",
            "",
            "warning",
            "Kafka acknowledged {{ $value | humanize }} records after their clients had got a 503.",
        ),
        Alert(
            "UnsignedEvents",
            f"{increased('orchestra_gateway_events_unsigned_total', '15m')} > 0",
            "",
            "warning",
            "{{ $value | humanize }} events on llm.events had no valid signature of a worker.",
        ),
    ]


def rules() -> str:
    """The file of alerts for Prometheus."""
    listed = [
        {
            "alert": alert.name,
            "expr": alert.expr,
            **({"for": alert.wait} if alert.wait else {}),
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, "runbook": alert.runbook},
        }
        for alert in alerts()
    ]
    return _yaml({"groups": [{"name": "llm-orchestra", "rules": listed}]})


def configuration() -> str:
    """The configuration of the Prometheus of compose.yaml, which finds all containers of each service by DNS."""
    jobs = [
        {"job_name": service, "dns_sd_configs": [{"names": [service], "type": "A", "port": port}]}
        for service, port in SERVICES.items()
    ]
    often = {"scrape_interval": "15s", "evaluation_interval": "15s"}
    return _yaml({"global": often, "rule_files": ["alerts.yml"], "scrape_configs": jobs})


def _yaml(content: Any) -> str:
    return _WRITTEN + yaml.safe_dump(content, sort_keys=False, width=120)
