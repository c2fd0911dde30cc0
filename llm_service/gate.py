"""The places of one model: as many generations at once as its server has room for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from schemas.errors import ErrorCode, OrchestraError


class Gate:
    """``places`` generations run, as many callers again wait up to ``seconds``, the rest are sent away."""

    def __init__(self, places: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(places)
        self._places = places
        self._seconds = seconds
        self._waiting = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place. Raises ``rate_limited`` when none comes free in time."""
        if self._free.locked():
            await self._wait()
        else:
            await self._free.acquire()
        try:
            yield
        finally:
            self._free.release()

    async def _wait(self) -> None:
        full = OrchestraError(ErrorCode.RATE_LIMITED, "The model has no free place.", retry_after=1)
        if self._waiting >= self._places:
            raise full
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
        except TimeoutError:
            raise full from None
        finally:
            self._waiting -= 1
