"""The limits of one model: concurrent generations and calls per minute."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from schemas.errors import ErrorCode, OrchestraError

_MINUTE = 60.0


class Gate:
    """At most ``slots`` generations run; as many again wait for up to ``seconds``; the rest are rejected."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(slots)
        self._slots = slots
        self._seconds = seconds
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Raises ``rate_limited`` if none is free in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        full = OrchestraError(ErrorCode.RATE_LIMITED, "The model is at its limit of generations.", retry_after=1)
        if self._waiting >= self._slots:
            raise full
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise full from None
        finally:
            self._waiting -= 1


class Rate:
    """At most ``calls`` start within any minute."""

    def __init__(self, calls: int, clock: Callable[[], float] = monotonic) -> None:
        self._begun: deque[float] = deque(maxlen=calls)
        self._clock = clock

    def take(self) -> None:
        """Start a call. Raises ``rate_limited``, with the seconds until the next may start, if it is one too many."""
        now = self._clock()
        if len(self._begun) == self._begun.maxlen and (left := self._begun[0] + _MINUTE - now) > 0:
            raise OrchestraError(
                ErrorCode.RATE_LIMITED, "The model is at its limit of calls a minute.", retry_after=left
            )
        self._begun.append(now)  # The oldest of a full queue drops out.
