"""One turn that runs in this worker, from its claim to its ending."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Any

from orchestra.store.claims import Claimed
from workers.outcome import Stop


class Stage(Enum):
    """The state of a flight: ``RUNNING ⇄ RENEWING``, and finally ``OVER``.

    A flight starts as RUNNING. Each restart within the LLM service moves it to RENEWING, until Postgres has given the
    turn the number of its next attempt, and then back to RUNNING. OVER is final. A stop is not a stage: it is noted
    in ``Flight.stopped`` and cancels the task in any stage but OVER. The task then ends the turn for that reason.
    """

    RUNNING = auto()
    """The call to the model is open or about to open. The fence is ``turn.fence``."""
    RENEWING = auto()
    """The next attempt's number is being taken. Postgres may have it already, so two fences are possible."""
    OVER = auto()
    """The outcome is decided and its ending is being written. A stop has no effect any more."""


class Flight:
    """A turn in flight. ``turn`` is the claimed turn, with the fence of its latest attempt.

    ``began``: the time of the claim, by the monotonic clock. ``stopped``: the first reason to stop it, None if there
    is no reason yet.
    """

    def __init__(self, turn: Claimed) -> None:
        self.turn = turn
        self.began = time.monotonic()
        self.stage = Stage.RUNNING
        self.stopped: Stop | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def fences(self) -> set[int]:
        """The fences that this turn may have in Postgres."""
        fence = self.turn.fence
        return {fence, fence + 1} if self.stage is Stage.RENEWING else {fence}

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run this coroutine as the flight's task."""
        self._task = asyncio.create_task(work)
        return self._task

    async def landed(self) -> None:
        """Wait until the task has ended, with any result."""
        if self._task:
            await asyncio.wait([self._task])

    def stop(self, why: Stop) -> None:
        """Stop the turn for this reason and close its call. No effect if it was stopped before or is over."""
        if self.stopped is None:
            self.stopped = why
            # Not before the task's first step: a coroutine that never started would never end its turn.
            asyncio.get_running_loop().call_soon(self._cancel)

    @contextmanager
    def renewing(self) -> Iterator[None]:
        """RENEWING while the next attempt's number is being taken."""
        self.stage = Stage.RENEWING
        try:
            yield
        finally:
            self.stage = Stage.RUNNING

    def end(self) -> None:
        """Mark the flight as OVER: its outcome is decided."""
        self.stage = Stage.OVER

    def _cancel(self) -> None:
        if self._task and self.stage is not Stage.OVER:
            self._task.cancel()
