"""One turn that runs here, from its claim to its ending."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

from orchestra.store.claims import Claimed
from workers.outcome import Stop


class Stage(Enum):
    """Where a flight is: running, renewing and running again, and in the end over."""

    RUNNING = auto()
    """Its call is open, or about to be."""
    RENEWING = auto()
    """It takes the next attempt's number, and may have it in Postgres already: its fence is in doubt."""
    OVER = auto()
    """What it ended with is decided and being written: nothing stops it any more."""


class Flight:
    """A turn in flight. ``turn`` is as it was claimed, or with the number of its latest attempt.

    ``began``: when it was claimed, by the monotonic clock. ``stopped``: why, once somebody wants it stopped; the first
    reason counts.
    """

    def __init__(self, turn: Claimed) -> None:
        self.turn = turn
        self.began = time.monotonic()
        self.stage = Stage.RUNNING
        self.stopped: Stop | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def fences(self) -> set[int]:
        """The numbers of attempts that may be this one's in Postgres."""
        fence = self.turn.fence
        return {fence, fence + 1} if self.stage is Stage.RENEWING else {fence}

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin."""
        self._task = asyncio.create_task(work)
        return self._task

    async def landed(self) -> None:
        """Wait until its task has ended, however it does."""
        if self._task:
            await asyncio.wait([self._task])

    def stop(self, why: Stop) -> None:
        """End it soon for this reason, unless it has another one already or is over; its call is closed."""
        if self.stopped is None:
            self.stopped = why
            # Not before the task's first step: a coroutine that never began would never end its turn.
            asyncio.get_running_loop().call_soon(self._cancel)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """While it takes the next attempt's number."""
        self.stage = Stage.RENEWING
        try:
            yield
        finally:
            self.stage = Stage.RUNNING

    def end(self) -> None:
        """It is decided how it ended."""
        self.stage = Stage.OVER

    def _cancel(self) -> None:
        if self._task and self.stage is not Stage.OVER:
            self._task.cancel()
