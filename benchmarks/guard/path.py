"""One hot path: how it is set up, how to run one more unit of its work, and what that costs."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from benchmarks.guard.counting import Counting

WARM_UP, REPEATS = 3, 5
Run = Callable[[int], Awaitable[None]]
"""Does the work this many times."""


def one_by_one(work: Callable[[], Awaitable[None]]) -> Run:
    """Do the work repeatedly, one after the other."""

    async def run(times: int) -> None:
        for _ in range(times):
            await work()

    return run


@dataclass
class Tally:
    """The output of a path: Kafka records with their bytes (keys, values, headers), Postgres statements."""

    records: int = 0
    bytes: int = 0
    statements: int = 0


@dataclass(frozen=True)
class Cost:
    """The cost of one more. ``instructions``: of Python; ``codecs``: calls of expensive native functions."""

    instructions: int
    codecs: int
    statements: int
    records: int
    bytes: int


@dataclass(frozen=True)
class Path:
    """``what``: the unit of work. ``few`` and ``many``: the slope is taken between these counts.

    ``database``: whether it needs a Postgres, by ``DATABASE_URL``.
    """

    what: str
    open: Callable[[Tally], AbstractAsyncContextManager[Run]]
    few: int = 2
    many: int = 6
    database: bool = False

    async def measure(self) -> Cost:
        """Count what one more costs, in a separate event loop."""
        tally = Tally()
        async with self.open(tally) as run:
            for _ in range(WARM_UP):
                await run(self.few)
                await run(self.many)
            few, many = await _least(run, self.few, tally), await _least(run, self.many, tally)
        steps = self.many - self.few
        return Cost(*(round((more - less) / steps) for less, more in zip(few, many, strict=True)))


async def _least(run: Run, times: int, tally: Tally) -> tuple[int, ...]:
    """The minimum seen of each figure: anything above it is a timer that happened to run."""
    seen = [await _counted(run, times, tally) for _ in range(REPEATS)]
    return tuple(map(min, zip(*seen, strict=True)))


async def _counted(run: Run, times: int, tally: Tally) -> tuple[int, ...]:
    before = tally.statements, tally.records, tally.bytes
    with Counting() as counted:
        await run(times)
    after = tally.statements, tally.records, tally.bytes
    return counted.instructions, counted.codecs, *(now - then for then, now in zip(before, after, strict=True))
