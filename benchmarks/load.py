"""The load of one cell, in a separate process: ``python -m benchmarks.load``, with the fields of ``Plan`` on stdin.

It prints a line on stdout at each change of phase (``{"phase": "measured"}``), and the result in the last line. After
the warm-up comes the *measured* phase, then the *counted* one, in which the load continues for counts that would
disturb the measurement; then it is *over*.
"""

import asyncio
import dataclasses
import itertools
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop

from benchmarks.callers import Caller, RefusedError, WrongReplyError, open_caller
from benchmarks.cells import Cell
from benchmarks.question import Asking
from benchmarks.tally import Tally, Window
from orchestra.process import allow_many_connections

# An answer later than this after the model's will not come any more.
PATIENCE_SECONDS = 4.0
_AFTER_ERROR_SECONDS = 0.05
_SPREAD_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """One load: the seconds of each phase, and the targets."""

    cell: Cell
    asking: Asking
    urls: list[str]
    bootstrap: str
    warm: float
    measured: float
    counted: float

    @classmethod
    def loaded(cls, text: bytes) -> "Plan":
        """The plan from the output of ``dumped``."""
        fields = orjson.loads(text)
        return cls(**{**fields, "cell": Cell(**fields["cell"]), "asking": Asking(**fields["asking"])})


class Load:
    """One running load. ``tally``: the outcomes so far."""

    def __init__(self, plan: Plan, caller: Caller) -> None:
        self._plan = plan
        self._caller = caller
        self.tally = Tally()
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = False

    async def run(self) -> dict[str, Any]:
        """Run all phases; returns the result."""
        began = time.perf_counter()
        measured = Window(began + self._plan.warm, began + self._plan.warm + self._plan.measured)
        counted = Window(measured.end, measured.end + self._plan.counted)
        async with self.sending():
            for phase, moment in (("measured", measured.begin), ("counted", counted.begin), ("over", counted.end)):
                await asyncio.sleep(moment - time.perf_counter())
                tell({"phase": phase})
        figures = self.tally.figures(measured, time.perf_counter())
        return {**figures, "counted": self.tally.count(counted), "counted_seconds": self._plan.counted}

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send for as long as the body runs, and wait for what is open then."""
        sending = asyncio.create_task(self._send(time.perf_counter()))
        try:
            yield
        finally:
            self._stop = True
            await self._settle(sending)

    async def _send(self, began: float) -> None:
        if self._plan.cell.rate:
            await self._open_loop(began)
        else:
            await asyncio.gather(*(self._client(place) for place in range(self._plan.cell.clients)))

    async def _client(self, place: int) -> None:
        # If all started at once, they would stay in lockstep.
        await asyncio.sleep(min(_SPREAD_SECONDS, self._plan.warm / 2) * place / self._plan.cell.clients)
        while not self._stop:
            if not await self._ask(time.perf_counter()):
                await asyncio.sleep(_AFTER_ERROR_SECONDS)

    async def _open_loop(self, began: float) -> None:
        for due in _dues(began, self._plan.cell.rate):
            await asyncio.sleep(due - time.perf_counter())
            if self._stop:
                return
            task = asyncio.create_task(self._forget(due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forget(self, due: float) -> None:
        await self._ask(due)

    async def _ask(self, due: float) -> bool:
        number = next(self._numbers)
        self.tally.begin(number, due)
        try:
            first = await self._caller.ask(number)
            self.tally.answer(number, first, time.perf_counter())
            return True
        except WrongReplyError:
            self.tally.mistake(number)
        except RefusedError as error:
            self.tally.fail(number, str(error))
        except Exception as error:  # noqa: BLE001 - whatever the error, this request has no answer, and the load continues
            self.tally.fail(number, type(error).__name__)
        return False

    async def _settle(self, sending: asyncio.Task[None]) -> None:
        """Wait for open requests, as long as an answer may take; those still open then stay so in the tally."""
        limit = self._plan.cell.llm_seconds + PATIENCE_SECONDS
        left = {sending, *self._tasks}
        _, late = await asyncio.wait(left, timeout=limit)
        late |= self._tasks
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        if not sending.cancelled():
            sending.result()


def _dues(began: float, rate: float) -> Iterator[float]:
    return (began + number / rate for number in itertools.count())


def dumped(plan: Any) -> bytes:
    """A plan, or what else a process reads from stdin, as JSON."""
    return orjson.dumps(dataclasses.asdict(plan))


def tell(line: dict[str, Any]) -> None:
    """Print one line for the parent process."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


async def run(plan: Plan) -> dict[str, Any]:
    """One load, from first to last connection."""
    async with open_caller(plan.cell.kind, plan.asking, plan.cell.tokens, plan.urls, plan.bootstrap) as caller:
        return await Load(plan, caller).run()


def main() -> None:
    """Run the plan on stdin."""
    allow_many_connections()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tell({"result": runner.run(run(Plan.loaded(sys.stdin.buffer.read())))})


if __name__ == "__main__":
    main()
