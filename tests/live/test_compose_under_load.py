"""compose.yaml under load: its services scale, die and are upgraded, and the ledger counts. Skipped without Docker."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import docker
import pytest
from aiohttp import web

from faults.checker import check
from faults.collect import collect, until_settled
from faults.ground import MODEL, MODELS
from faults.ledger import open_ledger
from faults.load import Load, Plan, open_load
from faults.oracle import Oracle, Spec
from faults.question import write_agent
from tests.support.compose import SERVICES, Compose, need_compose, open_compose
from tests.support.ports import free_port
from tests.support.previous_release import COMMIT_FILE, check_out
from tests.support.tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

FILES = ("compose.yaml", "compose.two-gateways.yaml", "compose.three-brokers.yaml")
WAYS = {"wait": 0.2, "poll": 0.2, "stream": 0.3, "task": 0.15, "kafka": 0.15}
# More than there is time for: the load ends with the last step.
PLAN = Plan(conversations=5_000, turns=4, concurrency=8, ways=WAYS, impostors=0, patience=240)
# Questions that are answered after each step, at least.
MORE = 20
SETTLE_SECONDS = 120
# While one container of them is away, the others do its work.
REDUNDANT = ("gateway", "kafka")
OVERRIDE = """
x-own: &own
  environment: {{LLM_MODEL: {model}, MODELS_FILE: /etc/orchestra/models.toml, AGENTS_DIR: /etc/orchestra/agents}}
  volumes: ["{folder}/models.toml:/etc/orchestra/models.toml:ro", "{folder}/agents:/etc/orchestra/agents:ro"]
services: {{llm_service: *own, gateway: *own, workers: *own}}
"""


async def test_services_scale_and_die_and_lose_nothing(tmp_path: Path) -> None:
    """While workers scale and one container of each service is killed, each request is answered once, in order."""
    need_compose(ROOT, FILES)
    broken_off: list[tuple[float, float]] = []
    async with (
        oracle(tmp_path) as override,
        running(ROOT, *FILES, override) as compose,
        under_load(compose, tmp_path, broken_off) as load,
    ):
        for workers in (3, 1):
            scale = f"up --detach --wait --no-deps --no-recreate --scale workers={workers} workers"
            await asyncio.to_thread(compose.run, *scale.split())
            await more(load)
        for service in (*SERVICES, "proxy"):
            container, *_ = compose.containers(service)
            since = time.time()
            await asyncio.to_thread(container.kill)
            if service == "llm_service":
                broken_off.append((since, time.time()))
            if service in REDUNDANT:
                await more(load)
            await asyncio.to_thread(container.start)
            await eventually(partial(compose.is_healthy, service), seconds=120, pause=1)
            await more(load)


async def test_an_upgrade_by_the_commands_of_the_page_loses_nothing(tmp_path: Path) -> None:
    """From the images of the previous release to those of this one; each request is answered once, in order."""
    need_compose()
    page = (ROOT / "docs/howto/upgrade.md").read_text("utf-8")
    block = re.findall(r"^## In containers$.*?```text\n(.*?)```", page, re.DOTALL | re.MULTILINE)[0]
    check_out(COMMIT_FILE.read_text("utf-8").strip(), ROOT, previous := tmp_path / "previous")
    async with (
        oracle(tmp_path) as override,
        running(previous, "compose.yaml", override) as compose,
        under_load(compose, tmp_path) as load,
    ):
        await more(load)
        compose.folder = ROOT
        for command in block.splitlines():
            await asyncio.to_thread(compose.run, *command.removeprefix("docker compose ").split())
            await more(load)


@asynccontextmanager
async def oracle(folder: Path) -> AsyncIterator[str]:
    """A model that containers reach through Docker's bridge; the file that makes compose use it."""
    with closing(docker.from_env(timeout=60)) as client:
        address = client.networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    with (folder / "calls.jsonl").open("a", encoding="utf-8") as log:
        # A turn takes 0.8 s: calls and streams are open whenever a container leaves.
        runner = web.AppRunner(Oracle(Spec(latency_ms=300, gap_ms=70), log).app(), handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, address, port := free_port()).start()
            (folder / "models.toml").write_text(MODELS.format(model=MODEL, url=f"http://host.docker.internal:{port}"))
            write_agent(folder / "agents")
            (override := folder / "override.yaml").write_text(OVERRIDE.format(model=MODEL, folder=folder))
            yield str(override)
        finally:
            await runner.cleanup()


@asynccontextmanager
async def running(folder: Path, *files: str) -> AsyncIterator[Compose]:
    """The system of this checkout, without which the loop would stand still while it starts."""
    opened = open_compose(folder=folder, files=files)
    compose = await asyncio.to_thread(opened.__enter__)
    try:
        yield compose
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


@asynccontextmanager
async def under_load(
    compose: Compose, folder: Path, broken_off: Sequence[tuple[float, float]] = ()
) -> AsyncIterator[Load]:
    """Requests by every way; after the block each of them is checked against all that was stored and sent.

    ``broken_off``: times at which the block broke off calls, as in ``faults.evidence.Evidence``.
    """
    host = "127.0.0.1"
    bootstrap = f"{host}:{compose.ports['KAFKA_PORT']}"
    database = f"postgres://user:password@{host}:{compose.ports['POSTGRES_PORT']}/llm_orchestra?sslmode=disable"
    gateways, asked = [f"http://{host}:{compose.ports['GATEWAY_PORT']}"], folder / "ledger.jsonl"
    async with (
        open_ledger(asked) as ledger,
        open_load(PLAN, gateways, bootstrap, ledger) as load,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(load.run())
        await more(load)
        yield load
        load.stop()
    assert await until_settled(database, bootstrap, SETTLE_SECONDS) is None
    evidence = await collect(database, bootstrap, asked, folder / "calls.jsonl")
    evidence.broken_off = list(broken_off)
    findings = check(evidence)

    assert [] == findings.lines()
    assert ([], []) == (evidence.dead_letters, evidence.published_dead_letters)
    assert {"completed", "cancelled"} == {request.status for request in evidence.requests}
    assert load.counts["given_up"] == 0


async def more(load: Load) -> None:
    """Wait until the load has had enough answers, from now on."""
    before = load.counts["completed"]
    await eventually(lambda: load.counts["completed"] >= before + MORE, seconds=120)
