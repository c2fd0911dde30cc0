"""What operators watch: looked at once a second for all viewers of this gateway, and now and then for its metrics."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from gateway.drain import Drain
from gateway.http.leaving import EventStreamResponse
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.people.standing import Standing
from gateway.timings import TIMINGS, Timings
from gateway.topics import Topics
from orchestra.loops import keep_running
from orchestra.store import leases, minutes, models, queue, requests
from orchestra.store.claims import Owner
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.leases import KnownWorker
from orchestra.store.queue import Counted, Depth, Totals, Whose
from orchestra.store.requests import Mark
from orchestra.store.turns import RequestRef
from schemas.api.keys import Scope
from schemas.api.live import Changed, LiveFrame, LiveMinute, LiveWorkers, OwnFrame
from schemas.api.queue import Count
from schemas.errors import ErrorCode, OrchestraError

MAX_WORKERS = 500
"""Maximum number of workers that are read."""
_MAX_SHOWN = 20
_NEXT_STREAM_SECONDS = 5.0
_KEEP_ALIVE = b": keep-alive\n\n"
# Looking takes at most a tenth of the time.
_REST = 10.0


@dataclass(frozen=True)
class Look:
    """What one look at Postgres found, of all tenants."""

    depth: Depth
    running: dict[str, Counted]
    workers: list[KnownWorker]


@dataclass
class _Tick:
    """What was found for the viewers at one moment. ``over``: set once there is a newer one."""

    frames: dict[Whose, bytes] = field(default_factory=dict)
    marks: dict[RequestRef, Mark] = field(default_factory=dict)
    looked_for: frozenset[RequestRef] = frozenset()
    over: asyncio.Event = field(default_factory=asyncio.Event)


def whose(caller: Principal) -> Whose:
    """Whose numbers a caller sees: an operator the tenant's, all others their own."""
    return caller.tenant, None if Scope.OPERATE in caller.scopes or caller.admin else caller.user


async def look(database: Database) -> Look:
    """Look at the queue and at the workers. Raises ``DatabaseUnavailableError``."""
    depth, running, workers = await asyncio.gather(
        queue.depth(database), queue.running(database), leases.every(database, MAX_WORKERS)
    )
    return Look(depth, running, workers)


class Pulse:
    """Makes one frame for all viewers of a tenant, and one for all of an owner. At most ``most`` streams an owner."""

    def __init__(
        self,
        database: Database,
        topics: Topics,
        drain: Drain,
        metrics: Metrics,
        most: int | None,
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._topics = topics
        self._drain = drain
        self._metrics = metrics
        self._most = most
        self._timings = timings
        self._tick = _Tick()
        self._looking = asyncio.Lock()
        self._looked: tuple[float, Look] | None = None
        self._viewers: Counter[Whose] = Counter()
        self._streams: Counter[Owner] = Counter()
        self._watched: Counter[RequestRef] = Counter()
        self._watching = asyncio.Event()

    async def run(self) -> None:
        """Look repeatedly until cancelled."""
        await asyncio.gather(
            keep_running(self._show, "live_failed", expected=(DatabaseUnavailableError,)),
            keep_running(self._measure, "queue_not_measured", expected=(DatabaseUnavailableError,)),
        )

    def wake(self) -> None:
        """Wake every stream, so that it notices that the gateway shuts down."""
        self._tick.over.set()

    @property
    def unread(self) -> int | None:
        """How many records no worker has read; None: that is not known."""
        return self._topics.unread

    async def look(self) -> Look:
        """A look at Postgres that began at most half a frame before the call: all who ask at about that time share it.

        Raises ``DatabaseUnavailableError``.
        """
        oldest = time.monotonic() - self._timings.frame / 2
        async with self._looking:
            if self._looked is None or self._looked[0] < oldest:
                self._looked = time.monotonic(), await look(self._database)
            return self._looked[1]

    async def open(self, caller: Principal, standing: Standing, ids: Collection[RequestRef]) -> EventStreamResponse:
        """The stream of frames for a caller. Raises ``TOO_MANY_STREAMS``, ``DatabaseUnavailableError``."""
        if self._most is not None and self._streams[caller.owner] >= self._most:
            raise OrchestraError(ErrorCode.TOO_MANY_STREAMS, retry_after=_NEXT_STREAM_SECONDS)
        await queue.totals(self._database, [whose(caller)])  # Without Postgres there would be no frame.
        return EventStreamResponse(self._chunks(caller, standing, frozenset(ids)))

    async def _chunks(
        self, caller: Principal, standing: Standing, ids: frozenset[RequestRef]
    ) -> AsyncGenerator[bytes, None]:
        mine, ready, sees = whose(caller), False, caller.as_operator.sees
        seen: dict[RequestRef, Mark] = {}
        with self._viewing(caller, ids):
            while not self._drain.begun:
                tick = self._tick
                told = tick.frames.get(mine, _KEEP_ALIVE)
                if ids <= tick.looked_for:
                    now = {ref: mark for ref in ids if (mark := tick.marks.get(ref)) and sees(mark.owner)}
                    changed = [ref.id for ref, mark in now.items() if seen.get(ref) != mark]
                    if ready and changed:
                        told += _event("changed", Changed(ids=changed))
                    seen, ready = now, True
                yield told
                try:
                    async with asyncio.timeout(self._timings.keep_alive):
                        await tick.over.wait()
                except TimeoutError:
                    yield _KEEP_ALIVE
                if time.monotonic() >= standing.due:
                    try:
                        await standing.check()
                    except OrchestraError:
                        return

    @contextmanager
    def _viewing(self, caller: Principal, ids: Iterable[RequestRef]) -> Iterator[None]:
        mine = whose(caller)
        self._streams[caller.owner] += 1
        self._viewers[mine] += 1
        self._watched.update(ids)
        self._metrics.live_viewers.inc()
        self._watching.set()
        try:
            yield
        finally:
            self._metrics.live_viewers.dec()
            for counter, keys in ((self._streams, [caller.owner]), (self._viewers, [mine]), (self._watched, ids)):
                _take(counter, keys)
            if not self._viewers:
                self._watching.clear()
                self._tick = _Tick()  # What was found will be old when the next viewer comes.

    async def _show(self) -> None:
        """Make frames while there are viewers."""
        while True:
            await self._watching.wait()
            began = time.monotonic()
            found = await self._frames()
            # A viewer that came during the look waits on the tick that is there now, not on the one before the look.
            before, self._tick = self._tick, found
            before.over.set()
            took = time.monotonic() - began
            await asyncio.sleep(max(self._timings.frame - took, _REST * took))

    async def _frames(self) -> _Tick:
        viewers, refs = list(self._viewers), frozenset(self._watched)
        tenants = {tenant for tenant, owner in viewers if owner is None}
        totals, marks = await asyncio.gather(
            queue.totals(self._database, viewers), requests.marks(self._database, refs)
        )
        frames: dict[Whose, bytes] = {}
        if tenants:
            found, newest = await asyncio.gather(self.look(), minutes.newest(self._database, tenants))
            for tenant in tenants:
                letters = await queue.open_letters(self._database, tenant)
                total = totals.get((tenant, None), Totals())
                frame = _frame(tenant, found, total, self.unread, letters, newest[tenant])
                frames[tenant, None] = _event("frame", frame)
        for tenant, owner in viewers:
            if owner is not None:
                frames[tenant, owner] = _event("frame", _own(totals.get((tenant, owner), Totals())))
        return _Tick(frames, marks, refs)

    async def _measure(self) -> None:
        """Keep the metrics of the queue and of the workers up to date, or show none."""
        try:
            while True:
                found, letters, known = await asyncio.gather(
                    self.look(), queue.open_letters(self._database, None), models.known_models(self._database)
                )
                self._metrics.note_models(known)
                self._metrics.note_queue(found.depth)
                self._metrics.note_workers(found.workers)
                self._metrics.dead_letters_open.set(letters.count)
                await asyncio.sleep(self._timings.measure)
        finally:
            self._metrics.forget()


def _take(counter: Counter[Any], keys: Iterable[Any]) -> None:
    for key in keys:
        counter[key] -= 1
        if not counter[key]:
            del counter[key]


def counted(depth: Depth, tenant: str, what: str) -> Count:
    """How many turns of a tenant are ``runnable`` or ``delayed``."""
    return Count(
        count=sum(getattr(group, what) for group in depth.groups if group.tenant == tenant), more=bool(depth.cut)
    )


def oldest(depth: Depth, tenant: str, totals: Totals) -> float | None:
    """For how many seconds the oldest turn of a tenant has waited that a worker could take now."""
    found = [group for group in depth.groups if group.tenant == tenant and group.oldest_seconds is not None]
    ages = [group.oldest_seconds for group in found]
    if depth.cut - {group.priority for group in found}:  # Some may wait behind all that were read.
        ages.append(totals.oldest_seconds)
    return max((age for age in ages if age is not None), default=None)


def count_of(found: Counted | None) -> Count:
    """A count as it is shown."""
    return Count(count=found.count, more=found.more) if found else Count(count=0, more=False)


def _frame(
    tenant: str,
    found: Look,
    totals: Totals,
    unread: int | None,
    letters: Counted,
    newest: Collection[minutes.Minute],
) -> LiveFrame:
    alive = [worker for worker in found.workers if worker.alive]
    takers = [worker for worker in alive if not worker.drains]
    states = [worker.state for worker in alive if worker.state]
    held = sorted({model.model for state in states for model in state.models if model.held_seconds is not None})
    return LiveFrame(
        at=datetime.now(UTC),
        open=totals.open_turns,
        parked=totals.parked_turns,
        runnable=counted(found.depth, tenant, "runnable"),
        delayed=counted(found.depth, tenant, "delayed"),
        unread=unread,
        in_progress=count_of(found.running.get(tenant)),
        oldest_seconds=oldest(found.depth, tenant, totals),
        held_models=held[:_MAX_SHOWN],
        workers=LiveWorkers(
            alive=len(alive),
            in_flight=sum(state.in_flight for state in states),
            draining=len(alive) - len(takers),
            capacity=sum(worker.state.capacity for worker in takers if worker.state),
        ),
        dead_letters=count_of(letters),
        minutes=[LiveMinute(**vars(each)) for each in newest],
    )


def _own(totals: Totals) -> OwnFrame:
    return OwnFrame(
        at=datetime.now(UTC),
        open=totals.open_turns,
        parked=totals.parked_turns,
        oldest_seconds=totals.oldest_seconds,
    )


def _event(name: str, data: BaseModel) -> bytes:
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
