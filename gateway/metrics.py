"""Metrics of a gateway."""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from orchestra.store.leases import KnownWorker
from orchestra.store.queue import Depth

_ACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
# Callers choose the names of models freely: only this many have series of their own, all others are `other`.
_MAX_MODELS = 20
_OTHER = "other"
_Labels = TypeVar("_Labels", bound=tuple[str, ...])


class Metrics:
    """The gateway's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.accepted = Counter(
            "orchestra_gateway_accepted", "Records acknowledged by Kafka, by type.", ["type"], registry=registry
        )
        self.accepted_requests = Counter(
            "orchestra_gateway_accepted_requests",
            "Requests acknowledged by Kafka, by the API they came by: messages, tasks, chat or responses.",
            ["door"],
            registry=registry,
        )
        self.problems = Counter(
            "orchestra_gateway_problems", "Problem documents returned, by code.", ["code"], registry=registry
        )
        self.ack_seconds = Histogram(
            "orchestra_gateway_ack_seconds",
            "Time until Kafka acknowledged a record, including late ones.",
            buckets=_ACK_SECONDS,
            registry=registry,
        )
        self.late_acks = Counter(
            "orchestra_gateway_late_acks", "Records acknowledged after the client got a 503.", registry=registry
        )
        self.pending_sends = Gauge("orchestra_gateway_pending_sends", "Records in flight to Kafka.", registry=registry)
        self.waits = Gauge("orchestra_gateway_waits", "Calls waiting for a reply.", registry=registry)
        self.wait_seconds = Histogram(
            "orchestra_gateway_wait_seconds",
            "Time that calls waited for a reply.",
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        self.disconnect_cancels = Counter(
            "orchestra_gateway_disconnect_cancels",
            "Requests cancelled because their clients disconnected.",
            registry=registry,
        )
        self.streams = Gauge("orchestra_gateway_streams", "Open streams.", registry=registry)
        self.events = Counter(
            "orchestra_gateway_events", "Records of llm.events read, by type.", ["type"], registry=registry
        )
        self.events_skipped = Counter(
            "orchestra_gateway_events_skipped", "Malformed records of llm.events, skipped.", registry=registry
        )
        self.events_stale = Counter(
            "orchestra_gateway_events_stale",
            "Events of an outdated attempt, or repeated ones, skipped.",
            registry=registry,
        )
        self.events_unsigned = Counter(
            "orchestra_gateway_events_unsigned", "Events without a valid signature of a worker.", registry=registry
        )
        self.events_lag = Gauge(
            "orchestra_gateway_events_lag", "Records of llm.events not read yet.", registry=registry
        )
        self.live_requests = Gauge(
            "orchestra_gateway_live_requests", "Open requests whose events are in memory.", registry=registry
        )
        self.live_bytes = Gauge(
            "orchestra_gateway_live_bytes", "Bytes of text of open requests in memory.", registry=registry
        )
        self.texts_dropped = Counter(
            "orchestra_gateway_texts_dropped",
            "Texts of open requests dropped because of the memory limit.",
            registry=registry,
        )
        self.queue_age_seconds = Gauge(
            "orchestra_gateway_queue_age_seconds",
            "Time that the oldest runnable turn has waited, as last observed.",
            registry=registry,
        )
        self.live_viewers = Gauge("orchestra_gateway_live_viewers", "Open streams of GET /v1/live.", registry=registry)
        self.queue_turns = Gauge(
            "orchestra_queue_turns",
            "Turns that may run now (`runnable`, of which `held` wait for a model that refuses calls) or that wait for "
            "their time (`delayed`), up to 500 of each priority. The same at every gateway: take the maximum.",
            ["priority", "state"],
            registry=registry,
        )
        self.queue_turns_by_model = Gauge(
            "orchestra_queue_model_turns",
            "The same turns by model; `other` for all but the 20 with most. The same at every gateway.",
            ["model", "state"],
            registry=registry,
        )
        self.queue_oldest_seconds = Gauge(
            "orchestra_queue_oldest_seconds",
            "For how long the oldest runnable turn of each of these models has waited. The same at every gateway.",
            ["model"],
            registry=registry,
        )
        self.workers = Gauge(
            "orchestra_workers", "Workers with a valid lease, by release. The same at every gateway.", ["version"],
            registry=registry,
        )  # fmt: skip
        self.worker_slots = Gauge(
            "orchestra_worker_slots",
            "Slots of all workers, by whether they are `used` or `free`. The same at every gateway.",
            ["state"],
            registry=registry,
        )
        self.dead_letters_open = Gauge(
            "orchestra_dead_letters_open",
            "Dead letters among the newest 1,000 that were not replayed. The same at every gateway.",
            registry=registry,
        )
        self.topic_lag = Gauge(
            "orchestra_topic_lag_records",
            "Offsets between what workers have read of a partition and its end. The same at every gateway.",
            ["topic", "partition"],
            registry=registry,
        )

    def note_queue(self, depth: Depth) -> None:
        """Set the metrics of the queue."""
        by_priority: Counts[tuple[str, str]] = Counts()
        by_model: Counts[tuple[str, str]] = Counts()
        ages: defaultdict[str, float] = defaultdict(float)
        sizes: Counts[str] = Counts()
        for group in depth.groups:
            sizes[group.model] += group.runnable + group.delayed
        named = {model for model, _ in sizes.most_common(_MAX_MODELS)}
        for group in depth.groups:
            model = group.model if group.model in named else _OTHER
            for state, count in (("runnable", group.runnable), ("held", group.held), ("delayed", group.delayed)):
                by_priority[str(group.priority), state] += count
                by_model[model, state] += count
            ages[model] = max(ages[model], group.oldest_seconds or 0.0)
        _replace(self.queue_turns, by_priority)
        _replace(self.queue_turns_by_model, by_model)
        _replace(self.queue_oldest_seconds, {(model,): age for model, age in ages.items()})

    def note_workers(self, workers: Iterable[KnownWorker]) -> None:
        """Set the metrics of the workers."""
        alive = [worker for worker in workers if worker.alive]
        states = [worker.state for worker in alive if worker.state]
        versions = Counts((worker.state.version if worker.state else "unknown",) for worker in alive)
        used, slots = sum(state.in_flight for state in states), sum(state.capacity for state in states)
        _replace(self.workers, versions)
        _replace(self.worker_slots, {("used",): used, ("free",): max(0, slots - used)})

    def note_lags(self, lags: Mapping[tuple[str, str], float]) -> None:
        """Set the lag of each topic and partition."""
        _replace(self.topic_lag, lags)


def _replace(gauge: Gauge, values: Mapping[_Labels, float]) -> None:
    """Give a metric exactly these series."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
