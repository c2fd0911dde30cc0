"""Limits how many calls of one owner run at once, so that one client never uses up what all clients share."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestra.store.claims import Owner
from schemas.errors import ErrorCode, OrchestraError

_RETRY_SECONDS = 1.0


@dataclass
class _Turns:
    places: asyncio.Semaphore
    calls: int = 0


class OwnerTurns:
    """Runs at most ``max_running`` calls of one owner (None: no limit) and queues at most ``max_waiting`` more.

    A queued call waits for at most ``max_seconds``.
    """

    def __init__(self, max_running: int | None, *, max_waiting: int, max_seconds: float) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_seconds = max_seconds
        self._owners: dict[Owner, _Turns] = {}

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for this owner's turn and hold it for the body.

        Raises ``TOO_MANY_CALLS`` when the queue is full, or the turn does not come in time.
        """
        if self._max_running is None:
            yield
            return
        turns = self._owners.setdefault(owner, _Turns(asyncio.Semaphore(self._max_running)))
        if turns.calls >= self._max_running + self._max_waiting:
            raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS)
        turns.calls += 1
        try:
            try:
                async with asyncio.timeout(self._max_seconds):
                    await turns.places.acquire()
            except TimeoutError:
                raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS) from None
            try:
                yield
            finally:
                turns.places.release()
        finally:
            turns.calls -= 1
            if not turns.calls:
                del self._owners[owner]
