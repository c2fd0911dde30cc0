import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.following.tail import BACK_SECONDS, Tail
from gateway.metrics import Metrics


@dataclass
class Offset:
    offset: int


@dataclass
class Record:
    offset: int
    value: bytes
    key: bytes | None = None
    headers: tuple[()] = ()


class Hub:
    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def take(self, key: bytes | None, headers: object, value: bytes) -> None:
        self.taken.append(value)


class Consumer:
    """Partitions as lists of (age in seconds, text); like aiokafka it loses its positions when some are added."""

    def __init__(self, logs: dict[int, list[tuple[float, str]]]) -> None:
        self.logs = logs
        self.known = set(logs)
        self.positions = {p: len(log) for p, log in logs.items()}
        self.failures: list[Exception] = []

    def assignment(self) -> frozenset[int]:
        return frozenset(self.known)

    def add_partition(self, number: int, log: list[tuple[float, str]]) -> None:
        self.logs[number] = log
        self.known.add(number)
        self.positions = {p: len(entries) for p, entries in self.logs.items()}

    async def offsets_for_times(self, times: dict[int, int]) -> dict[int, Any]:
        now, found = time.time(), {}
        for p, since in times.items():
            offsets = [i for i, (age, _) in enumerate(self.logs[p]) if (now - age) * 1000 >= since]
            found[p] = Offset(offsets[0]) if offsets else None
        return found

    async def end_offsets(self, partitions: Iterable[int]) -> dict[int, int]:
        return {p: len(self.logs[p]) for p in partitions}

    def seek(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    async def position(self, partition: int) -> int:
        return self.positions[partition]

    def highwater(self, partition: int) -> int:
        return len(self.logs[partition])

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[int, list[Record]]:
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop()
        found = {}
        for p, position in list(self.positions.items()):
            records = [Record(i, text.encode()) for i, (_, text) in enumerate(self.logs[p])][position : position + 2]
            if records:
                found[p] = records
                self.positions[p] += len(records)
        return found


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.loops.FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr("gateway.following.tail.check_reading", lambda _: None)


@asynccontextmanager
async def following(consumers: list[Consumer]) -> AsyncIterator[tuple[Tail, Hub]]:
    left, hub = list(consumers), Hub()

    @asynccontextmanager
    async def open_reader() -> AsyncIterator[Consumer]:
        yield left.pop(0) if len(left) > 1 else left[0]

    tail = Tail(open_reader, hub, Metrics())  # type: ignore[arg-type]
    running = asyncio.create_task(tail.run())
    yield tail, hub
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


OLD = BACK_SECONDS + 60


async def test_catches_up() -> None:
    """It begins 15 minutes back and has caught up once everything that was there has been read."""
    consumer = Consumer({0: [(OLD, "old"), (60, "a"), (50, "b"), (40, "c")], 1: [(OLD, "old")], 2: []})
    async with following([consumer]) as (tail, hub):
        assert not tail.caught_up
        await until(lambda: tail.caught_up)
        assert hub.taken == [b"a", b"b", b"c"]
        consumer.logs[2].append((0, "new"))
        await until(lambda: hub.taken[-1] == b"new")


async def test_added_partitions() -> None:
    """When partitions are added, no record of the old ones is lost and the new ones are read from their beginning."""
    consumer = Consumer({0: [(60, "a")]})
    async with following([consumer]) as (tail, hub):
        await until(lambda: tail.caught_up)
        consumer.logs[0].append((0, "b"))
        consumer.add_partition(1, [(0, "c")])
        await until(lambda: len(hub.taken) == 3)
        assert sorted(hub.taken) == [b"a", b"b", b"c"]


async def test_goes_on() -> None:
    """After any failure it continues where it was, with a new consumer."""
    logs = {0: [(60.0, "a")]}
    first, second = Consumer(logs), Consumer(logs)
    async with following([first, second]) as (tail, hub):
        await until(lambda: tail.caught_up)
        first.failures.append(ValueError("broken"))
        logs[0].append((0, "b"))
        await until(lambda: len(hub.taken) == 2)
        assert hub.taken == [b"a", b"b"]


async def test_missing_topic() -> None:
    """While the topic is missing it has not caught up, and it tries again until the topic exists."""
    none, there = Consumer({}), Consumer({0: []})
    async with following([none, none, there]) as (tail, _hub):
        await until(lambda: tail.caught_up)
