"""Caches rows that every call needs for some seconds, so that a call costs no query."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

from gateway.timings import TIMINGS, Timings
from orchestra.store.database import DatabaseUnavailableError

_Key = TypeVar("_Key", bound=Hashable)
_Row = TypeVar("_Row")


class CachedRows(Generic[_Key, _Row]):
    """The ``most`` rows used last. ``clock`` returns seconds. That a row does not exist is not cached."""

    def __init__(
        self,
        load: Callable[[_Key], Awaitable[_Row | None]],
        clock: Callable[[], float] = time.monotonic,
        timings: Timings = TIMINGS,
        most: int = 10_000,
    ) -> None:
        self._timings = timings
        self._load = load
        self._clock = clock
        self._most = most
        self._known: OrderedDict[_Key, tuple[_Row, float]] = OrderedDict()
        self._loading: dict[_Key, tuple[asyncio.Task[_Row | None], float]] = {}

    async def get(self, key: _Key) -> _Row | None:
        """The row, at most 20 s old, or 55 s while Postgres is unreachable.

        Raises ``DatabaseUnavailableError`` when Postgres is unreachable and there is no such row.
        """
        if known := self._not_older(key, self._timings.fresh_row):
            self._known.move_to_end(key)
            return known[0]
        task, since = self._loading.get(key) or self._start(key)
        stale = self._not_older(key, self._timings.stale_row)
        patience = self._timings.look_with_stale_row if stale else self._timings.look_without_row
        try:
            async with asyncio.timeout_at(since + patience):
                return await asyncio.shield(task)
        except (DatabaseUnavailableError, TimeoutError) as error:
            if known := self._not_older(key, self._timings.stale_row):
                return known[0]
            raise DatabaseUnavailableError(type(error).__name__) from error

    def forget(self, key: _Key) -> None:
        """Query again on the next call, even if a query is running now."""
        self._known.pop(key, None)
        self._loading.pop(key, None)

    def forget_where(self, changed: Callable[[_Row], bool]) -> None:
        """Forget every row for which ``changed`` is true, and the result of every running query."""
        for key in [key for key, (row, _) in self._known.items() if changed(row)] + list(self._loading):
            self.forget(key)

    def _not_older(self, key: _Key, seconds: float) -> tuple[_Row, float] | None:
        known = self._known.get(key)
        return known if known is not None and self._clock() - known[1] < seconds else None

    def _start(self, key: _Key) -> tuple[asyncio.Task[_Row | None], float]:
        # One query for all calls that come meanwhile; it goes on if the first of them is cancelled.
        task = asyncio.create_task(self._look(key))
        self._loading[key] = look = task, asyncio.get_running_loop().time()
        task.add_done_callback(partial(self._ended, key))
        return look

    async def _look(self, key: _Key) -> _Row | None:
        asked_at = self._clock()
        row = await self._load(key)
        if self._is_current(key, asyncio.current_task()):
            self._known.pop(key, None)
            if row is not None:
                self._known[key] = row, asked_at
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return row

    def _ended(self, key: _Key, task: "asyncio.Task[_Row | None]") -> None:
        if self._is_current(key, task):
            del self._loading[key]
        if not task.cancelled():
            task.exception()  # Marks it as retrieved: the calls that still wait raise it.

    def _is_current(self, key: _Key, task: "asyncio.Task[_Row | None] | None") -> bool:
        return key in self._loading and self._loading[key][0] is task
