"""Samples the running services: their counters and memory."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from faults.ground import Scene
from faults.processes import Process

_EVERY_SECONDS = 2.0
_PREFIX = "orchestra_worker_"


class Sampler:
    """``counts``: the workers' counters, summed over all their processes as far as they were seen.

    ``memory``: resident bytes by process and life (name, pid), as (seconds since 1970, bytes).
    """

    def __init__(self, scene: Scene) -> None:
        self.memory: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        self._scene = scene
        self._last: dict[tuple[str, int], dict[str, float]] = {}

    @property
    def counts(self) -> Counter[str]:
        """Sums by metric, without prefix and suffix of its name."""
        total: Counter[str] = Counter()
        for counters in self._last.values():
            total.update({name: round(value) for name, value in counters.items()})
        return total

    def growth(self, *kinds: str) -> dict[str, float]:
        """Growth of each process's memory from the first third of its life to its end (0.1: a tenth)."""
        found: dict[str, float] = {}
        for (name, _), samples in self.memory.items():
            third = len(samples) // 3
            if third >= 3 and name.startswith(kinds):
                early = max(size for _, size in samples[third : third + 3])
                found[name] = max(found.get(name, -1.0), samples[-1][1] / early - 1)
        return found

    async def run(self) -> None:
        """Sample until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(2)) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(_EVERY_SECONDS)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Sample once."""
        scene = self._scene
        await asyncio.gather(*(self._read(session, worker) for worker in scene.workers if worker.ready))
        for process in (*scene.workers, *scene.gateways, scene.llm):
            if process.ready and process.pid:
                try:
                    size = psutil.Process(process.pid).memory_info().rss
                except psutil.Error:
                    continue
                self.memory[process.name, process.pid].append((time.time(), size))

    async def _read(self, session: aiohttp.ClientSession, worker: Process) -> None:
        pid = worker.pid
        try:
            async with session.get(f"http://127.0.0.1:{worker.part.env['METRICS_PORT']}/metrics") as response:
                page = await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return
        if pid:
            self._last[worker.name, pid] = counters(page)


def counters(page: str) -> dict[str, float]:
    """The counters on a worker's metrics page, by name without prefix and suffix; labelled ones are summed."""
    return {
        family.name.removeprefix(_PREFIX): sum(each.value for each in family.samples if each.name.endswith("_total"))
        for family in text_string_to_metric_families(page)
        if family.type == "counter"
    }


@asynccontextmanager
async def sampling(scene: Scene) -> AsyncIterator[Sampler]:
    """A sampler that runs during the body."""
    made = Sampler(scene)
    running = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running  # Raises the error that ended it early: nothing would have been counted.
