"""The previous release beside this one: an upgrade in its order and the way back, under load."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from faults.checker import check
from faults.collect import collect, until_settled
from faults.ground import MODEL, MODELS
from faults.ledger import open_ledger
from faults.load import Load, Plan, open_load
from faults.oracle import Oracle, Spec
from faults.proxy import Proxy, proxy
from faults.question import write_agent
from tests.support.gateway import own_env
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.previous_release import previous_release
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

HOST = "127.0.0.1"
# A turn takes 0.8 s: calls and streams are open whenever a process leaves, and starting others is not slowed down.
ORACLE = Spec(latency_ms=300, gap_ms=70)
WAYS = {"wait": 0.2, "poll": 0.2, "stream": 0.3, "task": 0.15, "kafka": 0.15}
# More than there is time for: the load ends with the last step.
PLAN = Plan(conversations=2_000, turns=4, concurrency=8, ways=WAYS, impostors=0, patience=120)
# What each process does in each step, at least.
WORK = 8
RESUMED = 10
# Events that a gateway does not understand, or that no worker of its deployment has signed.
LOST = ("orchestra_gateway_events_skipped_total", "orchestra_gateway_events_unsigned_total")
SETTLE_SECONDS = 60


@dataclass(frozen=True)
class Member:
    """A worker or a gateway, where its metrics are, and the one that counts its work.

    ``lost``: how many events of earlier tests a gateway has read to catch up, and could make no use of.
    """

    service: Service
    url: str
    counter: str
    lost: tuple[float, ...] = ()

    async def done(self) -> float:
        """How much it has done."""
        return await metric(self.url, self.counter)

    async def more(self, before: float) -> None:
        """Wait until it has done enough since."""

        async def enough() -> bool:
            return await self.done() >= before + WORK

        await eventually(enough, seconds=60, pause=0.1)

    async def drain(self) -> None:
        """End it as an upgrade does, with SIGTERM."""
        self.service.terminate()
        assert await self.service.ended() == 0, self.service.tail()


@pytest.fixture
async def new(stack: Stack, tmp_path: Path) -> AsyncIterator[Services]:
    """Services of the code as it is, on tables that it has migrated."""
    write_agent(agents := tmp_path / "agents")
    started = Services({**await own_env(stack), "LLM_MODEL": MODEL, "AGENTS_DIR": str(agents)}, tmp_path)
    yield started
    await started.close()


@pytest.fixture
async def old(new: Services, tmp_path: Path) -> AsyncIterator[Services]:
    """Services of the previous release, on the same tables and topics."""
    (folder := tmp_path / "previous").mkdir()
    started = Services(new.env, folder, previous_release(tmp_path / "release"))
    yield started
    await started.close()


async def test_an_upgrade_and_the_way_back_lose_nothing(
    stack: Stack, old: Services, new: Services, tmp_path: Path
) -> None:
    """Processes of the previous release and of this one serve together, and each request is answered once, in order."""
    began, calls, asked, gateways = time.time(), tmp_path / "calls.jsonl", tmp_path / "ledger.jsonl", list[str]()
    async with (
        llm_address(new, old, calls) as llm,
        open_ledger(asked) as ledger,
        open_load(PLAN, gateways, stack.bootstrap, ledger) as load,
        asyncio.TaskGroup() as tasks,
    ):
        # The previous release by itself.
        old_llm = await join_llm(old, llm)
        old_worker, old_gateway = await asyncio.gather(join_worker(old), join_gateway(old, gateways))
        tasks.create_task(load.run())
        await at_work(old_worker, old_gateway)
        # The upgrade: LLM service, workers, gateways; both releases side by side before the old parts leave.
        new_llm = await join_llm(new, llm)
        await old_llm.stop()
        await at_work(old_worker, old_gateway)
        new_worker, new_gateway = await asyncio.gather(join_worker(new), join_gateway(new, gateways))
        await at_work(old_worker, new_worker, old_gateway, new_gateway)
        await streams_changed_gateways(load)
        await old_worker.drain()
        await leave(old_gateway, gateways)
        await at_work(new_worker, new_gateway)
        # The way back: gateways, workers, LLM service.
        old_worker, old_gateway = await asyncio.gather(join_worker(old), join_gateway(old, gateways))
        await at_work(old_worker, new_worker, old_gateway, new_gateway)
        await leave(new_gateway, gateways)
        await new_worker.drain()
        await at_work(old_worker, old_gateway)
        await join_llm(old, llm)
        await new_llm.stop()
        await at_work(old_worker, old_gateway)
        load.stop()
    assert await until_settled(new.env["DATABASE_URL"], stack.bootstrap, SETTLE_SECONDS) is None
    evidence = await collect(new.env["DATABASE_URL"], stack.bootstrap, asked, calls, since=began)
    evidence.worker_faults = 0
    findings = check(evidence)

    assert [] == findings.lines()
    assert ([], []) == (evidence.dead_letters, evidence.published_dead_letters)
    assert {"completed", "cancelled"} == {request.status for request in evidence.requests}
    assert load.counts["given_up"] == 0
    # What was to be tried was tried.
    assert set(WAYS) == {entry.way for entry in evidence.entries if entry.what == "answered"}
    assert findings.sometimes["resumed_elsewhere"] >= RESUMED


@asynccontextmanager
async def llm_address(new: Services, old: Services, calls: Path) -> AsyncIterator[Proxy]:
    """The one address that workers have for the LLM service, as of a load balancer."""
    with calls.open("a", encoding="utf-8") as log:
        runner = web.AppRunner(Oracle(ORACLE, log).app(), handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port := free_port()).start()
            models = calls.with_name("models.toml")
            models.write_text(MODELS.format(model=MODEL, url=f"http://{HOST}:{port}"))
            async with proxy(HOST, port) as opened:
                for services in (new, old):
                    services.env |= {"MODELS_FILE": str(models), "LLM_SERVICE_URL": f"http://{HOST}:{opened.port}"}
                yield opened
        finally:
            await runner.cleanup()


async def join_llm(services: Services, address: Proxy) -> Service:
    """Start another LLM service, which new connections go to."""
    url = services.env["LLM_SERVICE_URL"]
    service = await services.llm()
    services.env["LLM_SERVICE_URL"] = url
    address.upstream = HOST, int(service.url.rpartition(":")[2])
    return service


async def join_worker(services: Services) -> Member:
    """Start another worker."""
    port = free_port()
    service = await services.worker(METRICS_PORT=str(port))
    return Member(service, f"http://{HOST}:{port}", "orchestra_worker_attempts_total")


async def join_gateway(services: Services, gateways: list[str]) -> Member:
    """Start another gateway, for callers to use."""
    service = await services.gateway()
    gateways.append(service.url)
    return Member(service, service.url, "orchestra_gateway_accepted_total", await lost(service.url))


async def lost(url: str) -> tuple[float, ...]:
    """How many events a gateway could make no use of, by reason."""
    return tuple([await metric(url, name) for name in LOST])


async def leave(gateway: Member, gateways: list[str]) -> None:
    """Drain a gateway that callers no longer use, and that has understood every event of both releases."""
    gateways.remove(gateway.url)
    assert await metric(gateway.url, "orchestra_gateway_events_total") > 0
    assert await lost(gateway.url) == gateway.lost
    await gateway.drain()


async def at_work(*members: Member) -> None:
    """Wait until each of them has done its share of the load, from now on."""
    before = [await member.done() for member in members]
    await asyncio.gather(*(member.more(done) for member, done in zip(members, before, strict=True)))


async def streams_changed_gateways(load: Load) -> None:
    """Wait until streams were left, and so resumed on the other gateway, either way."""
    before = load.counts["disconnects"]
    await eventually(lambda: load.counts["disconnects"] >= before + 2 * RESUMED, seconds=60)
