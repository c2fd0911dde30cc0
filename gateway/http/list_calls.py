"""Lists and counts: a limited number per owner at a time, so that no owner takes all connections to Postgres."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestra.store.claims import Owner
from schemas.errors import ErrorCode, OrchestraError

# Calls of one owner that may wait for their turn, beyond those that are running.
_MOST_WAITING = 60
_RETRY_SECONDS = 1.0
# A slow count is cached for this multiple of the time it took; a fast one is not cached.
_LONG_SECONDS = 0.05
_KEPT_TIMES = 20
_MOST_COUNTS = 1000

Counts = dict[str, int]


@dataclass
class _Turns:
    places: asyncio.Semaphore
    calls: int = 0


class ListCalls:
    """At most ``most`` calls of one owner run at a time; further ones wait. None: no limit."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._owners: dict[Owner, _Turns] = {}

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for a free place of this owner, and hold it. Raises ``TOO_MANY_CALLS``."""
        if self._most is None:
            yield
            return
        turns = self._owners.setdefault(owner, _Turns(asyncio.Semaphore(self._most)))
        if turns.calls >= self._most + _MOST_WAITING:
            raise OrchestraError(ErrorCode.TOO_MANY_CALLS, retry_after=_RETRY_SECONDS)
        turns.calls += 1
        try:
            async with turns.places:
                yield
        finally:
            turns.calls -= 1
            if not turns.calls:
                del self._owners[owner]


@dataclass
class KeptCounts:
    """Caches slow counts for a while; a count takes longer the more there is.

    ``clock`` in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[Any, tuple[Counts, float]] = field(default_factory=OrderedDict)
    _counting: dict[Any, asyncio.Task[Counts]] = field(default_factory=dict)

    async def get(self, key: Any, count: Callable[[], Awaitable[Counts]]) -> Counts:
        """The counts under this key, current or, if they are slow, from the cache. Raises what ``count`` raises."""
        counts, until = self._kept.get(key, ({}, 0.0))
        if self.clock() < until:
            return counts
        if key not in self._counting:
            self._counting[key] = task = asyncio.create_task(self._count(key, count))
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(self._counting[key])

    def _ended(self, key: Any, task: asyncio.Task[Counts]) -> None:
        del self._counting[key]
        if not task.cancelled():
            task.exception()  # Callers that still wait receive it.

    async def _count(self, key: Any, count: Callable[[], Awaitable[Counts]]) -> Counts:
        began = self.clock()
        counts = await count()
        took = self.clock() - began
        self._kept.pop(key, None)
        if took > _LONG_SECONDS:
            self._kept[key] = counts, began + (1 + _KEPT_TIMES) * took
            if len(self._kept) > _MOST_COUNTS:
                self._kept.popitem(last=False)
        return counts
