"""The topics: what is on them, how they are keyed and kept. `orchestra topics` makes and checks them from here."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""How long the value of a record may be."""
MAX_MESSAGE_BYTES = MAX_RECORD_BYTES + 64 * 1024
"""How long a record may be with its key and headers: as Kafka takes it, and unpacked."""
MAX_HEADERS = 1_000
"""How many headers a record may have."""
MAX_BATCH_BYTES = 64 * 1024 * 1024
"""How much of one batch is unpacked."""
MAX_BATCH_RECORDS = 100_000
"""How many records of one batch are read."""


@dataclass(frozen=True)
class Topic:
    """One topic. ``config`` holds the settings that must be exactly so; ``retention_ms`` is a least value."""

    name: str
    key: str
    carries: tuple[str, ...]
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    retention_ms: int
    partitions: int = 32
    timestamps: str = "CreateTime"

    @property
    def config(self) -> dict[str, str]:
        """The settings of the topic that must be exactly so."""
        return {
            "cleanup.policy": "delete",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
            "unclean.leader.election.enable": "false",
            "message.timestamp.type": self.timestamps,
        }


REQUESTS = Topic(
    name="llm.requests",
    key="conversation id",
    carries=("llm.message.requested", "llm.cancel.requested", "llm.conversation.delete.requested"),
    written_by=("gateway", "producers"),
    read_by=("workers",),
    retention_ms=7 * DAY_MS,
    # The broker's time grows with the offset, whatever clock a producer has: it tells how far intake has read.
    timestamps="LogAppendTime",
)
EVENTS = Topic(
    name="llm.events",
    key="request id",
    carries=tuple(
        f"llm.request.{kind}" for kind in ("started", "delta", "restart", "completed", "failed", "cancelled", "expired")
    ),
    written_by=("workers",),
    read_by=("gateway",),
    retention_ms=60 * 60 * 1000,
)
REPLIES = Topic(
    name="llm.replies",
    key="conversation id",
    carries=("llm.reply",),
    written_by=("workers",),
    read_by=("consumers",),
    retention_ms=7 * DAY_MS,
)
DEAD_LETTERS = Topic(
    name="llm.dead-letters",
    key="as it came",
    carries=("the record as it came",),
    written_by=("workers",),
    read_by=("operators",),
    retention_ms=30 * DAY_MS,
)
TOPICS = (REQUESTS, EVENTS, REPLIES, DEAD_LETTERS)
