"""Topics and their records, as operators see them."""

import base64
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas import fields
from schemas.json_schema import described
from schemas.requests import Moment

_TOPIC = described("Name of the topic.", "llm.requests")
_PARTITION = described("Number of the partition.", 7)


class PartitionState(BaseModel):
    """How far a partition has been written and read."""

    partition: Annotated[int, _PARTITION]
    start: Annotated[int, described("The first offset that is kept.", 0)]
    end: Annotated[int, described("The offset of the next record.", 1042)]
    read: Annotated[
        int | None,
        described("The next offset that workers read; null: they have read nothing of this topic.", 1040),
    ]
    lag: Annotated[
        int | None,
        described("Records that no worker has read; null: workers do not read this topic.", 2),
    ]
    read_up_to: Annotated[
        datetime | None, described("Every record up to this time has been read.", "2026-01-31T11:59:58Z")
    ]
    last_record_at: Annotated[
        datetime | None,
        described(
            "When the last record was written; null: there is none, or Kafka did not return it in time.",
            "2026-01-31T11:59:57Z",
        ),
    ]


class TopicState(BaseModel):
    """A topic and its partitions."""

    topic: Annotated[str, _TOPIC]
    lag: Annotated[int | None, described("Records that no worker has read; null: workers do not read it.", 2)]
    partitions: Annotated[list[PartitionState], described("Its partitions.")]


class TopicList(BaseModel):
    """The topics that exist, of those that workers read and those of the system."""

    data: Annotated[list[TopicState], described("The topics, those that workers read first.")]


class RecordQuery(BaseModel):
    """The query of a list of records. Without ``offset`` and ``at``: the newest ones."""

    model_config = ConfigDict(extra="forbid")

    offset: Annotated[
        Annotated[int, Field(ge=0, le=2**63 - 1)] | None,
        described("Start at this offset, or the first after it.", 1000),
    ] = None
    at: Annotated[
        Moment | None, described("Start at the first record of this time or later.", "2026-01-31T11:00:00Z")
    ] = None
    limit: Annotated[int, Field(ge=1, le=100), fields.LIMIT] = 20


class HeaderOfRecord(BaseModel):
    """A header of a record."""

    name: Annotated[str, described("Its name.", "ce_type")]
    value: Annotated[
        str | None, described("Its value, if it is UTF-8; null if there is none.", "llm.message.requested")
    ]
    value_base64: Annotated[str | None, described("Its value in base64, if it is not UTF-8.", "/w==")] = None


class TopicRecord(BaseModel):
    """A record as it is in Kafka. Of another tenant's records only the position, the time and the sizes are shown."""

    offset: Annotated[int, described("Its offset.", 1000)]
    at: Annotated[datetime, described("Its timestamp.", "2026-01-31T11:59:57Z")]
    shown: Annotated[bool, described("Whether it belongs to the caller's tenant. If not, its content is null.", True)]
    key: Annotated[str | None, described("Its key, if it is UTF-8.", fields.A_CONVERSATION)]
    key_base64: Annotated[str | None, described("Its key in base64, if it is not UTF-8.", "/w==")]
    format: Annotated[
        Literal["json", "text", "base64", "none", "unread"],
        described("What `value` is; `unread`: the value is too large to unpack, and `value` says why.", "json"),
    ]
    value: Annotated[str | None, described("The first 16 KiB of the value, as text or in base64.", '{"messages": []}')]
    value_bytes: Annotated[int | None, described("Length of the whole value in bytes; null: there is none.", 212)]
    cut: Annotated[bool, described("Whether the value or the headers are truncated.", False)]
    headers: Annotated[list[HeaderOfRecord] | None, described("Its headers, up to 100.")]
    request_id: Annotated[
        UUID | None, described("The request that it names or became; null: unknown.", fields.A_REQUEST)
    ]


class RecordList(BaseModel):
    """Records of one partition, in order."""

    topic: Annotated[str, _TOPIC]
    partition: Annotated[int, _PARTITION]
    start: Annotated[int, described("The first offset that is kept.", 0)]
    end: Annotated[int, described("The offset of the next record.", 1042)]
    data: Annotated[list[TopicRecord], described("The records.")]
    next: Annotated[int | None, described("The `offset` of the following page; null at the end.", 1020)]


def text_or_base64(data: bytes | None) -> tuple[str | None, str | None]:
    """Bytes as text if they are UTF-8, otherwise as base64."""
    if data is None:
        return None, None
    try:
        return data.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(data).decode()
