"""One run: neighbours that call all the time, and what happens next to them, setting by setting."""

import asyncio
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import aiohttp
import orjson

from benchmarks.bench import Bench
from benchmarks.callers import RefusedError, open_caller
from benchmarks.cells import Cell
from benchmarks.fake_model import Settings
from benchmarks.load import Load, Plan, dumped
from benchmarks.meters import PARTS, attribute, machine_seconds, processes
from benchmarks.neighbours.attacks import ATTACKS, Target
from benchmarks.neighbours.flood import Flood
from benchmarks.question import Asking
from benchmarks.tally import Tally, Window, percentile
from orchestra.credentials import new_key
from orchestra.devstack.part import python_module
from orchestra.store import keys
from schemas.api.keys import CreateKey
from schemas.envelope import DEFAULT_TENANT

FLOOD, NEIGHBOURS = "flood", ("same tenant", "other tenant")
# Beside attacks: a producer, for which intake is a part of the way, and who asks whether a gateway is alive.
PRODUCER, HEALTH = "producer", "/healthz"
# More than the slots that one owner may have of two workers.
_REQUESTS, _CONNECTIONS = 2100, 64
_RATE = 8.0
_WARM_SECONDS, _LOOK_SECONDS = 5.0, 0.2
_NICE = 19
_QUIET, _POSTED, _HELD, _CANCELLED = "quiet", "posted", "held", "cancelled"
_ELSEWHERE, _NICED = "posted elsewhere", "posted, nice 19"
_WAITS, _PRODUCES = (Cell("neighbours", kind, rate=_RATE, llm_ms=0) for kind in ("wait", "kafka"))
_ANY_TIME = "2000-01-01T00:00:00Z"
_PIPE = asyncio.subprocess.PIPE


@dataclass
class Setting:
    """What was measured in one setting, round by round.

    ``cores``: processor seconds a second, by part. ``peaks``: the most resident memory of one process in MiB, by part.
    """

    windows: list[Window] = field(default_factory=list)
    cores: list[dict[str, float]] = field(default_factory=list)
    peaks: list[dict[str, float]] = field(default_factory=list)


class Run:
    """The settings of one stack, beside loads that never pause."""

    def __init__(self, bench: Bench, session: aiohttp.ClientSession, loads: Mapping[str, Load], key: str) -> None:
        self._bench = bench
        self._session = session
        self._loads = loads
        self._key = key
        self._settings: defaultdict[str, Setting] = defaultdict(Setting)

    @property
    def amiss(self) -> int:
        """Calls of neighbours that were answered wrongly, or not at all."""
        tallies = [load.tally for load in self._loads.values()]
        return sum(tally.wrong + tally.errors.total() + len(tally.open) for tally in tallies)

    async def flood(self, model: str, seconds: float) -> None:
        """Each setting of a flood once; those without an end for this many seconds."""
        flood = Flood([f"{url}/v1/messages" for url in self._bench.urls], self._key, model, _REQUESTS, _CONNECTIONS)
        await self._during(_QUIET, asyncio.sleep(seconds))
        took = await self._post(_POSTED, flood)
        await self._during(_HELD, asyncio.sleep(seconds))
        await self._during(_CANCELLED, self._cancel())
        await self._settle()
        # The same calls at the same pace, to a server that does nothing.
        nowhere, pause = f"{self._bench.model_url}/v1/chat/completions", _CONNECTIONS * took / _REQUESTS
        await self._post(_ELSEWHERE, replace(flood, urls=[nowhere], pause=pause))
        await self._post(_NICED, replace(flood, nice=_NICE))
        await self._cancel()
        await self._settle()

    async def attacks(self, seconds: float) -> None:
        """Each attack once, for this many seconds."""
        await self._during(_QUIET, asyncio.sleep(seconds))
        for attack in ATTACKS:
            target = Target(attack, self._bench.urls, self._bench.bootstrap, self._key)
            async with _process("benchmarks.neighbours.attacks", dumped(target)):
                await self._during(attack, asyncio.sleep(seconds))

    def figures(self) -> dict[str, Any]:
        """Of each setting."""
        now = time.perf_counter()
        return {
            name: {
                "latency_ms": {who: _latency(load.tally, each.windows, now) for who, load in self._loads.items()},
                "cores": {part: mean(cores[part] for cores in each.cores) for part in each.cores[0]},
                "peak_mib": {part: max(peaks[part] for peaks in each.peaks) for part in each.peaks[0]},
                "seconds": [window.end - window.begin for window in each.windows],
            }
            for name, each in self._settings.items()
        }

    async def _post(self, name: str, flood: Flood) -> float:
        """Measure while this is posted by a separate process; returns how long that was."""
        async with _process("benchmarks.neighbours.flood", dumped(flood)) as printed:
            return await self._during(name, _posted(printed))

    async def _during(self, name: str, happening: Awaitable[float | None]) -> float:
        """Measure until this is over, which may return processor seconds of its own; returns how long that was."""
        groups = self._bench.groups()
        for part in PARTS[:3]:
            reset_peaks(groups[part])
        before, busy, began = attribute(processes(), groups), machine_seconds()[0], time.perf_counter()
        harness = await happening or 0.0
        ended = time.perf_counter()
        after, busy = attribute(processes(), groups), machine_seconds()[0] - busy
        used = {part: after[part] - before[part] for part in groups if part != "load"} | {"flood": harness}
        used["others"] = max(0.0, busy - sum(used.values()))
        setting = self._settings[name]
        setting.windows.append(Window(began, ended))
        setting.cores.append({part: seconds / (ended - began) for part, seconds in used.items()})
        setting.peaks.append({part: max(map(peak_mib, groups[part])) for part in PARTS[:3]})
        await self._until_answered(ended)
        print(f"{name}: {ended - began:.1f} s", flush=True)
        return ended - began

    async def _until_answered(self, moment: float) -> None:
        """Wait until nothing is open that was asked before."""
        while any(due < moment for load in self._loads.values() for due in load.tally.open.values()):
            await asyncio.sleep(_LOOK_SECONDS)

    async def _cancel(self) -> None:
        """Cancel the flood."""
        cursor, headers = None, {"Authorization": f"Bearer {self._key}"}
        while True:
            body = {"filter": {"created_after": _ANY_TIME}, "cursor": cursor}
            url = f"{self._bench.urls[0]}/v1/requests/cancel"
            async with self._session.post(url, json=body, headers=headers) as response:
                response.raise_for_status()
                told = await response.json()
            cursor = told["next"]
            if not told["more"]:
                return

    async def _settle(self) -> None:
        if left := await self._bench.settle():
            raise RuntimeError(f"{left} requests of the flood are still open")


class Health:
    """Asks whether gateways are alive, each in turn."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        self._session = session
        self._urls = urls

    async def ask(self, number: int) -> float:
        """See ``benchmarks.callers.Caller``."""
        async with self._session.get(f"{self._urls[number % len(self._urls)]}{HEALTH}") as response:
            if response.status != 200:
                raise RefusedError(str(response.status))
        return time.perf_counter()


@asynccontextmanager
async def open_run(bench: Bench, *, attacked: bool) -> AsyncIterator[Run]:
    """A run with its neighbours, each with a key of its own."""
    made = {name: new_key() for name in (FLOOD, *NEIGHBOURS)}
    for name, key in made.items():
        tenant = "other" if name == NEIGHBOURS[1] else DEFAULT_TENANT
        await keys.create(bench.database, tenant, key, CreateKey(name=name))
    await bench.set_model(Settings())
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        loads = {}
        for name in (*NEIGHBOURS, PRODUCER) if attacked else NEIGHBOURS:
            cell, own = (_PRODUCES, []) if name == PRODUCER else (_WAITS, [made[name].text])
            plan = Plan(cell, Asking(secrets.token_hex(4), own), bench.urls, bench.bootstrap, 0, 0, 0)
            caller = open_caller(cell.kind, plan.asking, cell.tokens, plan.urls, plan.bootstrap)
            loads[name] = Load(plan, await stack.enter_async_context(caller))
        if attacked:
            loads[HEALTH] = Load(plan, Health(session, bench.urls))
        for load in loads.values():
            await stack.enter_async_context(load.sending())
        await asyncio.sleep(_WARM_SECONDS)
        yield Run(bench, session, loads, made[FLOOD].text)


async def _posted(printed: asyncio.StreamReader) -> float:
    """Wait for the result of a flood; returns the processor seconds of its process."""
    told = orjson.loads(await printed.read())
    print(f"posted in {told['seconds']:.1f} s: {told['statuses']}", flush=True)
    seconds: float = told["cpu_seconds"]
    return seconds


@asynccontextmanager
async def _process(module: str, told: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A process that runs this module with this input, from its first line on; it is ended after the body.

    Returns what it prints after that line.
    """
    command = python_module(module)
    process = await asyncio.create_subprocess_exec(*command, stdin=_PIPE, stdout=_PIPE, stderr=sys.stderr)
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(told)
        process.stdin.write_eof()
        await process.stdout.readline()
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def reset_peaks(pids: Sequence[int]) -> None:
    """Reset the peak of the memory of each of these processes."""
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mib(pid: int) -> float:
    """The most resident memory of a process since then."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return kib / 1024


def _latency(tally: Tally, windows: Sequence[Window], now: float) -> dict[str, float]:
    ordered = tally.latencies_ms(windows, now)
    return {"samples": len(ordered), "p50": percentile(ordered, 0.5), "p95": percentile(ordered, 0.95)}
