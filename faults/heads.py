"""Head-of-line blocking: conversations that are slow, always fail or kill workers block only themselves."""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import aiohttp

from faults.client import Direct, Http, product_client
from faults.door import Door
from faults.ground import Scene
from faults.injected import Injected, Limit
from faults.ledger import Ledger, Way
from faults.question import FAIL, SLOW, Question
from faults.recovery import holder
from faults.turn import Conditions, Turn

# On two busy cores a short answer may take a while; one blocked by a slow one takes as long as that.
_MAX_SLOWDOWN = 3.0
_AT_ONCE = 25


class Heads:
    """The three trials, one after the other."""

    def __init__(self, scene: Scene, ledger: Ledger, limit: Limit) -> None:
        self._scene = scene
        self._ledger = ledger
        self._limit = limit
        self._killed: set[str] = set()

    async def beside_slow_ones(self, short: int, slow: int) -> Injected:
        """Measure short answers alone, then next to slow ones and a conversation that always fails."""
        done = Injected("slow and failing conversations beside short ones", slow)
        async with self._conditions() as conditions:
            alone = await self._short(conditions, short)
            beside = [asyncio.create_task(_turn(conditions, SLOW).run()) for _ in range(slow)]
            failing = asyncio.create_task(_conversation(conditions, FAIL, 1))
            for _ in beside:
                done.note()
            together = await self._short(conditions, short)
            early = sum(task.done() for task in beside)
            done.counts["p95 alone, ms"] = round(1000 * _p95(alone))
            done.counts["p95 beside, ms"] = round(1000 * _p95(together))
            if _p95(together) > _MAX_SLOWDOWN * max(0.5, _p95(alone)):
                done.wrong.append(
                    f"short answers: p95 {_p95(alone):.2f} s alone, {_p95(together):.2f} s beside slow ones"
                )
            if early:
                done.wrong.append(f"{early} slow answers ended before the short ones: nothing was tested")
            await asyncio.gather(*beside, failing)
        return done

    async def killing_its_worker(self, way: Way, tries: int, others: int) -> Injected:
        """A request that kills every worker running it: it fails after its last try, and all others are answered."""
        done = Injected("a request that kills its worker", tries)
        async with self._conditions() as conditions, self._conditions() as besides:
            turn = _turn(conditions, SLOW, way)
            running, beside = asyncio.create_task(turn.run()), asyncio.create_task(self._short(besides, others))
            id = await turn.clear() if way != "wait" else None
            while not running.done() and not self._limit.over:
                await self._kill_holder(done, id or await self._newest())
                await asyncio.sleep(0.1)
            await beside
            if running.done() and (conditions.counts["failed"] != 1 or done.done != tries):
                done.wrong.append(
                    f"it killed {done.done} workers in {tries} tries; it ended as {dict(conditions.counts)}"
                )
            if besides.counts["completed"] != others:
                done.wrong.append(f"endings of the {others} requests next to it: {dict(besides.counts)}")
            running.cancel()
            await asyncio.wait([running])
        return done

    async def _kill_holder(self, done: Injected, id: UUID | None) -> None:
        worker = await holder(self._scene, id) if id else None
        if worker is None or worker in self._killed:  # Already dead; its lease has not expired.
            return
        for process in self._scene.workers:
            if process.worker_id() == worker and process.signal(signal.SIGKILL):
                self._killed.add(worker)
                done.note()

    async def _newest(self) -> UUID | None:
        rows = await self._scene.database.run(
            "SELECT id FROM requests WHERE caller_waits ORDER BY created_at DESC LIMIT 1"
        )
        return rows[0].id if rows else None

    async def _short(self, conditions: Conditions, count: int) -> list[float]:
        free = asyncio.Semaphore(_AT_ONCE)

        async def one() -> float:
            async with free:
                began = time.monotonic()
                await _turn(conditions).run()
                return time.monotonic() - began

        return await asyncio.gather(*(one() for _ in range(count)))

    @asynccontextmanager
    async def _conditions(self) -> AsyncIterator[Conditions]:
        direct, counts = Direct(self._scene.kafka.bootstrap), Counter[str]()
        urls, patience = self._scene.urls, 300.0
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
            product_client(urls, patience) as client,
        ):
            try:
                yield Conditions(
                    urls,
                    Http(session),
                    Door(session),
                    direct,
                    lambda: client,
                    self._ledger,
                    counts,
                    random.Random(),
                    64,
                    patience,
                    None,
                )
            finally:
                await direct.close()


def _turn(conditions: Conditions, note: str = "", way: Way = "poll") -> Turn:
    return Turn(conditions, Question(uuid4(), 0, uuid4().hex, note), way)


async def _conversation(conditions: Conditions, note: str, turns: int) -> None:
    conversation = uuid4()
    for ordinal in range(turns):
        await Turn(conditions, Question(conversation, ordinal, uuid4().hex, note), "poll").run()


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds))]
