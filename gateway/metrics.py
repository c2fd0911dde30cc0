"""Metrics of a gateway."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_ACK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_WAIT_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


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
