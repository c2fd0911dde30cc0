"""Caches slow counts for a while, so that counting never takes more than a small part of the time."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

# A count is slow from here on. It is cached for a multiple of the time it took; a fast one is not cached.
_LONG_SECONDS = 0.05
_KEPT_TIMES = 20
_MAX_COUNTS = 1000

Counts = dict[str, int]


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
            if len(self._kept) > _MAX_COUNTS:
                self._kept.popitem(last=False)
        return counts
