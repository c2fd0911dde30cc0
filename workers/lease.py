"""This worker's lease, renewed every 3 s; each renewal also returns the cancels of its requests."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from orchestra.store import leases
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.patience import until_available
from orchestra.store.turns import RequestRef
from orchestra.store.worker_state import WorkerState
from workers.metrics import Metrics
from workers.timings import TIMINGS, Timings

log = structlog.get_logger()


class Lease:
    """The worker's lease. ``worker_id`` marks its claims in Postgres; it changes when the lease is lost."""

    def __init__(self, database: Database, metrics: Metrics, timings: Timings = TIMINGS) -> None:
        self._database = database
        self._metrics = metrics
        self._timings = timings
        self._ready_file: Path | None = None
        self._trust_from = 0.0
        self._drains = False
        self.worker_id: UUID = uuid4()

    @property
    def may_judge_others(self) -> bool:
        """False for one lease time after an outage of Postgres: until then every worker's lease looks lost."""
        return asyncio.get_running_loop().time() >= self._trust_from

    async def take(self) -> None:
        """Register under a new id as soon as Postgres is reachable."""
        await until_available(self._register, "database_unavailable", self._doubt, pause=self._timings.retry_database)

    def tell(self, ready_file: Path | None) -> None:
        """Touch this file now and at each renewal. It shows that the worker is ready; its age shows its health."""
        self._ready_file = ready_file
        self._touch()

    async def run(
        self,
        on_cancelled: Callable[[Sequence[RequestRef]], None],
        on_lost: Callable[[], None],
        describe: Callable[[], WorkerState | None] = lambda: None,
        on_drain: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Renew until cancelled. ``on_cancelled`` receives the requests to stop; ``on_lost`` must drop all turns.

        ``on_drain`` is called when an operator has asked the worker to drain (true), or to work again.
        ``describe`` returns what to store of this worker for operators.
        The lease is lost only if its row is missing, not if Postgres is unreachable.
        """
        while True:
            await asyncio.sleep(self._timings.renew)
            try:
                beat = await leases.renew(self._database, self.worker_id, _told(describe))
            except DatabaseUnavailableError as error:
                self._doubt()
                log.warning("lease_not_renewed", worker_id=str(self.worker_id), reason=str(error))
                continue
            if beat is None:
                log.error("lease_lost", worker_id=str(self.worker_id))
                self._metrics.leases_lost.inc()
                on_lost()
                await self.take()
            else:
                if beat.cancelled:
                    on_cancelled(beat.cancelled)
                if beat.drains != self._drains:
                    self._drains = beat.drains
                    on_drain(beat.drains)
            self._touch()

    async def _register(self) -> None:
        # A new id each time: an earlier attempt may have been committed.
        self.worker_id = uuid4()
        await leases.register(self._database, self.worker_id, drains=self._drains)

    def _touch(self) -> None:
        if self._ready_file:
            with suppress(OSError):  # A full disk must not cost the lease.
                self._ready_file.touch()

    def _doubt(self) -> None:
        self._trust_from = asyncio.get_running_loop().time() + leases.LEASE_SECONDS


def _told(describe: Callable[[], WorkerState | None]) -> WorkerState | None:
    """The description; None if it fails, because what operators see must not cost the lease."""
    try:
        return describe()
    except Exception as error:
        log.error("worker_not_described", exc_info=error)
        return None
