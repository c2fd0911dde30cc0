"""Fits Kafka and a restored database to each other: what it lacks is read again, and what was erased stays so.

The database itself says how far it has read each partition (`intake_progress`). Ids are receipts, so a record that is
read again changes nothing that the database has.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from pydantic import ValidationError

from orchestra.kafka.clients import GROUP, open_browser, open_committer, open_producer
from orchestra.kafka.erasures import write
from orchestra.kafka.topics import Admin
from orchestra.settings import KafkaSettings
from orchestra.signing import OwnerHasher
from orchestra.store import erasing, erasures, progress
from orchestra.store.database import Database
from orchestra.store.progress import IntakeProgress
from schemas.erasures import Erased
from schemas.topics import ERASURES, REQUESTS

_CLIENT_ID = "orchestra-rewind"
_SOURCE = "/orchestra/rewind"
_POLL_MS = 1000
_WITHOUT_MEMBERS = ("Empty", "Dead")


class WorkersRunError(Exception):
    """Workers read from Kafka now: they would go on where they are."""


@dataclass(frozen=True)
class Place:
    """Where workers read on in a partition, and how many records Kafka has from there on. ``was`` None: nowhere yet."""

    topic: str
    partition: int
    was: int | None
    now: int
    ahead: int


@dataclass(frozen=True)
class Rewound:
    """What was done. ``noted``: erasures that Kafka had and the database lacked; ``recorded``: those it lacked."""

    places: Sequence[Place]
    noted: int
    recorded: int


async def rewind(settings: KafkaSettings, database: Database, secrets: list[bytes], group: str = GROUP) -> Rewound:
    """Move the read positions of workers to where this database is, and bring both ledgers of erasures together.

    Owners whose erasure the database lacked have no access any more, before a gateway starts. Doing it again changes
    nothing more. Raises ``WorkersRunError``, ``DatabaseUnavailableError``, and ``aiokafka.errors.KafkaError``.
    """
    async with Admin(settings) as admin:
        if await admin.state_of_group(group) not in _WITHOUT_MEMBERS:
            raise WorkersRunError
        marks = {TopicPartition(mark.topic, mark.partition): mark for mark in await progress.progress(database)}
        # A topic without a mark was first read after the dump.
        read = {*marks, *await admin.client.list_consumer_group_offsets(group)}
        places = await admin.partitions({REQUESTS.name, *(place.topic for place in read)})
        ledger = await admin.partitions([ERASURES.name])
    noted, recorded = await _bring_together(settings, database, ledger)
    await erasing.end_access(database, OwnerHasher(secrets))
    return Rewound(await _move(settings, database, group, marks, places), noted, recorded)


async def _move(
    settings: KafkaSettings, database: Database, group: str, marks: Mapping[TopicPartition, IntakeProgress],
    places: Sequence[TopicPartition],
) -> list[Place]:  # fmt: skip
    async with open_committer(settings, _CLIENT_ID, group) as consumer:
        consumer.assign(places)
        starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        times = {place: int(mark.read_up_to.timestamp() * 1000) + 1 for place, mark in marks.items() if place in ends}
        later = await consumer.offsets_for_times(times) if times else {}
        before = {place: await consumer.committed(place) for place in places}
        now: dict[TopicPartition, int] = {}
        for place in places:
            first_later = later[place].offset if later.get(place) else ends[place]
            now[place] = min(ends[place], max(starts[place], _read_on(marks.get(place), first_later)))
        await consumer.commit(now)
    await progress.lower(
        database, [replace(marks[place], next_offset=at) for place, at in now.items() if place in marks]
    )
    return [Place(place.topic, place.partition, before[place], at, ends[place] - at) for place, at in now.items()]


def _read_on(mark: IntakeProgress | None, first_later: int) -> int:
    """The first record of a partition that the database may lack.

    ``first_later``: the first one that is later than all that the database has read. If it comes before the mark, the
    topic is not the one that was read: it was created again.
    """
    return min(mark.next_offset, first_later) if mark else 0


async def _bring_together(
    settings: KafkaSettings, database: Database, places: Sequence[TopicPartition]
) -> tuple[int, int]:
    """Note erasures that only Kafka has, and record those that only the database has. How many of each."""
    in_kafka = {erased.id: erased async for erased in _recorded(settings, places)}
    noted = await erasures.read_back(database, list(in_kafka.values()))
    missing = [each.record for each in (await erasures.ledger(database)).erasures if each.id not in in_kafka]
    if missing:
        await write(partial(open_producer, settings, _CLIENT_ID), missing, _SOURCE)
    return noted, len(missing)


async def _recorded(settings: KafkaSettings, places: Sequence[TopicPartition]) -> AsyncIterator[Erased]:
    async with open_browser(settings, _CLIENT_ID) as consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        await consumer.seek_to_beginning(*places)
        while [place for place in places if await consumer.position(place) < ends[place]]:
            polled: dict[Any, list[Any]] = await consumer.getmany(timeout_ms=_POLL_MS)
            for record in (record for batch in polled.values() for record in batch):
                try:
                    yield Erased.model_validate_json(record.value or b"")
                except ValidationError:
                    continue  # Of a later release, or not one of ours.
