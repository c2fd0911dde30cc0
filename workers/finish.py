"""⑦ Writes the endings of many turns in batches: the endings that arrive during one batch form the next."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog

from orchestra.failpoints import reach
from orchestra.store import endings as store
from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import Database, DataRefusedError
from orchestra.store.endings import AttemptEnd, Finished
from orchestra.store.patience import until_available
from orchestra.store.turns import Announcement
from schemas.errors import ErrorCode
from schemas.status import Status
from workers.metrics import Metrics
from workers.timings import TIMINGS, Timings

MAX_AT_ONCE = 200

log = structlog.get_logger()


class NextTurns(Protocol):
    """Where the turns go that are claimed together with endings."""

    def ending_order(self, count: int, /) -> AbstractContextManager[ClaimOrder | None]:
        """The order to claim by; None for no claim."""

    def start_next(self, order: ClaimOrder, claimed: Sequence[Claimed], /) -> None:
        """Run the claimed turns."""

    def doubt(self) -> None:
        """A claim may have been committed without an answer."""

    def wake(self) -> None:
        """A turn has become runnable and was not claimed."""

    def wake_in(self, seconds: float, /) -> None:
        """A turn will be runnable in ``seconds``."""


class Finisher:
    """Writes endings, and claims the next turns with them. Set ``slots`` before the first ending.

    ``announce`` receives the replies of each batch once it is committed.
    """

    slots: NextTurns

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        announce: Callable[[Sequence[Announcement]], None],
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._announce = announce
        self._timings = timings
        self._waiting: list[tuple[AttemptEnd, asyncio.Future[None]]] = []
        self._something = asyncio.Event()

    async def finish(self, ending: AttemptEnd) -> None:
        """Write an ending. Returns when it is committed, or discarded because its fence is no longer valid."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((ending, done))
        self._something.set()
        await asyncio.shield(done)

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._something.wait()
            batch, self._waiting = self._waiting[:MAX_AT_ONCE], self._waiting[MAX_AT_ONCE:]
            if not self._waiting:
                self._something.clear()
            await self._write([ending for ending, _ in batch])
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def _write(self, endings: Sequence[AttemptEnd]) -> None:
        unheard = asyncio.Event()

        def doubt() -> None:
            unheard.set()
            self.slots.doubt()

        try:
            # If a commit succeeded without an answer, the retry finds invalid fences and changes nothing.
            finished = await until_available(
                partial(self._finish, endings),
                "finish_failed",
                doubt,
                pause=self._timings.retry_database,
                count=len(endings),
            )
        except DataRefusedError as error:
            await self._write_halves(endings, error)
        else:
            self._written(finished, again=unheard.is_set())
            for ending in endings:
                if ending.status is Status.PENDING:
                    self.slots.wake_in(ending.delay)

    async def _finish(self, endings: Sequence[AttemptEnd]) -> Finished:
        reach("finish.before_transaction")
        with self.slots.ending_order(len(endings)) as order:
            finished = await store.finish(self._database, endings, order)
            if order:
                self.slots.start_next(order, finished.claimed)
        return finished

    async def _write_halves(self, endings: Sequence[AttemptEnd], error: DataRefusedError) -> None:
        if len(endings) > 1:
            middle = len(endings) // 2
            await self._write(endings[:middle])
            await self._write(endings[middle:])
        elif endings[0].status is not Status.FAILED:
            detail = f"the database refuses the answer ({error})"
            failed = replace(endings[0], status=Status.FAILED, said=(), reply=None, usage=None, items=None, log=None,
                             give_try_back=False, error=(ErrorCode.REFUSED_BY_DATABASE, detail))  # fmt: skip
            log.warning("request_failed", request_id=str(failed.id), code=ErrorCode.REFUSED_BY_DATABASE,
                        attempt=failed.fence)  # fmt: skip
            await self._write([failed])
        else:
            log.error("ending_refused", request_id=str(endings[0].id), reason=str(error))

    def _written(self, finished: Finished, *, again: bool) -> None:
        reach("finish.after_commit")
        if not again:
            self._metrics.fenced.inc(len(finished.fenced))
        self._announce(finished.announcements)
        if finished.promoted > len(finished.claimed):
            self.slots.wake()
