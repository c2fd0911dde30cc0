"""③ Claims turns for free slots from Postgres: highest priority first, then oldest first."""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from orchestra.failpoints import reach
from orchestra.store import claims
from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.turns import RequestRef
from workers.flight import Flight, Stage
from workers.lease import Lease
from workers.metrics import Metrics
from workers.outcome import Cancelled, Stop
from workers.pauses import Pauses
from workers.shares import Shares
from workers.throttle import Throttle
from workers.timings import TIMINGS, Timings

MAX_AT_ONCE = 200
# A turn that is due later than this gets no timer: the regular look finds it, at most a second late.
MAX_TIMER_SECONDS = 600.0
# Turns that are due this close together share a timer, so that the number of timers is bounded.
_TIMER_SECONDS = 0.05

log = structlog.get_logger()


class Slots:
    """The turns in flight. ``run_turns`` returns one coroutine per turn; each runs as its own task.

    When a turn may have become runnable or a slot has become free, the next claim comes at once. Otherwise there are
    looks at growing intervals, for what other workers have made runnable. Four flags steer the claims:

    - hungry: the last claim found fewer turns than it asked for, so nothing else is runnable and intake may claim.
    - unsure: a claim may have been committed without its answer. The next look searches for such turns first.
    - open: cleared by ``close``. From then on there are no more claims.
    - draining: set by ``drain``. There are no claims until it is cleared.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics,
        lease: Lease,
        throttle: Throttle,
        shares: Shares,
        pauses: Pauses,
        limit: int,
        run_turns: Callable[[Sequence[Flight]], Sequence[Coroutine[Any, Any, None]]],
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._lease = lease
        self._limit = limit
        self._run_turns = run_turns
        self._throttle = throttle
        self._shares = shares
        self._pauses = pauses
        self._running: dict[RequestRef, Flight] = {}
        self._under_way: list[ClaimOrder] = []
        self._look = asyncio.Event()
        self._timings = timings
        self._pause = timings.look_for_turns
        self._timers: set[int] = set()
        self._hungry = True
        self._unsure = False
        self._open = True
        self._draining = False

    async def until_empty(self) -> None:
        """Wait until nothing is in flight."""
        while self._running:
            await asyncio.gather(*(flight.landed() for flight in self._running.values()))

    def wake(self) -> None:
        """Look at once, because a turn may have become runnable."""
        self._look.set()

    def wake_in(self, seconds: float) -> None:
        """Look in ``seconds``, when a turn is due. No effect beyond ``MAX_TIMER_SECONDS``."""
        if seconds > MAX_TIMER_SECONDS:
            return
        loop = asyncio.get_running_loop()
        number = math.ceil((loop.time() + max(0.0, seconds)) / _TIMER_SECONDS)
        if number not in self._timers:
            self._timers.add(number)
            loop.call_at(number * _TIMER_SECONDS, self._due, number)

    @contextmanager
    def intake_order(self) -> Iterator[ClaimOrder | None]:
        """The order that intake may claim by in its transaction; None if other turns were runnable at the last look."""
        with self._order() as order:
            yield order if self._hungry and not self._unsure else None

    @contextmanager
    def ending_order(self, count: int) -> Iterator[ClaimOrder | None]:
        """The order to claim by together with ``count`` endings. None if that takes more than one claim."""
        with self._order(count) as order:
            fits = order and order.plain and not self._unsure
            yield replace(order, only_after_promotion=self._hungry) if order and fits else None

    def start_next(self, order: ClaimOrder, claimed: Sequence[Claimed]) -> None:
        """Run the turns that were claimed together with endings."""
        self.start(claimed)
        if len(claimed) >= order.limit:
            self._hungry = False

    def doubt(self) -> None:
        """Look for forgotten claims: a transaction that may have claimed ended without an answer."""
        self._unsure = True
        self._look.set()

    def start(self, claimed: Sequence[Claimed]) -> None:
        """Run these turns, except those that already run here."""
        flights = [Flight(turn) for turn in claimed if not self._runs(turn)]
        self._metrics.claimed.inc(len(flights))
        for flight, work in zip(flights, self._run_turns(flights), strict=True):
            self._metrics.queue_seconds.observe(flight.turn.seconds_queued)
            self._running[flight.turn.ref] = flight
            self._throttle.begun(flight.turn.model)
            self._shares.begun(flight.turn)
            flight.run(work).add_done_callback(partial(self._release, flight))
            if flight.turn.cancelled:
                flight.stop(Cancelled())
        self._metrics.in_flight.set(len(self._running))

    def stop(self, refs: Sequence[RequestRef], why: Stop) -> None:
        """Stop those of these turns that run here and close their calls to the LLM service."""
        for ref in refs:
            if flight := self._running.get(ref):
                flight.stop(why)

    def stop_all(self, why: Stop) -> None:
        """Stop everything in flight."""
        self.stop(list(self._running), why)

    async def run(self) -> None:
        """Fill free slots until ``close``."""
        while self._open:
            self._look.clear()
            if not await self._claim():
                await self._wait()

    def drain(self, *, draining: bool) -> None:
        """Make no claims while ``draining``."""
        self._draining = draining
        self._look.set()

    def close(self) -> None:
        """Make no more claims."""
        self._open = False
        self._look.set()

    @contextmanager
    def _order(self, endings: int = 0) -> Iterator[ClaimOrder | None]:
        """Reserve free slots for one claim. Its turns must be started before the context ends.

        ``endings``: how many turns in flight end with the claim. It then reserves their slots, and one more, by which
        it can show that nothing else is runnable.
        """
        ordered = sum(order.limit for order in self._under_way)
        free = self._limit - len(self._running) - ordered + endings
        free = max(0, min(endings + 1 if endings else MAX_AT_ONCE, free)) if self._open and not self._draining else 0
        models = tuple(self._throttle.limits())
        order = self._shares.order(self._lease.worker_id, free, models, self._under_way, self._pauses.now)
        if order is None:
            yield None
            return
        self._under_way.append(order)
        try:
            yield order
        finally:
            self._under_way.remove(order)

    async def _claim(self) -> bool:
        """Claim once. True if more turns may be claimable at once."""
        with self._order() as order:
            if order is None:
                self._hungry = False  # Without a look it is unknown which turns wait for a slot.
                return False
            try:
                if self._unsure:
                    self.start(await self._forgotten())
                    return True
                claimed = await claims.claim(self._database, order)
                reach("claim.after_commit")
            except DatabaseUnavailableError as error:
                log.warning("claim_failed", reason=str(error))
                self._unsure = True
                return False
            self.start(claimed)
            if claimed:
                self._pause = self._timings.look_for_turns
            self._hungry = len(claimed) < min([order.limit, *(share.limit for share in order.shares)])
            return not self._hungry

    async def _forgotten(self) -> list[Claimed]:
        """The turns that are claimed by this worker in Postgres but do not run here."""
        before = {(ref, fence) for ref, flight in self._running.items() for fence in flight.fences}
        # A renewal in flight may already own the fence that is found: look again once it has settled.
        self._unsure = any(flight.stage is Stage.RENEWING for flight in self._running.values())
        held = await claims.held(self._database, self._lease.worker_id)
        return [turn for turn in held if (turn.ref, turn.fence) not in before]

    def _runs(self, turn: Claimed) -> bool:
        flight = self._running.get(turn.ref)
        return flight is not None and flight.turn.fence == turn.fence

    async def _wait(self) -> None:
        """Wait to be woken, at most until the next regular look or the end of a model's hold."""
        holds = (each.seconds for each in self._throttle.held())
        try:
            async with asyncio.timeout(min([self._pause * random.uniform(0.75, 1.0), *holds])):
                await self._look.wait()
        except TimeoutError:
            self._pause = min(2 * self._pause, self._timings.max_look_for_turns)
        else:
            self._pause = self._timings.look_for_turns

    def _due(self, number: int) -> None:
        self._timers.discard(number)
        self._look.set()

    def _release(self, flight: Flight, task: asyncio.Task[None]) -> None:
        ref = flight.turn.ref
        self._throttle.ended(flight.turn.model)
        if self._running.get(ref) is flight:
            del self._running[ref]
        self._metrics.in_flight.set(len(self._running))
        if not task.cancelled() and task.exception() is not None:
            log.error("turn_crashed", request_id=str(ref[1]), exc_info=task.exception())
        was_full = self._shares.ended(flight.turn)
        was_limited = any(limit.model == flight.turn.model for limit in self._throttle.limits())
        if not self._hungry or was_full or was_limited:
            self._look.set()  # Some turns may have been left because there was no free slot.
