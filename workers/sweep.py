"""Periodic clean-up: lost leases, deadlines, unpublished replies, statistics, old rows, files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from orchestra.failpoints import reach
from orchestra.loops import regularly
from orchestra.store import cancels, endings, leases, minutes, outbox, retention, statistics, totals
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from orchestra.store.requests import estimated_open
from orchestra.store.turns import Announcement
from workers.erase import Eraser
from workers.files import FileSweep
from workers.lease import Lease
from workers.metrics import Metrics
from workers.timings import TIMINGS, Timings

MAX_AT_ONCE = 500

log = structlog.get_logger()


class Sweeper:
    """Runs the periodic sweeps. Every worker runs them all; two workers may run the same one at once.

    ``wake`` is called when a sweep may have made turns runnable. ``conversation_retention_days`` None: conversations
    are kept. ``files``: None where files are not offered.
    """

    def __init__(
        self,
        database: Database,
        lease: Lease,
        metrics: Metrics,
        *,
        announce: Callable[[Sequence[Announcement]], None],
        wake: Callable[[], None],
        hold_intake: Callable[[bool], None],
        max_open: int,
        retention_days: int,
        audit_retention_days: int,
        eraser: Eraser,
        conversation_retention_days: int | None = None,
        files: FileSweep | None = None,
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._lease = lease
        self._metrics = metrics
        self._announce = announce
        self._wake = wake
        self._hold_intake = hold_intake
        self._max_open = max_open
        self._retention_days = retention_days
        self._audit_retention_days = audit_retention_days
        self._conversation_retention_days = conversation_retention_days
        self._eraser = eraser
        self._files = files
        self._timings = timings

    async def run(self) -> None:
        """Sweep until cancelled."""
        often = self._timings.sweep
        sweeps: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (often, self.give_back_lost),
            (often, self.expire),
            (often, self.settle_early_cancels),
            (often, self.republish),
            (often, self.analyze_grown),
            (often * 5, self.guard_size),
            (often, self.count_turns),
            (often * 5, self.count_bytes),
            (often, self.count_minutes),
            (often * 5, self.empty_not_kept),
            (often, self._eraser.erase),
            (self._timings.retention, self.delete_old),
            (self._timings.look_for_unused, self.delete_unused),
        ]
        if self._files:
            sweeps += [
                (self._timings.remove_files, self._files.remove_gone),
                (self._timings.look_for_orphans, self._files.remove_orphans),
            ]
        await asyncio.gather(
            *(regularly(seconds, partial(_tried, sweep), sweep.__name__ + "_failed") for seconds, sweep in sweeps)
        )

    async def give_back_lost(self) -> None:
        """Make the requests of lost workers claimable again."""
        if not self._lease.may_judge_others:
            return
        lost = await leases.give_back_lost(self._database)
        if lost.workers:
            reach("sweep.after_give_back")
            log.warning("workers_lost", count=lost.workers, records=lost.returned)
            self._metrics.workers_lost.inc(lost.workers)
            self._ended(lost.announcements)

    async def expire(self) -> None:
        """End requests that are not in flight and whose deadline has passed."""
        while True:
            announcements = await endings.expire(self._database, MAX_AT_ONCE)
            if announcements:
                self._ended(announcements)
            if len(announcements) < MAX_AT_ONCE:
                return

    async def settle_early_cancels(self) -> None:
        """Cancel requests that were taken in concurrently with their cancel."""
        if announcements := await cancels.settle_early(self._database):
            self._ended(announcements)

    async def republish(self) -> None:
        """Publish replies again that were not marked as published in time."""
        late = await outbox.unpublished(self._database, self._timings.unpublished, MAX_AT_ONCE)
        self._metrics.republished.inc(len(late))
        self._announce(late)

    async def analyze_grown(self) -> None:
        """Update the planner's statistics of tables that grow fast."""
        if names := await statistics.analyze_grown(self._database):
            log.info("tables_analyzed", count=len(names))

    async def guard_size(self) -> None:
        """Pause intake at the limit of open requests, and resume it below."""
        count = await estimated_open(self._database)
        if count >= self._max_open:
            log.error("intake_stopped", count=count)
        self._hold_intake(count >= self._max_open)

    async def count_turns(self) -> None:
        """Count the open turns of each owner."""
        await totals.count_turns(self._database, self._timings.sweep)

    async def count_bytes(self) -> None:
        """Estimate the stored bytes of each owner."""
        await totals.count_bytes(self._database, self._timings.count_bytes)

    async def count_minutes(self) -> None:
        """Count what has ended, for statistics."""
        await minutes.count(self._database, self._timings.sweep)

    async def delete_old(self) -> None:
        """Delete rows that are older than the retention time."""
        while await retention.sweep_old(self._database, self._retention_days, MAX_AT_ONCE) >= MAX_AT_ONCE:
            pass
        while await retention.sweep_audit(self._database, self._audit_retention_days, MAX_AT_ONCE) >= MAX_AT_ONCE:
            pass

    async def empty_not_kept(self) -> None:
        """Remove the texts of requests that must not be kept."""
        while await retention.empty_not_kept(self._database, MAX_AT_ONCE) >= MAX_AT_ONCE:
            pass

    async def delete_unused(self) -> None:
        """Delete conversations that are no longer used, if a walk is due."""
        if not await retention.take_walk(self._database, self._timings.walk_conversations):
            return
        await retention.walk_branches(self._database, self._retention_days, MAX_AT_ONCE)
        if self._conversation_retention_days is not None:
            days = self._conversation_retention_days
            if deleted := await retention.walk_conversations(self._database, days, MAX_AT_ONCE):
                log.info("conversations_deleted", count=deleted)

    def _ended(self, announcements: Sequence[Announcement]) -> None:
        self._announce(announcements)
        self._wake()


async def _tried(sweep: Callable[[], Awaitable[None]]) -> None:
    try:
        await sweep()
    except (DatabaseUnavailableError, DataRefusedError) as error:
        log.warning("sweep_failed", part=sweep.__name__, reason=str(error))
