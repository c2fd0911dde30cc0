"""The records of ``llm.dead-letters``: the original bytes and headers of a record, plus these headers."""

from schemas.errors import ErrorCode
from schemas.topics import MAX_HEADERS

REASON = "dlq-reason"
DETAIL = "dlq-detail"
TOPIC = "dlq-topic"
PARTITION = "dlq-partition"
OFFSET = "dlq-offset"

RawHeaders = list[tuple[str, bytes | None]]


def dead_letter_headers(
    headers: RawHeaders, reason: ErrorCode, detail: str, topic: str, partition: int, offset: int
) -> RawHeaders:
    """The headers of a dead letter: the original ones, then the reason and the original position.

    Original headers beyond the maximum of a record are dropped.
    """
    ours: RawHeaders = [
        (REASON, reason.value.encode()),
        (DETAIL, detail.encode()),
        (TOPIC, topic.encode()),
        (PARTITION, str(partition).encode()),
        (OFFSET, str(offset).encode()),
    ]
    return [*headers[: MAX_HEADERS - len(ours)], *ours]
