"""Topics as operators see them: how far they are read, and their records. Never a member of a consumer group."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import TopicPartition

from gateway.metrics import Metrics
from gateway.timings import TIMINGS, Timings
from orchestra.kafka.clients import KAFKA_ERRORS
from orchestra.loops import keep_running
from orchestra.store import leases, progress
from orchestra.store.database import SLOW, Database, DatabaseUnavailableError
from orchestra.store.leases import KnownWorker
from orchestra.store.progress import IntakeProgress
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import REQUESTS, TOPICS

OpenBrowser = Callable[[], AbstractAsyncContextManager[Any]]

# Readers of records at once; others wait for one of them for at most _WAIT_SECONDS.
_MAX_READERS = 3
_WAIT_SECONDS = 5.0
_READ_SECONDS = 5.0
_POLL_MS = 250
_MAX_BYTES = 4 * 1024 * 1024
_FRESH_SECONDS = 1.0
_RETRY_SECONDS = 1.0
_MAX_WORKERS = 500
# A measurement is discarded after this many intervals without a newer one.
_MAX_LOOKS_MISSED = 3
_MAX_MILLISECONDS = 253_402_300_799_000
_AWAY = "Kafka does not respond"
_OURS = frozenset(topic.name for topic in TOPICS)


@dataclass(frozen=True)
class Ends:
    """The first kept offset and the next offset of a partition."""

    start: int
    end: int


@dataclass(frozen=True)
class Looked:
    """The ends of every partition of our topics, and how far workers have read, at one time."""

    at: float
    ends: dict[TopicPartition, Ends]
    marks: dict[TopicPartition, IntakeProgress]


@dataclass(frozen=True)
class Browsed:
    """Records of one partition; ``next``: where the following ones begin, None at the end."""

    ends: Ends
    records: Sequence[Any]
    next: int | None


class Topics:
    """Looks at topics with consumers that belong to no group. ``open_browser`` returns a started one."""

    def __init__(
        self, open_browser: OpenBrowser, database: Database, metrics: Metrics, timings: Timings = TIMINGS
    ) -> None:
        self._open_browser = open_browser
        self._database = database
        self._metrics = metrics
        self._timings = timings
        self._readers = asyncio.Semaphore(_MAX_READERS)
        # The end of each partition, and when its last record was written: as long as the end stays, so does that.
        self._last: dict[TopicPartition, tuple[int, datetime | None]] = {}
        self._reading = asyncio.Lock()
        self._consumer: Any = None
        self._looking = asyncio.Lock()
        self._looked: Looked | None = None
        # What to say if a look takes too long: by what it waits for.
        self._late = _AWAY

    async def run(self) -> None:
        """Measure the lag until cancelled, with a new consumer whenever one fails."""
        await keep_running(self._measure, "topics_not_measured", expected=(*KAFKA_ERRORS, DatabaseUnavailableError))

    async def look(self) -> Looked:
        """The ends and marks as of now. Raises ``UNAVAILABLE``, ``DatabaseUnavailableError``."""
        try:
            async with asyncio.timeout(_READ_SECONDS), self._looking:
                if self._looked and time.monotonic() - self._looked.at < _FRESH_SECONDS:
                    return self._looked
                if self._consumer is None:
                    raise OrchestraError(ErrorCode.UNAVAILABLE, _AWAY, retry_after=_RETRY_SECONDS)
                return await self._look(self._consumer)
        except KAFKA_ERRORS:  # Among them are timeouts.
            raise OrchestraError(ErrorCode.UNAVAILABLE, self._late, retry_after=_RETRY_SECONDS) from None

    @property
    def unread(self) -> int | None:
        """How many records no worker has read, as last measured; None: that was too long ago."""
        found = self._looked
        if found is None or time.monotonic() - found.at > _MAX_LOOKS_MISSED * self._timings.measure + _READ_SECONDS:
            return None
        return sum(lags(found).values())

    async def tenant_of(self, topic: str) -> str | None:
        """The tenant of a topic's records that do not name one; None if its records always do, or it is unknown."""
        for worker in await leases.every(self._database, _MAX_WORKERS):
            for each in worker.state.topics if worker.state else ():
                if each.topic == topic:
                    return each.tenant
        return DEFAULT_TENANT if topic == REQUESTS.name else None

    async def last_times(self, looked: Looked) -> dict[TopicPartition, datetime]:
        """When the last record of each partition was written, as far as that can be read in time.

        It is read once for all who ask, and only of partitions that have grown. Raises ``UNAVAILABLE``,
        ``TOO_MANY_CALLS``.
        """
        async with _turn(self._reading):
            filled = {place: ends for place, ends in looked.ends.items() if ends.end > ends.start}
            known = {
                place: at for place, (end, at) in self._last.items() if place in filled and filled[place].end == end
            }
            if grown := {place: ends for place, ends in filled.items() if place not in known}:
                known |= await self._last_times(grown)
            self._last = {place: (filled[place].end, at) for place, at in known.items()}
            return {place: at for place, at in known.items() if at}

    async def _last_times(self, wanted: Mapping[TopicPartition, Ends]) -> dict[TopicPartition, datetime | None]:
        """When the last record of each was written; None if the last offset is a transaction marker."""
        found: dict[TopicPartition, datetime | None] = {}
        async with self._reader() as consumer:
            consumer.assign(list(wanted))
            for place, ends in wanted.items():
                consumer.seek(place, ends.end - 1)
            limit = time.monotonic() + _READ_SECONDS / 2
            while len(found) < len(wanted) and time.monotonic() < limit:
                for place, records in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    found[place] = moment(records[-1].timestamp)
                    consumer.pause(place)
                for place in wanted.keys() - found.keys():
                    if await consumer.position(place) >= wanted[place].end:
                        found[place] = None
        return found

    async def browse(self, place: TopicPartition, offset: int | None, at: datetime | None, limit: int) -> Browsed:
        """Up to ``limit`` records of a partition, from this offset or time on; without both, the newest.

        What is read is bounded in time and bytes, so fewer may come. Raises ``NOT_FOUND`` if there is no such
        partition, ``UNAVAILABLE``, ``TOO_MANY_CALLS``.
        """
        looked = await self.look()
        if place not in looked.ends:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        async with self._reader() as consumer:
            consumer.assign([place])
            ends = (await _ends_of(consumer, [place]))[place]
            begin = await _begin(consumer, place, ends, offset, at, limit)
            records, following = await _read(consumer, place, ends, begin, limit)
            return Browsed(ends, records, following if following < ends.end else None)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Any]:
        async with _turn(self._readers), _kafka(2 * _READ_SECONDS), self._open_browser() as consumer:
            yield consumer

    async def _look(self, consumer: Any) -> Looked:
        known = {place.topic for place in (self._looked.marks if self._looked else ())} | _OURS
        # The ends first: what is written and read meanwhile does not look unread.
        self._late = _AWAY
        ends = await _ends(consumer, known)
        self._late = SLOW
        read = await progress.progress(self._database)
        self._late = _AWAY
        marks = {TopicPartition(mark.topic, mark.partition): mark for mark in read}
        if new := {place.topic for place in marks} - known:
            ends |= await _ends(consumer, new)
        self._looked = Looked(time.monotonic(), ends, marks)
        return self._looked

    async def _measure(self) -> None:
        async with self._open_browser() as consumer:
            self._consumer = consumer
            try:
                while True:
                    workers = await leases.every(self._database, _MAX_WORKERS)
                    async with self._looking:
                        self._note(await self._look(consumer), workers)
                    await asyncio.sleep(self._timings.measure)
            finally:
                self._consumer = None
                self._metrics.forget_lags()

    def _note(self, looked: Looked, workers: Sequence[KnownWorker]) -> None:
        found = {(place.topic, str(place.partition)): behind for place, behind in lags(looked).items()}
        self._metrics.note_lags(found, workers)


def lags(looked: Looked) -> dict[TopicPartition, int]:
    """Offsets between what workers have read and the end, of each partition of the topics that they read.

    Of `llm.requests` these are all records until a worker has read some.
    """
    return {
        place: max(0, ends.end - max(mark.next_offset if mark else 0, ends.start))
        for place, ends in looked.ends.items()
        if (mark := looked.marks.get(place)) or place.topic == REQUESTS.name
    }


@asynccontextmanager
async def _turn(room: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
    """Wait for room, and raise ``TOO_MANY_CALLS`` if there is none in time."""
    try:
        async with asyncio.timeout(_WAIT_SECONDS):
            await room.acquire()
    except TimeoutError:
        raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS) from None
    try:
        yield
    finally:
        room.release()


@asynccontextmanager
async def _kafka(seconds: float) -> AsyncIterator[None]:
    """Raise ``UNAVAILABLE`` if Kafka fails, or takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except KAFKA_ERRORS:  # Among them are timeouts.
        raise OrchestraError(ErrorCode.UNAVAILABLE, _AWAY, retry_after=_RETRY_SECONDS) from None


async def _ends(consumer: Any, topics: Iterable[str]) -> dict[TopicPartition, Ends]:
    # What the consumer itself knows is up to 30 s old, and nothing at its start; its `topics()` only returns names.
    cluster = await consumer._client.fetch_all_metadata()  # noqa: SLF001
    places = [TopicPartition(topic, n) for topic in topics for n in sorted(cluster.partitions_for_topic(topic) or ())]
    return await _ends_of(consumer, places)


async def _ends_of(consumer: Any, places: Sequence[TopicPartition]) -> dict[TopicPartition, Ends]:
    starts, ends = await asyncio.gather(consumer.beginning_offsets(places), consumer.end_offsets(places))
    return {place: Ends(starts[place], ends[place]) for place in places}


async def _begin(
    consumer: Any, place: TopicPartition, ends: Ends, offset: int | None, at: datetime | None, limit: int
) -> int:
    if at is not None:
        found = (await consumer.offsets_for_times({place: max(0, int(at.timestamp() * 1000))}))[place]
        offset = found.offset if found else ends.end
    return max(ends.start, ends.end - limit if offset is None else offset)


async def _read(consumer: Any, place: TopicPartition, ends: Ends, begin: int, limit: int) -> tuple[list[Any], int]:
    """The records from ``begin`` on, and where the next one begins."""
    records: list[Any] = []
    if begin >= ends.end:
        return records, begin
    consumer.seek(place, begin)
    until, bytes = time.monotonic() + _READ_SECONDS, 0
    while len(records) < limit and bytes < _MAX_BYTES and time.monotonic() < until:
        polled = await consumer.getmany(place, timeout_ms=_POLL_MS, max_records=limit - len(records))
        for record in polled.get(place, ()):
            records.append(record)
            bytes += len(record.value or b"")
        if await consumer.position(place) >= ends.end:
            break
    # The position also passes offsets without a record, such as a transaction's marker.
    return records, records[-1].offset + 1 if len(records) == limit else await consumer.position(place)


def moment(milliseconds: int) -> datetime:
    """The time of a record, which a producer may choose freely; within what can be written as a date."""
    return datetime.fromtimestamp(min(max(0, milliseconds), _MAX_MILLISECONDS) / 1000, UTC)
