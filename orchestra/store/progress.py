"""How far intake has read each partition, so that a gateway can tell "not there yet" from "never existed"."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from orchestra.store.database import Database, as_json


@dataclass(frozen=True)
class IntakeProgress:
    """Every record of this partition up to the time ``read_up_to`` and before ``next_offset`` is in Postgres."""

    topic: str
    partition: int
    next_offset: int
    read_up_to: datetime


_NOTE = """
INSERT INTO intake_progress AS i (topic, partition, next_offset, read_up_to)
SELECT p.topic, p.partition, p.next_offset, least(p.read_up_to, now())
FROM json_to_recordset(CAST(:rows AS json)) AS p(
    topic text, partition integer, next_offset bigint, read_up_to timestamptz
)
ORDER BY p.topic, p.partition
ON CONFLICT (topic, partition) DO UPDATE SET
    next_offset = greatest(i.next_offset, excluded.next_offset),
    read_up_to = greatest(i.read_up_to, excluded.read_up_to)
"""

# No topic has a colon in its name. A row with one is not the mark of a partition: it says when a worker last reported
# a standstill, with the reason before the colon and the topic after it.
_STANDSTILLS = """
SELECT split_part(topic, ':', 1) AS why, split_part(topic, ':', 2) AS topic FROM intake_progress
WHERE topic LIKE '%:%' AND read_up_to > now() - interval '15 seconds' ORDER BY topic
"""

# Workers note their marks every few seconds. A request is in Postgres before that, and all records before its own. One
# that is older than the mark has a higher offset only if the topic was created again since: it says nothing.
_ALL = """
SELECT i.topic, i.partition, greatest(i.next_offset, r.src_offset + 1) AS next_offset, i.read_up_to
FROM intake_progress i LEFT JOIN LATERAL (
    SELECT src_offset, src_timestamp FROM requests WHERE src_topic = i.topic AND src_partition = i.partition
    ORDER BY src_offset DESC LIMIT 1
) AS r ON r.src_timestamp >= floor(1000 * extract(epoch FROM i.read_up_to))
WHERE i.topic NOT LIKE '%:%' ORDER BY i.topic, i.partition LIMIT 10000
"""
_MARKS = "SELECT topic, partition, next_offset FROM intake_progress WHERE topic NOT LIKE '%:%'"
_OLDEST = "SELECT min(read_up_to) AS read_up_to, now() AS now FROM intake_progress WHERE topic = :topic"


async def progress(database: Database) -> list[IntakeProgress]:
    """The marks of every partition that workers have read, by topic and partition."""
    return [IntakeProgress(**row) for row in await database.run(_ALL)]


async def next_offsets(database: Database) -> dict[tuple[str, int], int]:
    """The offset up to which each partition is noted to be read, by topic and partition."""
    return {(row.topic, row.partition): row.next_offset for row in await database.run(_MARKS)}


async def note_progress(database: Database, progress: Sequence[IntakeProgress]) -> None:
    """Move the marks of these partitions; a mark never moves back."""
    rows = [
        {
            "topic": mark.topic,
            "partition": mark.partition,
            "next_offset": mark.next_offset,
            "read_up_to": mark.read_up_to.isoformat(),
        }
        for mark in progress
    ]
    if rows:
        await database.run(_NOTE, rows=as_json(rows))


_LOWER = """
UPDATE intake_progress i SET next_offset = p.next_offset
FROM json_to_recordset(CAST(:rows AS json)) AS p(topic text, partition integer, next_offset bigint)
WHERE i.topic = p.topic AND i.partition = p.partition AND i.next_offset > p.next_offset
"""


async def lower(database: Database, progress: Sequence[IntakeProgress]) -> None:
    """Move the offsets of these partitions back: their records are read again."""
    rows = [{"topic": mark.topic, "partition": mark.partition, "next_offset": mark.next_offset} for mark in progress]
    await database.run(_LOWER, rows=as_json(rows))


class Why(StrEnum):
    """Why a topic stands still."""

    HELD = "held"
    """Every record becomes a dead letter, so the topic is not read for now."""
    STALLED = "stalled"
    """A producer has a transaction open: Kafka delivers nothing after its first record until it ends."""


class Standstill(NamedTuple):
    """A topic from which some worker reads nothing."""

    why: Why
    topic: str

    @property
    def mark(self) -> IntakeProgress:
        """The row that a worker writes every few seconds meanwhile."""
        # Postgres cuts the time to `now()`.
        return IntakeProgress(f"{self.why}:{self.topic}", 0, 0, datetime.max.replace(tzinfo=UTC))


async def standstills(database: Database) -> list[Standstill]:
    """The topics that stand still."""
    return [Standstill(Why(row.why), row.topic) for row in await database.run(_STANDSTILLS)]


async def read_up_to(database: Database, topic: str) -> datetime | None:
    """The time up to which every partition of the topic has been read. None if nothing has been read yet."""
    rows = await database.run(_OLDEST, topic=topic)
    moment: datetime | None = rows[0].read_up_to
    return moment
