"""The dashboards of Grafana: what each panel shows, and how a panel becomes JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, SortOrder, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DashboardLinkType, DataSourceRef
from promql_parser import Expr, VectorSelector, parse, walk

from deploy.known import by_series
from deploy.queries import STEP, Query, lowest, now, per_hour, per_second, quantile, summed, times, unit

_SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
_WIDTH = 24
_ASKED = "orchestra_queue_model_turns"
_FAILED = '{outcome="Failed"}'
_ENDED = '{outcome=~"Completed|Failed|Expired|Cancelled"}'


@dataclass(frozen=True)
class Panel:
    """``small``: the present number instead of lines over time. ``note``: in place of the metrics' own descriptions."""

    title: str
    queries: Sequence[Query]
    small: bool = False
    note: str = ""


@dataclass(frozen=True)
class Board:
    """A dashboard. ``name``: of its file; ``rows``: panels by the title above them."""

    name: str
    title: str
    rows: dict[str, Sequence[Panel]]


def _tile(title: str, query: Query) -> Panel:
    return Panel(title, [query], small=True)


def _lines(title: str, *queries: Query, note: str = "") -> Panel:
    return Panel(title, queries, note=note)


def _shares(title: str, name: str, *by: str) -> Panel:
    return _lines(title, quantile(0.5, name, *by), quantile(0.95, name, *by))


def _failed_share() -> Query:
    attempts = "orchestra_worker_attempts_total"
    ended = f"sum(rate({attempts}{_ENDED}[{STEP}]))"
    return Query(f"(sum(rate({attempts}{_FAILED}[{STEP}])) or 0 * {ended}) / ({ended} > 0)", "percentunit", "failed")


def boards() -> list[Board]:
    """All dashboards: one for operators, and one for each service with every metric that it has."""
    return [_overview(), _gateway(), _workers(), _llm_service()]


def _overview() -> Board:
    return Board(
        "overview",
        "LLM Orchestra: overview",
        {
            "Now": [
                _tile("Waiting", summed("orchestra_queue_turns", over="priority", where='{state="runnable"}')),
                _tile("Oldest waits", now("orchestra_queue_oldest_seconds")),
                _tile("Slots used", now("orchestra_worker_slots", where='{state="used"}')),
                _tile("Slots free", now("orchestra_worker_slots", where='{state="free"}')),
                _tile("Workers", summed("orchestra_workers", over="version")),
                _tile("Dead letters not replayed", now("orchestra_dead_letters_open")),
            ],
            "What needs you": [
                _lines(
                    "Alerts",
                    Query('count by (alertname) (ALERTS{alertstate="firing"})', "short", "{{alertname}}"),
                    note="Alerts that fire. Each has a page in docs/runbooks.",
                ),
                _lines(
                    "Failed share of what ended", _failed_share(), note="Cancelled and expired requests did not fail."
                ),
                _lines("Parts that are ready", lowest("orchestra_gateway_part_ready", "part")),
                _lines("Workers that hold a model back", now("orchestra_models_held", "model")),
            ],
            "Work": [
                _lines("Accepted", per_second("orchestra_gateway_accepted_requests_total", "door")),
                _lines("Ended", per_second("orchestra_worker_attempts_total", "outcome", where=_ENDED)),
                _lines("Waiting, by model", now(_ASKED, "model", where='{state="runnable"}')),
                _lines("Records not read yet", summed("orchestra_topic_lag_records", "topic", over="partition")),
            ],
            "Time": [
                _shares("In the queue", "orchestra_worker_queue_seconds"),
                _shares("To the first piece of text", "orchestra_worker_first_delta_seconds"),
                _shares("Whole attempt", "orchestra_worker_attempt_seconds"),
            ],
            "Models": [
                _lines("Generations", per_second("orchestra_llm_generations_total", "model", "outcome")),
                _lines("Tokens", per_second("orchestra_llm_tokens_total", "model", "direction")),
                _lines("Cost of an hour at this speed", per_hour("orchestra_llm_cost_dollars_total", "model")),
            ],
        },
    )


def _gateway() -> Board:
    lost = [
        times("orchestra_gateway_events_stale_total", legend="stale"),
        times("orchestra_gateway_events_skipped_total", legend="malformed"),
        times("orchestra_gateway_events_unsigned_total", legend="unsigned"),
    ]
    return Board(
        "gateway",
        "LLM Orchestra: gateways",
        {
            "Accepting": [
                _lines("Requests accepted", per_second("orchestra_gateway_accepted_requests_total", "door")),
                _lines("Records accepted", per_second("orchestra_gateway_accepted_total", "type")),
                _lines("Problems returned", per_second("orchestra_gateway_problems_total", "code")),
                _lines(
                    "Acknowledged by Kafka after",
                    quantile(0.5, "orchestra_gateway_ack_seconds"),
                    quantile(0.99, "orchestra_gateway_ack_seconds"),
                ),
                _lines("Acknowledged too late", times("orchestra_gateway_late_acks_total")),
                _lines("In flight to Kafka", now("orchestra_gateway_pending_sends", "instance")),
            ],
            "Answering": [
                _lines("Waiting calls", now("orchestra_gateway_waits", "instance")),
                _shares("Wait of a call", "orchestra_gateway_wait_seconds"),
                _lines("Open streams", now("orchestra_gateway_streams", "instance")),
                _lines("Viewers of live numbers", now("orchestra_gateway_live_viewers", "instance")),
                _lines("Cancelled by a disconnect", times("orchestra_gateway_disconnect_cancels_total")),
            ],
            "Events": [
                _lines("Read", per_second("orchestra_gateway_events_total", "type")),
                _lines("Not read yet", now("orchestra_gateway_events_lag", "instance")),
                _lines("Passed over", *lost),
                _lines("Requests in memory", now("orchestra_gateway_live_requests", "instance")),
                _lines("Text in memory", now("orchestra_gateway_live_bytes", "instance")),
                _lines("Texts dropped from memory", times("orchestra_gateway_texts_dropped_total")),
            ],
            "Parts": [
                _lines("Ready", lowest("orchestra_gateway_part_ready", "instance", "part")),
                _lines("Age of the queue, as seen", now("orchestra_gateway_queue_age_seconds", "instance")),
            ],
            "The system, as every gateway sees it": [
                _lines("Turns, by state", summed("orchestra_queue_turns", "state", over="priority")),
                _lines(
                    "Runnable turns, by priority", now("orchestra_queue_turns", "priority", where='{state="runnable"}')
                ),
                _lines("Turns, by model", now(_ASKED, "model", "state")),
                _lines("Oldest turn", now("orchestra_queue_oldest_seconds", "model")),
                _lines("Workers that hold a model back", now("orchestra_models_held", "model")),
                _lines("Workers", now("orchestra_workers", "version")),
                _lines("Slots", now("orchestra_worker_slots", "state")),
                _lines("Records not read yet", summed("orchestra_topic_lag_records", "topic", over="partition")),
                _lines("Dead letters not replayed", now("orchestra_dead_letters_open")),
            ],
        },
    )


def _workers() -> Board:
    return Board(
        "workers",
        "LLM Orchestra: workers",
        {
            "Intake": [
                _lines("Records taken in", per_second("orchestra_worker_records_total", "kind")),
                _lines("Dead letters", times("orchestra_worker_dead_letters_total", "reason")),
                _lines("Duplicate records", times("orchestra_worker_duplicate_records_total")),
                _lines("Records of erased owners", times("orchestra_worker_erased_records_total")),
                _lines("Records on an unexpected partition", times("orchestra_worker_partition_mismatch_total")),
                _lines("Records lost to retention", times("orchestra_worker_log_gap_records_total")),
                _lines("Stalled partitions", now("orchestra_worker_stalled_partitions", "instance")),
                _lines("Topics held", now("orchestra_worker_topic_held", "topic")),
            ],
            "Turns": [
                _lines("Claimed", per_second("orchestra_worker_claimed_total")),
                _lines("Outcomes of attempts", per_second("orchestra_worker_attempts_total", "outcome")),
                _lines("In flight", now("orchestra_worker_in_flight", "instance")),
            ],
            "Time": [
                _shares("In the queue", "orchestra_worker_queue_seconds"),
                _shares("To the first piece of text", "orchestra_worker_first_delta_seconds"),
                _shares("Whole attempt", "orchestra_worker_attempt_seconds"),
            ],
            "Faults that cost no request": [
                _lines(
                    "Leases",
                    times("orchestra_worker_leases_lost_total", legend="lost by the worker itself"),
                    times("orchestra_worker_workers_lost_total", legend="revoked from another worker"),
                ),
                _lines("Endings discarded", times("orchestra_worker_fenced_endings_total")),
                _lines("Replies published again", times("orchestra_worker_replies_republished_total")),
                _lines("Events dropped", times("orchestra_worker_deltas_dropped_total")),
            ],
        },
    )


def _llm_service() -> Board:
    in_flight, limit = "orchestra_llm_generations_in_flight", "orchestra_llm_limit"
    return Board(
        "llm-service",
        "LLM Orchestra: LLM service",
        {
            "Generations": [
                _lines("Ended", per_second("orchestra_llm_generations_total", "model", "outcome")),
                _lines("In flight", now(in_flight, "model")),
                _lines(
                    "Configured limits",
                    Query(f"max by (model, limit) ({limit})", unit(limit), "{{model}} {{limit}}"),
                ),
                _lines("Rejected by a limit", times("orchestra_llm_limited_total", "model", "limit")),
                _lines("Moved to a fallback", times("orchestra_llm_fallbacks_total", "model", "to", "reason")),
            ],
            "Time": [
                _lines("To the first piece of text, p95", quantile(0.95, "orchestra_llm_first_token_seconds", "model")),
                _lines("Whole generation, p95", quantile(0.95, "orchestra_llm_generation_seconds", "model")),
            ],
            "Tokens and cost": [
                _lines("Tokens", per_second("orchestra_llm_tokens_total", "model", "direction")),
                _lines("Cost of an hour at this speed", per_hour("orchestra_llm_cost_dollars_total", "model")),
            ],
        },
    )


def as_json(board: Board) -> str:
    """The dashboard as Grafana imports it."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"orchestra-{board.name}")
        .description("Written by `make docs` from deploy/dashboards.py.")
        .tags(["llm-orchestra"])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .with_variable(dashboard.DatasourceVariable("source").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["llm-orchestra"])
            .as_dropdown(True)
        )
    )
    number = 0
    for title, panels in board.rows.items():
        built.with_row(dashboard.Row(title).id(number := number + 1))
        for panel in panels:
            built.with_panel(_built(panel, len(panels)).id(number := number + 1))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _built(panel: Panel, beside: int) -> stat.Panel | timeseries.Panel:
    built = stat.Panel() if panel.small else timeseries.Panel()
    (shown,) = {query.unit for query in panel.queries}
    built.title(panel.title).description(panel.note or _what(panel)).unit(shown).datasource(_SOURCE)
    if panel.small:
        built.span(_WIDTH // beside).height(4)
    else:
        built.span(_WIDTH // min(beside, 3)).height(8).min(0)
    if isinstance(built, stat.Panel):
        built.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        built.legend(legend.show_legend(True))
        built.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    for place, query in enumerate(panel.queries):
        legend_of = query.legend or panel.title
        target = prometheus.Dataquery().expr(query.expr).legend_format(legend_of).ref_id(chr(ord("A") + place))
        built.with_target(target)
    return built


def _what(panel: Panel) -> str:
    """What the metrics of a panel mean, as the reference says it."""
    found: dict[str, None] = {}

    def note(expr: Expr) -> None:
        if isinstance(expr, VectorSelector) and (metric := by_series().get(expr.name or "")):
            found[metric.what.rstrip(".") + "."] = None

    for query in panel.queries:
        walk(parse(query.expr.replace(STEP, "1m")), note)
    return " ".join(found)
