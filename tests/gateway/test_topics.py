"""Promises of gateway/topics.py: what many ask at once is read from Kafka once, and who looks waits a bounded time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from gateway import topics
from gateway.metrics import Metrics
from gateway.timings import Timings
from gateway.topics import Ends, Looked, Topics, lags
from orchestra.kafka.clients import open_browser
from orchestra.store import leases, progress
from orchestra.store.progress import IntakeProgress
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import REPLIES, REQUESTS, TOPICS
from tests.support.fakes import Calls, running
from tests.support.stack import Stack
from tests.support.store import connect

EMPTY, FIRST, SECOND, COMMITTED = (TopicPartition("t", number) for number in range(4))


class Browser:
    """Consumers that each have one record of what they are assigned, written as many seconds after 1970 as its offset.

    The end of ``COMMITTED`` is that of a transaction, which is no record.
    ``read``: what each of them was assigned.
    """

    def __init__(self) -> None:
        self.read: list[set[TopicPartition]] = []
        self._next: dict[TopicPartition, int] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Any]:
        """A consumer."""
        yield self

    def assign(self, places: list[TopicPartition]) -> None:
        """As of a consumer, and so are the others."""
        self.read.append(set(places))

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._next[place] = offset

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        self._next.pop(COMMITTED, None)
        if not self._next:
            return {}
        place, offset = self._next.popitem()
        return {place: [SimpleNamespace(timestamp=1000 * offset)]}

    async def position(self, place: TopicPartition) -> int:
        return 7 if place == COMMITTED else 0

    def pause(self, place: TopicPartition) -> None:
        assert place not in self._next


def looked(**ends: int) -> Looked:
    """A look at partitions with these ends."""
    found = {FIRST: Ends(0, ends["first"]), SECOND: Ends(0, ends["second"]), EMPTY: Ends(3, 3), COMMITTED: Ends(0, 7)}
    return Looked(0.0, found, {})


def test_what_no_worker_has_read() -> None:
    """It is counted from the marks on, or from what is kept; without a mark only of the topic that all workers read."""
    ours = [TopicPartition(REQUESTS.name, number) for number in range(4)]
    other = TopicPartition(REPLIES.name, 0)
    ends = {ours[0]: Ends(2, 9), ours[1]: Ends(5, 9), ours[2]: Ends(0, 9), ours[3]: Ends(4, 9), other: Ends(0, 9)}
    marks = {
        ours[n]: IntakeProgress(REQUESTS.name, n, offset, datetime.now(UTC)) for n, offset in enumerate((7, 3, 10))
    }

    assert {ours[0]: 2, ours[1]: 4, ours[2]: 0, ours[3]: 5} == lags(Looked(0.0, ends, marks))


async def test_what_is_unread_is_known_while_kafka_responds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known before the first look, and nothing any more long after the last."""

    class Consumer:
        @property
        def _client(self) -> "Consumer":
            return self

        async def fetch_all_metadata(self) -> "Consumer":
            return self

        def partitions_for_topic(self, topic: str) -> set[int] | None:
            return {0} if topic == REQUESTS.name else None

        async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 1)

        async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
            return dict.fromkeys(places, 4)

    @asynccontextmanager
    async def browser() -> AsyncIterator[Any]:
        yield Consumer()

    monkeypatch.setattr(leases, "every", Calls([]))
    monkeypatch.setattr(progress, "progress", Calls([]))
    looking = Topics(browser, None, Metrics(), Timings(measure=0.0))  # type: ignore[arg-type]
    assert looking.unread is None
    async with running(looking.run()), asyncio.timeout(10):
        while looking.unread is None:
            await asyncio.sleep(0)
    assert 3 == looking.unread
    later = time.monotonic() + 60
    monkeypatch.setattr(topics, "time", SimpleNamespace(monotonic=lambda: later))
    assert looking.unread is None


async def test_last_records_are_read_once_for_all() -> None:
    """Fifty who ask at once cost one read; later only partitions that have grown are read again."""
    browser, database = Browser(), connect("postgresql://127.0.0.1:1/none")
    asked = Topics(browser.open, database, Metrics())
    try:
        answers = await asyncio.gather(*(asked.last_times(looked(first=5, second=8)) for _ in range(50)))
        grown = await asked.last_times(looked(first=5, second=9))
    finally:
        await database.close()

    at = {FIRST: datetime.fromtimestamp(4, UTC), SECOND: datetime.fromtimestamp(7, UTC)}
    assert [at] * 50 == answers
    assert {**at, SECOND: datetime.fromtimestamp(8, UTC)} == grown
    assert [{FIRST, SECOND, COMMITTED}, {SECOND}] == browser.read


async def test_who_looks_while_kafka_is_silent_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call does not wait until the look that the gateway itself has begun gives Kafka up."""
    silent = asyncio.Event()

    async def hang() -> None:
        silent.set()
        await asyncio.Event().wait()

    @asynccontextmanager
    async def browser() -> AsyncIterator[Any]:
        yield SimpleNamespace(_client=SimpleNamespace(fetch_all_metadata=hang))

    monkeypatch.setattr(leases, "every", Calls([]))
    monkeypatch.setattr(progress, "progress", Calls([]))
    monkeypatch.setattr(topics, "_READ_SECONDS", 0.001)
    looking = Topics(browser, None, Metrics())  # type: ignore[arg-type]  # nothing is asked of Postgres
    async with running(looking.run()), asyncio.timeout(10):
        await silent.wait()
        with pytest.raises(OrchestraError) as refused:
            await looking.look()

    assert ErrorCode.UNAVAILABLE is refused.value.code


async def test_who_looks_while_postgres_is_silent_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the look waits for Postgres, for example for a locked table, Kafka is not blamed."""
    silent = asyncio.Event()

    async def hang(_: Any) -> None:
        silent.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(leases, "every", Calls([]))
    monkeypatch.setattr(progress, "progress", hang)
    monkeypatch.setattr(topics, "_ends", Calls({}))
    monkeypatch.setattr(topics, "_READ_SECONDS", 0.001)
    looking = Topics(Browser().open, None, Metrics())  # type: ignore[arg-type]  # Postgres is replaced
    async with running(looking.run()), asyncio.timeout(10):
        await silent.wait()
        with pytest.raises(OrchestraError, match="Postgres does not answer in time"):
            await looking.look()


async def test_the_first_look_finds_all_partitions(stack: Stack) -> None:
    """A consumer that has just started finds every partition of our topics."""
    async with open_browser(stack.kafka_settings, "test") as consumer:
        ends = await topics._ends(consumer, [topic.name for topic in TOPICS])

    assert {topic.name for topic in TOPICS} == {place.topic for place in ends}
