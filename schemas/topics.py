"""The topics: their records, keys and retention. `orchestra topics` creates and checks them from this table."""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000
MAX_RECORD_BYTES = 2 * 1024 * 1024
"""Maximum length of a record's value."""
MAX_MESSAGE_BYTES = MAX_RECORD_BYTES + 64 * 1024
"""Maximum length of a record with its key and headers: as Kafka accepts it, and uncompressed."""
MAX_HEADERS = 1_000
"""Maximum number of headers of a record."""
MAX_BATCH_BYTES = 64 * 1024 * 1024
"""Maximum number of bytes of one batch that are decompressed."""
MAX_BATCH_RECORDS = 100_000
"""Maximum number of records of one batch that are read."""


@dataclass(frozen=True)
class Topic:
    """One topic. ``config`` has the settings that must match exactly.

    ``retention_ms`` is a minimum; -1: the last record of each key is kept forever.
    """

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
        """The settings of the topic that must match exactly."""
        return {
            "cleanup.policy": "compact" if self.retention_ms < 0 else "delete",
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
    # The broker's time grows with the offset, whatever a producer's clock: it shows how far intake has read.
    timestamps="LogAppendTime",
)
EVENTS = Topic(
    name="llm.events",
    key="request id",
    carries=tuple(
        f"llm.request.{kind}"
        for kind in ("started", "delta", "piece", "restart", "completed", "failed", "cancelled", "expired")
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
ERASURES = Topic(
    name="llm.erasures",
    key="erasure id",
    carries=("llm.owner.erased",),
    written_by=("workers",),
    read_by=("operators",),
    retention_ms=-1,
    partitions=1,
)
TOPICS = (REQUESTS, EVENTS, REPLIES, DEAD_LETTERS, ERASURES)
