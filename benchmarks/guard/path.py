"""One hot path: how it is set up, how one more of what it does is made to happen, and what that costs."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks.guard.counting import Counting

WARM_UP, REPEATS = 3, 5
Run = Callable[[int], Awaitable[None]]
"""Does the work so many times over."""


def one_by_one(work: Callable[[], Awaitable[None]]) -> Run:
    """The work, done so many times over, one after the other."""

    async def run(times: int) -> None:
        for _ in range(times):
            await work()

    return run


@dataclass
class Tally:
    """What leaves a path: records for Kafka with their bytes (keys, values, headers), statements for Postgres."""

    records: int = 0
    bytes: int = 0
    statements: int = 0


@dataclass(frozen=True)
class Cost:
    """What one more costs. ``instructions``: of Python; ``codecs``: calls of the costly native parts."""

    instructions: int
    codecs: int
    statements: int
    records: int
    bytes: int


@dataclass(frozen=True)
class Path:
    """``what``: one more of which costs the figures. ``few`` and ``many``: between these the slope is taken.

    ``database``: it needs a Postgres, by ``DATABASE_URL``.
    """

    what: str
    open: Callable[[Tally], AbstractAsyncContextManager[Run]]
    few: int = 2
    many: int = 6
    database: bool = False

    async def measure(self) -> Cost:
        """Count what one more costs, in an event loop that nothing else uses."""
        tally = Tally()
        async with self.open(tally) as run:
            for _ in range(WARM_UP):
                await run(self.few)
                await run(self.many)
            few, many = await _least(run, self.few, tally), await _least(run, self.many, tally)
        steps = self.many - self.few
        return Cost(*(round((more - less) / steps) for less, more in zip(few, many, strict=True)))


async def _least(run: Run, times: int, tally: Tally) -> tuple[int, ...]:
    """The least that was seen of each figure: what comes on top is a timer that happened to fall into it."""
    seen = [await _counted(run, times, tally) for _ in range(REPEATS)]
    return tuple(map(min, zip(*seen, strict=True)))


async def _counted(run: Run, times: int, tally: Tally) -> tuple[int, ...]:
    before = tally.statements, tally.records, tally.bytes
    with Counting() as counted:
        await run(times)
    after = tally.statements, tally.records, tally.bytes
    return counted.instructions, counted.codecs, *(now - then for then, now in zip(before, after, strict=True))
