"""Every metric of a worker."""

from collections.abc import Mapping

from prometheus_client import Counter, Histogram

from orchestra.telemetry.metrics import Label, Registry
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode

_KINDS = ("NewRequest", "Cancel", "Delete", "DeadLetter")
_OUTCOMES = ("Completed", "RetryLater", "Failed", "Expired", "Cancelled", "Interrupted", "LeaseLost")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one worker, in their own registry."""

    def __init__(self) -> None:
        self.registry = Registry()
        self._topics = Label("topic", of="the topics of the tenant `default`")
        self.records = self._counter("records_total", "Records taken in", Label("kind", _KINDS))
        self.dead_letters = self._counter(
            "dead_letters_total",
            "Records that became dead letters",
            Label("reason", ErrorCode, of="[error codes](errors.md)"),
        )
        self.erased = self._counter("erased_records_total", "Records of erased owners, which were not taken in")
        self.duplicates = self._counter("duplicate_records_total", "Records whose request already existed")
        self.partition_mismatch = self._counter(
            "partition_mismatch_total", "Records on another partition than the murmur2 hash of their key gives"
        )
        self.log_gap = self._counter("log_gap_records_total", "Records that retention deleted before they were read")
        self.claimed = self._counter("claimed_total", "Turns claimed")
        self.outcomes = self._counter("attempts_total", "Attempts by outcome", Label("outcome", _OUTCOMES))
        self.fenced = self._counter("fenced_endings_total", "Endings discarded because their fence was no longer valid")
        self.leases_lost = self._counter("leases_lost_total", "Leases that this worker lost")
        self.workers_lost = self._counter("workers_lost_total", "Other workers whose expired lease this worker revoked")
        self.republished = self._counter("replies_republished_total", "Replies published again by the sweeper")
        self.deltas_dropped = self._counter("deltas_dropped_total", "Events dropped because Kafka was unavailable")
        self.stalled_partitions = self.registry.gauge(
            "orchestra_worker_stalled_partitions", "Partitions blocked by a producer's open transaction"
        )
        self.topic_held = self.registry.gauge(
            "orchestra_worker_topic_held",
            "How many topics this worker does not read because they yielded only dead letters: 0 or 1 for a named one",
            self._topics,
        )
        self.in_flight = self.registry.gauge("orchestra_worker_in_flight", "Turns in flight in this worker")
        self.queue_seconds = self._histogram("queue_seconds", "Seconds from when a turn becomes runnable to its claim")
        self.first_delta_seconds = self._histogram(
            "first_delta_seconds", "Seconds from the start of an attempt to its first piece of text"
        )
        self.attempt_seconds = self._histogram("attempt_seconds", "Seconds from a claim to its outcome")

    def name_topics(self, tenants: Mapping[str, str]) -> None:
        """Name the topics of the tenant ``default`` among these. ``tenants``: the tenant of each topic that is read."""
        self._topics.values = frozenset(topic for topic, tenant in tenants.items() if tenant == DEFAULT_TENANT)

    def _counter(self, name: str, what: str, *labels: Label) -> Counter:
        return self.registry.counter(f"orchestra_worker_{name}", what, *labels)

    def _histogram(self, name: str, what: str) -> Histogram:
        return self.registry.histogram(f"orchestra_worker_{name}", what, buckets=_SECONDS)
