"""Hostile neighbours: a flood, bombs, strangers and a forger at once. Other callers must not notice.

The flood's answers are slowed to a trickle until the campaign heals the model. Until then it keeps its slots, so
every answer before that was given next to it.
"""

import asyncio
import math
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import aiohttp

from faults.bombs import MAX_BYTES, bomb
from faults.evidence import Evidence, Place
from faults.forger import Forger
from faults.ground import Scene, Setup
from faults.injected import Injected, Limit
from faults.ledger import Ledger, Way, read_ledger
from faults.load import Load, Plan, open_load
from faults.poison import BOMBS, Poisoner
from faults.processes import Process
from faults.question import SLOW
from faults.recovery import until_retaken
from faults.sampler import Sampler, counters
from faults.strangers import REFUSED, besiege
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode

FLOOD, NEIGHBOURS = "flood", ("same tenant", "other tenant")
_WORKERS, _SLOTS, _SHARE = 3, 40, 75
_HOLDS = _SLOTS * _SHARE // 100
# More than all slots of all workers, and more than one owner may have open.
_FLOOD, _MAX_OPEN = 2 * _WORKERS * _SLOTS, 200
_FLOOD_RATE, _FLOOD_ON_RATE = 200.0, 5.0
_LOOK_SECONDS = 0.1
_PROBE_SECONDS = 0.25
_ANSWER_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
_ANSWERS = 60
_ENDLESS = 20_000
_QUIET, _ATTACKED, _KILLED = "quiet", "under attack", "while workers die"

# A record produced directly to Kafka would have no owner.
_WAYS: Mapping[Way, float] = {
    "poll": 0.15, "wait": 0.15, "stream": 0.2,
    "chat": 0.1, "chat_stream": 0.15, "response": 0.1, "response_stream": 0.15,
}  # fmt: skip
_ORDINARY = Plan(conversations=_ENDLESS, turns=3, concurrency=6, ways=_WAYS, cancels=0, keyless=0)
_LOADS = ((FLOOD, Plan()), *((name, _ORDINARY) for name in NEIGHBOURS))
_HELD = """
SELECT worker_id, count(*) AS n FROM requests WHERE tenant = :tenant AND user_name = :owner AND status = 'in_progress'
GROUP BY worker_id
"""
_PENDING = "SELECT count(*) AS n FROM requests WHERE tenant = :tenant AND user_name = :owner AND status = 'pending'"
_ENDED = """
SELECT count(*) AS n FROM requests WHERE tenant = :tenant AND user_name = :owner AND finished_at IS NOT NULL
"""
_OF_NEIGHBOURS = """
SELECT id, fence, worker_id FROM requests WHERE user_name <> :owner AND status = 'in_progress' AND losses = 0
"""
_REFUSED_BOMBS = "SELECT count(*) AS n FROM dead_letters WHERE reason = :reason"
_THE_FLOOD = {"tenant": DEFAULT_TENANT, "owner": f"key:{FLOOD}"}

# Gateways that require keys: one for the flood, one for each neighbour.
SETUP = Setup(
    workers=_WORKERS,
    oracle="latency_ms=100,gap_ms=10,slow_ms=100,drip_ms=8000",
    worker={"WORKER_CONCURRENCY": str(_SLOTS), "MAX_OWNER_SHARE": str(_SHARE)},
    gateway={"OPEN_MODE": "false", "MAX_OPEN_BY_OWNER": str(_MAX_OPEN)},
    idle_seconds=30,
    keys={FLOOD: DEFAULT_TENANT, NEIGHBOURS[0]: DEFAULT_TENANT, NEIGHBOURS[1]: "neighbours"},
)


class Hostile:
    """One siege. ``forged``: places of the events that no worker wrote."""

    def __init__(self, scene: Scene, ledger: Ledger, sampler: Sampler, limit: Limit) -> None:
        self._scene = scene
        self._ledger = ledger
        self._sampler = sampler
        self._limit = limit
        self._poisoner = Poisoner()
        self._stages = [(_QUIET, 0.0)]
        self._flood = Injected("flood of slow requests of one owner", _MAX_OPEN)
        self._kills = Injected("worker kill -9 beside hostile neighbours", 0)
        self._bombs = Injected("bombs of every codec", 0)
        self._strangers = Injected("half-open connections, costly heads", 0)
        self._forger = Forger(Injected("forged events and cancels", 0))

    @property
    def forged(self) -> set[Place]:
        """See the class."""
        return self._forger.events

    async def run(self, kills: int, bombs: int) -> Sequence[Injected]:
        """Kill ``kills`` workers one by one; send ``bombs`` of each codec before that, and as many meanwhile."""
        self._kills.asked, self._bombs.asked = kills, 2 * bombs * len(BOMBS)
        scene = self._scene
        for codec, size in MAX_BYTES.items():  # Built beforehand: that takes seconds.
            await asyncio.to_thread(bomb, codec, size)
        async with AsyncExitStack() as stack:
            flood, *neighbours = [await stack.enter_async_context(self._load(*each)) for each in _LOADS]
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            loads = [tasks.create_task(load.run()) for load in neighbours]
            await self._until_answered(neighbours, _ANSWERS)
            self._stages.append((_ATTACKED, time.time()))
            tasks.create_task(_flood_on(flood))
            await self._until(self._full, "the flood did not get its whole share of every worker")
            hostile = (
                self._watch(), self._probe(), self._forger.run(scene),
                *(besiege(url, scene.keys[FLOOD], self._strangers) for url in scene.urls),
            )  # fmt: skip
            async with _beside(*hostile):
                await self._bomb(bombs)
                await self._until_answered(neighbours, _ANSWERS)
                self._stages.append((_KILLED, time.time()))
                bombing = tasks.create_task(self._bomb(bombs))
                for _ in range(kills):
                    await self._kill()
                await bombing
                await self._until_answered(neighbours, _ANSWERS)
                for load in neighbours:
                    load.stop()
                await asyncio.gather(*loads)
                await self._until(self._full, "the flood did not hold its share when its neighbours were answered")
                (ended,) = await scene.database.run(_ENDED, **_THE_FLOOD)
                if ended.n:
                    self._flood.wrong.append(f"{ended.n} of the flood were over before their neighbours' requests")
            flood.stop()
        self._tell(neighbours, flood)
        await self._count_unsigned()
        return [self._flood, self._kills, self._bombs, self._strangers, self._forger.done]

    def wrong(self, evidence: Evidence) -> Iterator[str]:
        """Violations found once everything was over."""
        yield from self._poisoner.wrong(evidence)
        yield from self._forger.wrong(evidence)
        for row in evidence.requests:
            if row.status != "completed":
                yield f"{row.id} of {row.tenant} is {row.status} ({row.error_code}), and was to be answered"

    # The flood.

    async def _full(self) -> bool:
        """Whether the flood has its full share of every worker, with more waiting."""
        alive = {worker.worker_id() for worker in self._scene.workers if worker.ready}
        held = {str(row.worker_id): row.n for row in await self._scene.database.run(_HELD, **_THE_FLOOD)}
        (pending,) = await self._scene.database.run(_PENDING, **_THE_FLOOD)
        return len(alive) == _WORKERS and pending.n > 0 and all(held.get(str(id)) == _HOLDS for id in alive)

    async def _watch(self) -> None:
        """Check its share repeatedly."""
        while True:
            for row in await self._scene.database.run(_HELD, **_THE_FLOOD):
                self._flood.counts["flood_capped"] += row.n == _HOLDS
                if row.n > _HOLDS:
                    self._flood.wrong.append(f"the flood held {row.n} slots of a worker, its share is {_HOLDS}")
            await asyncio.sleep(_LOOK_SECONDS)

    # Meanwhile.

    async def _kill(self) -> None:
        """`kill -9` a worker that runs a neighbour's turns; return once others have taken them over."""
        while not self._limit.over:
            rows = await self._scene.database.run(_OF_NEIGHBOURS, owner=_THE_FLOOD["owner"])
            by_id = {worker.worker_id(): worker for worker in self._scene.workers if worker.ready}
            victim = next((str(row.worker_id) for row in rows if str(row.worker_id) in by_id), None)
            if victim and by_id[victim].signal(signal.SIGKILL):
                since = self._kills.note()
                taken: list[tuple[UUID, int]] = [(row.id, row.fence) for row in rows if str(row.worker_id) == victim]
                self._kills.recoveries.append(await until_retaken(self._scene, taken, since))
                await self._until(self._full, "a worker that came back did not give the flood its share")
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def _probe(self) -> None:
        """Check the liveness of every gateway, each time on a new connection."""
        timeout = aiohttp.ClientTimeout(_ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                for gateway in self._scene.gateways:
                    if problem := await _unwell(session, gateway):
                        self._strangers.wrong.append(f"{gateway.name} did not answer /healthz: {problem}")
                    self._strangers.counts["healthz answered"] += not problem
                await asyncio.sleep(_PROBE_SECONDS)

    async def _bomb(self, each: int) -> None:
        """Send this many of each codec; return once all sent so far are dead letters."""
        sent = await self._poisoner.run(self._scene, BOMBS * each, self._limit)
        self._bombs.times += sent.times
        self._bombs.counts += sent.counts
        await self._until(self._bombs_refused, "a bomb did not become a dead letter")

    async def _bombs_refused(self) -> bool:
        (row,) = await self._scene.database.run(_REFUSED_BOMBS, reason=ErrorCode.TOO_LARGE)
        self._bombs.counts["bomb_refused"] = row.n
        return bool(row.n >= self._bombs.done)

    @asynccontextmanager
    async def _load(self, name: str, plan: Plan) -> AsyncIterator[Load]:
        scene = self._scene
        async with open_load(plan, scene.urls, scene.kafka.bootstrap, self._ledger, scene.keys[name]) as load:
            yield load

    async def _until_answered(self, loads: Sequence[Load], more: int) -> None:
        """Wait until each neighbour has received this many more answers."""
        before = [load.counts["completed"] for load in loads]

        async def answered() -> bool:
            return all(load.counts["completed"] >= had + more for load, had in zip(loads, before, strict=True))

        await self._until(answered, f"a neighbour did not get {more} answers")

    async def _until(self, true: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        """Wait for a condition; on a timeout, ``otherwise`` is a violation."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not await true():
                    await asyncio.sleep(_LOOK_SECONDS)
                return
        self._flood.wrong.append(f"{otherwise} within {_PATIENCE_SECONDS:.0f} s")

    # The report.

    def _tell(self, neighbours: Sequence[Load], flood: Load) -> None:
        """Record the figures: not part of a promise, but worth knowing."""
        counts = self._flood.counts
        self._flood.times = [time.time()] * flood.counts["flood_acked"]
        counts["refused at the door"] = flood.counts["flood_refused"]
        if given_up := sum(load.counts["given_up"] for load in neighbours):
            self._flood.wrong.append(f"{given_up} requests of neighbours were abandoned")
        for stage, seconds in self._answer_seconds().items():
            counts[f"{stage}: answers of neighbours"] = len(seconds)
            counts[f"{stage}: p95 of neighbours, ms"] = round(1000 * sorted(seconds)[int(0.95 * len(seconds))])
        for (name, _), samples in self._sampler.memory.items():
            for at, size in samples:
                figure = f"{self._stage(at)}: most memory of a {name.partition('-')[0]}, MiB"
                counts[figure] = max(counts[figure], size >> 20)

    def _stage(self, at: float) -> str:
        return next(name for name, began in reversed(self._stages) if began <= at)

    def _answer_seconds(self) -> dict[str, list[float]]:
        """Seconds of each answer, by the stage in which its request was first sent."""
        sent: dict[str, float] = {}
        found: dict[str, list[float]] = defaultdict(list)
        for entry in read_ledger(self._scene.ledger):
            if entry.part == "original" and entry.what == "sent":
                sent.setdefault(entry.key, entry.at)
            elif entry.part == "original" and entry.what == "answered":
                found[self._stage(sent[entry.key])].append(entry.at - sent[entry.key])
        return found

    async def _count_unsigned(self) -> None:
        """Count what gateways recognised as forged."""
        async with aiohttp.ClientSession() as session:
            for url in self._scene.urls:
                async with session.get(f"{url}/metrics") as response:
                    unsigned = counters(await response.text())["orchestra_gateway_events_unsigned"]
                self._forger.done.counts["forged_event_refused"] += round(unsigned)
        self._forger.done.asked = self._forger.done.done
        self._strangers.asked = self._strangers.done
        if not self._strangers.counts[REFUSED]:
            self._strangers.wrong.append("no connection was refused: it was no siege")


async def _flood_on(flood: Load) -> None:
    """Send all at once, then keep sending, so that some is refused at the gateway."""
    await flood.flood(_FLOOD_RATE, _FLOOD / _FLOOD_RATE, SLOW)
    await flood.flood(_FLOOD_ON_RATE, math.inf, SLOW)


async def _unwell(session: aiohttp.ClientSession, gateway: Process) -> str | None:
    try:
        async with session.get(f"{gateway.url}/healthz") as response:
            return None if response.status == 200 else str(response.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return type(error).__name__


@asynccontextmanager
async def _beside(*running: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these next to the body; an error in one of them ends it."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(work) for work in running]
        yield
        for task in started:
            task.cancel()
