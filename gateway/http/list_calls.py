"""Lists and counts: so many of one owner at once, so that they never have all connections to Postgres."""

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

# How many more may wait for their turn; with those that are made, as many calls as one owner may have under way.
_MOST_WAITING = 60
_RETRY_SECONDS = 1.0
# A count that took long is told again for so many times as long; one that did not is made anew each time.
_LONG_SECONDS = 0.05
_KEPT_TIMES = 20
_MOST_COUNTS = 1000

Counts = dict[str, int]


@dataclass
class _Turns:
    places: asyncio.Semaphore
    calls: int = 0


class ListCalls:
    """``most`` calls of one owner are made at once, those behind them one after the other; any number for None."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._owners: dict[Owner, _Turns] = {}

    @asynccontextmanager
    async def turn(self, owner: Owner) -> AsyncIterator[None]:
        """Wait for this owner's turn, and have it. Raises ``TOO_MANY_CALLS``."""
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
    """Counts that grow dear with what they count: who asks for one that was dear a moment ago is told that one.

    ``clock`` in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _kept: OrderedDict[Any, tuple[Counts, float]] = field(default_factory=OrderedDict)
    _counting: dict[Any, asyncio.Task[Counts]] = field(default_factory=dict)

    async def get(self, key: Any, count: Callable[[], Awaitable[Counts]]) -> Counts:
        """The counts under this key, of now or, where they took long, of a moment ago. Raises what ``count`` does."""
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
            task.exception()  # Whoever still waits has it.

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
