"""Metrics of a gateway."""

from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from math import nan
from typing import TypeVar

from prometheus_client import Gauge

from orchestra.store.leases import KnownWorker
from orchestra.store.models import by_name, named
from orchestra.store.queue import Depth
from orchestra.store.worker_state import MAX_PARTITIONS
from orchestra.telemetry.metrics import OTHER, Label, Registry
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode
from schemas.events import EVENT_TYPES
from schemas.generation import ModelInfo
from schemas.requests import DOORS, RECORD_TYPES
from schemas.topics import TOPICS

_ACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_QUEUE_STATES = ("runnable", "held", "paused", "delayed")
_PARTS = ("kafka", "database", "events", "process", "intake", "files")
_Labels = TypeVar("_Labels", bound=tuple[str, ...])


class Metrics:
    """The gateway's metrics, in their own registry."""

    def __init__(self) -> None:
        self.registry = registry = Registry()
        self._models = model = Label("model", of="the models of the LLM service, by name, whatever alias was given")
        self._by_name: Mapping[str, ModelInfo] = {}
        self._topics = topic = Label("topic", of="our own topics, and those of the tenant `default`")
        self._versions = version = Label("version", of="the releases of the workers")
        partition = Label("partition", map(str, range(MAX_PARTITIONS)), of="numbers below 1,000")
        priority = Label("priority", map(str, range(10)), of="0 to 9")
        state = Label("state", _QUEUE_STATES)
        self.accepted = registry.counter(
            "orchestra_gateway_accepted",
            "Records acknowledged by Kafka, by type.",
            Label("type", RECORD_TYPES, of="what [llm.requests](topics.md) carries"),
        )
        self.accepted_requests = registry.counter(
            "orchestra_gateway_accepted_requests",
            "Requests acknowledged by Kafka, by API: messages, tasks, chat or responses.",
            Label("door", DOORS),
        )
        self.problems = registry.counter(
            "orchestra_gateway_problems",
            "Problem documents returned, by code.",
            Label("code", ErrorCode, of="[error codes](errors.md)"),
        )
        self.ack_seconds = registry.histogram(
            "orchestra_gateway_ack_seconds",
            "Time until Kafka acknowledged a record, including late ones.",
            buckets=_ACK_SECONDS,
        )
        self.late_acks = registry.counter(
            "orchestra_gateway_late_acks", "Records acknowledged after the client got a 503."
        )
        self.pending_sends = registry.gauge("orchestra_gateway_pending_sends", "Records in flight to Kafka.")
        self.waits = registry.gauge("orchestra_gateway_waits", "Calls waiting for a reply.")
        self.wait_seconds = registry.histogram(
            "orchestra_gateway_wait_seconds", "Time that calls waited for a reply.", buckets=_WAIT_SECONDS
        )
        self.disconnect_cancels = registry.counter(
            "orchestra_gateway_disconnect_cancels", "Requests cancelled because their clients disconnected."
        )
        self.streams = registry.gauge("orchestra_gateway_streams", "Open streams.")
        self.events = registry.counter(
            "orchestra_gateway_events",
            "Records of llm.events read, by type.",
            Label("type", EVENT_TYPES, of="what [llm.events](topics.md) carries"),
        )
        self.events_skipped = registry.counter(
            "orchestra_gateway_events_skipped", "Malformed records of llm.events, skipped."
        )
        self.events_stale = registry.counter(
            "orchestra_gateway_events_stale", "Events of an outdated attempt, or repeated ones, skipped."
        )
        self.events_unsigned = registry.counter(
            "orchestra_gateway_events_unsigned", "Events without a valid signature of a worker."
        )
        self.events_lag = registry.gauge("orchestra_gateway_events_lag", "Records of llm.events not read yet.")
        self.live_requests = registry.gauge(
            "orchestra_gateway_live_requests", "Open requests whose events are in memory."
        )
        self.live_bytes = registry.gauge("orchestra_gateway_live_bytes", "Bytes of text of open requests in memory.")
        self.texts_dropped = registry.counter(
            "orchestra_gateway_texts_dropped", "Texts of open requests dropped because of the memory limit."
        )
        self.queue_age_seconds = registry.gauge(
            "orchestra_gateway_queue_age_seconds",
            "How long the oldest turn that a worker could take now has waited. NaN: Postgres cannot be read.",
        )
        self.queue_age_seconds.set(nan)
        self.live_viewers = registry.gauge("orchestra_gateway_live_viewers", "Open streams of GET /v1/live.")
        self.parts_ready = registry.gauge(
            "orchestra_gateway_part_ready",
            "Whether a part of this gateway works (1) or /readyz reports a problem with it (0).",
            Label("part", _PARTS),
        )
        self.queue_turns = registry.gauge(
            "orchestra_queue_turns",
            "Turns that are due (`runnable`, including those `held` back by a model that refuses calls and those "
            "`paused` by an operator) or not due yet (`delayed`), up to 500 of each priority. The same at every "
            "gateway: take the maximum.",
            priority,
            state,
        )
        self.queue_turns_by_model = registry.gauge(
            "orchestra_queue_model_turns", "The same turns by model. The same at every gateway.", model, state
        )
        self.queue_oldest_seconds = registry.gauge(
            "orchestra_queue_oldest_seconds",
            "How long the oldest of these turns that a worker could take now has waited, by model. The same at "
            "every gateway.",
            model,
        )
        self.models_held = registry.gauge(
            "orchestra_models_held",
            "How many workers hold back a model because it refuses all calls, by model. The same at every gateway.",
            model,
        )
        self.workers = registry.gauge(
            "orchestra_workers", "Workers with a valid lease, by release. The same at every gateway.", version
        )
        self.worker_slots = registry.gauge(
            "orchestra_worker_slots",
            "Slots of all workers, by whether they are `used` or `free`. Those that a drained worker does not use are "
            "neither. The same at every gateway.",
            Label("state", ("used", "free")),
        )
        self.dead_letters_open = registry.gauge(
            "orchestra_dead_letters_open",
            "Dead letters that were not replayed, up to 1,000. The same at every gateway.",
        )
        self.topic_lag = registry.gauge(
            "orchestra_topic_lag_records",
            "Unread records of a partition, as the distance from the workers' offset to its end. The API's `unread` is "
            "the sum. The same at every gateway.",
            topic,
            partition,
        )
        self.forget()

    def forget(self) -> None:
        """Show nothing of the queue, the workers and the dead letters: what was seen last may no longer be true."""
        for gauge in (
            self.queue_turns, self.queue_turns_by_model, self.queue_oldest_seconds,
            self.models_held, self.workers, self.worker_slots,
        ):  # fmt: skip
            gauge.clear()
        self.dead_letters_open.set(nan)

    def forget_lags(self) -> None:
        """Show no lag: what was seen last may no longer be true."""
        self.topic_lag.clear()

    def note_parts(self, ready: Mapping[str, bool]) -> None:
        """Set which parts of this gateway work, by their names on ``/readyz``."""
        for part, works in ready.items():
            self.parts_ready.labels(part).set(works)

    def note_models(self, known: Iterable[ModelInfo]) -> None:
        """Name these models of the LLM service from now on."""
        self._by_name = by_name(known)
        self._models.values = frozenset(model.name for model in self._by_name.values())

    def note_queue(self, depth: Depth) -> None:
        """Set the metrics of the queue. Where nothing waits they are 0, so that an empty queue is no unknown one."""
        by_priority = Counts(dict.fromkeys(product(map(str, range(10)), _QUEUE_STATES), 0))
        by_model = Counts(dict.fromkeys(product(self._models.values, _QUEUE_STATES), 0))
        ages = defaultdict(float, {(name,): 0.0 for name in self._models.values})
        for group in depth.groups:
            model = self._model(group.model)
            for state in _QUEUE_STATES:
                by_priority[str(group.priority), state] += getattr(group, state)
                by_model[model, state] += getattr(group, state)
            ages[model,] = max(ages[model,], group.oldest_seconds or 0.0)
        _replace(self.queue_turns, by_priority)
        _replace(self.queue_turns_by_model, by_model)
        _replace(self.queue_oldest_seconds, ages)

    def note_workers(self, workers: Iterable[KnownWorker]) -> None:
        """Set the metrics of the workers."""
        alive = [worker for worker in workers if worker.alive]
        states = [worker.state for worker in alive if worker.state]
        held = Counts(
            (self._model(each.model),) for state in states for each in state.models if each.held_seconds is not None
        )
        versions = Counts((worker.state.version if worker.state else "unknown",) for worker in alive)
        takers = [worker.state for worker in alive if worker.state and not worker.drains]
        free = sum(max(0, state.capacity - state.in_flight) for state in takers)
        self._versions.values = frozenset(version for (version,) in versions)
        _replace(self.models_held, {**{(name,): 0 for name in self._models.values}, **held})
        _replace(self.workers, versions)
        _replace(self.worker_slots, {("used",): sum(state.in_flight for state in states), ("free",): free})

    def note_lags(self, lags: Mapping[tuple[str, str], float], workers: Iterable[KnownWorker]) -> None:
        """Set the lag of each topic and partition. ``workers``: they report the tenants of their topics."""
        reported = [each for worker in workers if worker.state for each in worker.state.topics]
        shared = {each.topic for each in reported if each.tenant == DEFAULT_TENANT}
        self._topics.values = frozenset(shared.union(topic.name for topic in TOPICS))
        _replace(self.topic_lag, lags)

    def _model(self, name: str) -> str:
        """The name by which the LLM service lists a model."""
        return found.name if (found := named(self._by_name, name)) else OTHER


def _replace(gauge: Gauge, values: Mapping[_Labels, float]) -> None:
    """Give a metric exactly these series; those that its labels show as one are added up."""
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).inc(value)
