"""For each alert: series with which it fires, and series with which it does not, in promtool's notation.

A value is scraped every 15 s. `a+bxn` is `a` and `n` further values, each `b` more than the one before; `_xn` is
nothing for `n` scrapes.
"""

from dataclasses import dataclass

Series = dict[str, str]


@dataclass(frozen=True)
class Case:
    """It fires at ``at`` with ``fires``, and never with any of ``quiet`` in the last ``minutes`` of 200.

    A counter that Prometheus sees for the first time counts as new, so what it had counted before is reported once.
    """

    at: str
    fires: Series
    quiet: tuple[Series, ...]
    minutes: int = 200


def _gauge(name: str, value: float) -> Series:
    return {name: f"{value}x200"}


def _slots(free: float, used: float) -> Series:
    return _gauge('orchestra_worker_slots{state="free"}', free) | _gauge('orchestra_worker_slots{state="used"}', used)


def _growth(name: str, labels: str = "", *quiet: Series) -> Case:
    """A counter that begins with its first event; one that stays at 3, and one whose target is silent for 3 minutes."""
    series = f"{name}{{{labels}}}"
    return Case("20m", {series: "_x75 1x125"}, ({series: "3x800"}, {series: "3x400 _x12 3x388"}, *quiet), minutes=120)


_PROBLEMS = 'orchestra_gateway_problems_total{code="unavailable"}'
_ACCEPTED = 'orchestra_gateway_accepted_total{type="llm.request.submit"}'
_GOOD = 'orchestra_llm_generations_total{model="llama3",outcome="completed"}'
_LETTERS_OF_ERASED = 'orchestra_worker_dead_letters_total{reason="owner_erased"}'
_LAG = 'orchestra_topic_lag_records{topic="llm.requests",partition="%d",instance="%s"}'

CASES = {
    "ServiceDown": Case(
        "3m", _gauge('up{job="gateway",instance="a"}', 0), (_gauge('up{job="gateway"}', 1), _gauge('up{job="node"}', 0))
    ),
    "NoWorkers": Case(
        "2m",
        _slots(0, 0),
        (_slots(1, 0), _slots(0, 1), {}, _slots(0, 0) | _gauge('orchestra_workers{version="unknown"}', 1)),
    ),
    "GatewayNotReady": Case(
        "3m",
        _gauge('orchestra_gateway_part_ready{part="kafka",instance="a"}', 0),
        (
            _gauge('orchestra_gateway_part_ready{part="kafka"}', 1),
            _gauge('orchestra_gateway_part_ready{part="process"}', 0),
            {'orchestra_gateway_part_ready{part="events"}': "0x6 1x194"},
        ),
    ),
    "GatewayErrors": Case(
        "12m",
        {_PROBLEMS: "0+1x200", _ACCEPTED: "0+10x200"},
        (
            {_PROBLEMS: "0+1x200", _ACCEPTED: "0+100x200"},
            {'orchestra_gateway_problems_total{code="not_found"}': "0+9x200", _ACCEPTED: "0+1x200"},
        ),
    ),
    "TopicHeld": Case(
        "2m",
        _gauge('orchestra_worker_topic_held{topic="llm.requests",instance="a"}', 1),
        (_gauge('orchestra_worker_topic_held{topic="llm.requests"}', 0),),
    ),
    "LogGap": _growth("orchestra_worker_log_gap_records_total"),
    "QueueOld": Case(
        "12m",
        {'orchestra_queue_oldest_seconds{model="llama3",instance="a"}': "0+15x200"},
        (
            _gauge('orchestra_queue_oldest_seconds{model="llama3"}', 299),
            {'orchestra_queue_oldest_seconds{model="llama3"}': "400x10 0x190"},
        ),
    ),
    "WorkersFull": Case(
        "7m",
        _slots(0, 1000) | _gauge('orchestra_queue_oldest_seconds{model="llama3"}', 90),
        (
            _slots(0, 1000) | _gauge('orchestra_queue_oldest_seconds{model="llama3"}', 3),
            _slots(1, 999) | _gauge('orchestra_queue_oldest_seconds{model="llama3"}', 90),
            _slots(0, 0) | _gauge('orchestra_queue_oldest_seconds{model="llama3"}', 90),
        ),
    ),
    "IntakeBehind": Case(
        "20m",
        # Two gateways show the same lag, which is not added up.
        {_LAG % (0, "a"): "0+40x200", _LAG % (0, "b"): "0+40x200"},
        (
            {_LAG % (0, "a"): "9000-40x200"},
            {_LAG % (0, "a"): "0+4x200", _LAG % (0, "b"): "0+4x200"},
            _gauge(_LAG % (0, "a"), 5000),
        ),
    ),
    "PartitionStalled": Case(
        "7m",
        _gauge('orchestra_worker_stalled_partitions{instance="a"}', 2),
        (
            _gauge('orchestra_worker_stalled_partitions{instance="a"}', 0),
            {'orchestra_worker_stalled_partitions{instance="a"}': "1x10 0x190"},
        ),
    ),
    "ModelHeldBack": Case(
        "5m",
        # A probe ends each hold for one scrape.
        {'orchestra_models_held{model="llama3",instance="a"}': "0x4 " + "1x8 0 " * 20},
        (
            _gauge('orchestra_models_held{model="llama3"}', 0),
            {'orchestra_models_held{model="llama3"}': "0x12 " + "1x1 0x3 " * 30},
        ),
    ),
    "ModelFails": Case(
        "12m",
        {'orchestra_llm_generations_total{model="llama3",outcome="timeout"}': "0+1x200", _GOOD: "0+3x200"},
        (
            {'orchestra_llm_generations_total{model="llama3",outcome="timeout"}': "0+1x200", _GOOD: "0+9x200"},
            {'orchestra_llm_generations_total{model="llama3",outcome="invalid_request"}': "0+9x200", _GOOD: "0+1x200"},
        ),
    ),
    "DeadLetters": _growth(
        "orchestra_worker_dead_letters_total", 'reason="not_json"', {_LETTERS_OF_ERASED: "_x75 1x125"}
    ),
    "LeasesLost": Case(
        "20m",
        {
            'orchestra_worker_workers_lost_total{instance="b"}': "_x40 1x160",
            'orchestra_worker_leases_lost_total{instance="a"}': "0x40 2x160",
        },
        (
            {"orchestra_worker_workers_lost_total": "0x400 1x400", "orchestra_worker_leases_lost_total": "0x400 1x400"},
            {"orchestra_worker_workers_lost_total": "9x800", "orchestra_worker_leases_lost_total": "9x800"},
        ),
        minutes=120,
    ),
    "LateAcks": _growth("orchestra_gateway_late_acks_total"),
    "UnsignedEvents": _growth("orchestra_gateway_events_unsigned_total"),
}
