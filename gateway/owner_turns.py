"""Limits how many calls of one owner run at once, so that one client never uses up what all clients share."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestra.store.claims import Owner
from schemas.errors import ErrorCode, OrchestraError

_RETRY_SECONDS = 1.0
# An owner counts as calling for this long after its last call.
_CALLING_SECONDS = 1.0
_MAX_REST_SECONDS = 0.5


@dataclass
class _Turns:
    """The calls of one owner: the turns that are free, all of its calls, and the turns that are free after its rest."""

    free: asyncio.Semaphore
    calls: int = 0
    resting: int = 0

    def rest(self, seconds: float) -> None:
        """Give back a turn after a rest of this length, or at the end of the rest that has begun."""
        self.resting += 1
        if self.resting == 1:
            asyncio.get_running_loop().call_later(seconds, self._end_rest)

    def _end_rest(self) -> None:
        for _ in range(self.resting):
            self.free.release()
        self.resting = 0


class OwnerTurns:
    """Runs at most ``max_running`` calls of one owner (None: no limit) and queues at most ``max_waiting`` more.

    A queued call waits for at most ``max_seconds``. While other owners call too, an owner whose calls queue rests:
    ``rest`` times as long as the first of them took, for at most 0.5 s. Then all of its turns that were given back
    are taken together. One owner thus leaves the others a part of the machine, a larger one the busier it is, and what
    follows its calls is done for a group of them at once.
    """

    def __init__(self, max_running: int | None, *, max_waiting: int, max_seconds: float, rest: float = 0.0) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_seconds = max_seconds
        self._rest = rest
        self._owners: dict[Owner, _Turns] = {}
        self._last: Owner | None = None
        # When an owner other than the last one called.
        self._others_at = float("-inf")
        self._last_at = float("-inf")

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for this owner's turn and hold it for the body.

        Raises ``TOO_MANY_CALLS`` when the queue is full, or the turn does not come in time.
        """
        if self._max_running is None:
            yield
            return
        self._note(owner)
        turns = self._owners.setdefault(owner, _Turns(asyncio.Semaphore(self._max_running)))
        if turns.calls >= self._max_running + self._max_waiting:
            raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS)
        turns.calls += 1
        try:
            try:
                async with asyncio.timeout(self._max_seconds):
                    await turns.free.acquire()
            except TimeoutError:
                raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS) from None
            began = time.monotonic()
            try:
                yield
            finally:
                self._release(turns, owner, time.monotonic() - began)
        finally:
            turns.calls -= 1
            if not turns.calls:
                del self._owners[owner]

    def _note(self, owner: Owner) -> None:
        now = time.monotonic()
        if owner != self._last:
            self._last, self._others_at = owner, self._last_at
        self._last_at = now

    def _release(self, turns: _Turns, owner: Owner, seconds: float) -> None:
        """Give back the turn of a call that took this long, at once or after a rest."""
        queues = turns.calls > (self._max_running or 0)
        others_at = self._others_at if owner == self._last else self._last_at
        if self._rest and queues and time.monotonic() - others_at < _CALLING_SECONDS:
            turns.rest(min(self._rest * seconds, _MAX_REST_SECONDS))
        else:
            turns.free.release()
