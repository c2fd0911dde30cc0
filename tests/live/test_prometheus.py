"""A real Prometheus reads what the services say. Skipped where no Prometheus is installed; `make alerts` needs it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiokafka import AIOKafkaProducer

from deploy.alerts import alerts
from deploy.dashboards import boards
from deploy.files import FOLDER
from deploy.queries import STEP
from schemas.topics import REQUESTS
from tests.support.ports import free_port
from tests.support.promql import reads
from tests.support.services import Services
from tests.support.stack import Stack, open_stack
from tests.support.waiting import eventually

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="no Prometheus is here: apt-get install prometheus"),
    pytest.mark.timeout(600),
]
QUERIES = [
    query.expr.replace(STEP, "1m")
    for board in boards()
    for row in board.rows.values()
    for panel in row
    for query in panel.queries
]
# What has a series only once something went wrong, or is configured.
RARE = {
    "ALERTS": "an alert",
    "orchestra_gateway_problems_total": "a problem document",
    "orchestra_llm_cost_dollars_total": "a price in the models file",
    "orchestra_llm_fallbacks_total": "a model that fails and has a fallback",
    "orchestra_llm_limit": "a limit in the models file",
    "orchestra_llm_limited_total": "a call beyond such a limit",
    "orchestra_worker_dead_letters_total": "a record that cannot be read",
}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    """A stack of its own: what gateways read of earlier tests would have alerts."""
    async with open_stack() as opened:
        yield opened


class Prometheus:
    """A server that scrapes these targets as our configuration says, every 15 s."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def query(self, expr: str) -> list[Any]:
        """The result of an expression now; an assertion fails if it is refused."""
        answer = await self._client.get("/api/v1/query", params={"query": expr})
        assert 200 == answer.status_code, answer.text
        return list(answer.json()["data"]["result"])

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        found = (await self._client.get("/api/v1/alerts")).json()["data"]["alerts"]
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    async def targets(self) -> list[str]:
        """The state of each target."""
        return [each["health"] for each in (await self._client.get("/api/v1/targets")).json()["data"]["activeTargets"]]


@asynccontextmanager
async def open_prometheus(folder: Path, targets: dict[str, str]) -> AsyncIterator[Prometheus]:
    """A Prometheus with our rules. ``targets``: the address of each job."""
    config = yaml.safe_load((FOLDER / "prometheus/prometheus.yml").read_text("utf-8"))
    config["rule_files"] = [str(FOLDER / "prometheus/alerts.yml")]
    config["scrape_configs"] = [
        {"job_name": each["job_name"], "static_configs": [{"targets": [targets[each["job_name"]]]}]}
        for each in config["scrape_configs"]
    ]
    file, port = folder / "prometheus.yml", free_port()
    file.write_text(yaml.safe_dump(config), "utf-8")
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(PROMETHEUS), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}", stdout=log, stderr=log,
        )  # fmt: skip
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
                await eventually(lambda: _is_ready(client))
                yield Prometheus(client)
        finally:
            process.terminate()
            await process.wait()


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/-/ready")).is_success
    except httpx.TransportError:
        return False


@asynccontextmanager
async def watched(services: Services, folder: Path) -> AsyncIterator[tuple[Prometheus, httpx.AsyncClient]]:
    """One of each service, and a Prometheus that has reached them all."""
    port = free_port()
    llm, _, gateway = await services.llm(), await services.worker(METRICS_PORT=str(port)), await services.gateway()
    targets = {"gateway": _address(gateway.url), "workers": f"127.0.0.1:{port}", "llm_service": _address(llm.url)}
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=60, trust_env=False) as client,
        open_prometheus(folder, targets) as prometheus,
    ):
        await eventually(lambda: _all_up(prometheus), seconds=60, pause=1)
        yield prometheus, client


async def _all_up(prometheus: Prometheus) -> bool:
    return ["up"] * 3 == await prometheus.targets()


def _address(url: str) -> str:
    return url.removeprefix("http://")


async def _work(client: httpx.AsyncClient) -> None:
    """Some of everything that callers do."""
    body = {"model": "simulated", "messages": HELLO}
    answers = await asyncio.gather(
        client.post("/v1/messages", json=body),
        client.post("/v1/messages", json={**body, "stream": True}),
        client.post("/openai/v1/chat/completions", json=body),
        client.post("/openai/v1/responses", json={"model": "simulated", "input": "Hello"}),
        client.post("/v1/tasks", json={"task_type": "summarization", "model": "simulated", "prompt": "A queue."}),
    )
    assert all(answer.is_success for answer in answers), [answer.text for answer in answers]


async def test_every_query_has_a_result(services: Services, tmp_path: Path) -> None:
    """Under a small load each query of panels and alerts is accepted, and panels have data, but for what is rare."""
    async with watched(services, tmp_path) as (prometheus, client):

        async def empty() -> list[str]:
            await _work(client)
            found = zip(QUERIES, await asyncio.gather(*map(prometheus.query, QUERIES)), strict=True)
            return [query for query, result in found if not result and not _is_rare(query)]

        async def all_have_data() -> bool:
            return not await empty()

        try:
            await eventually(all_have_data, seconds=120, pause=1)
        except AssertionError:
            assert [] == await empty()
        await asyncio.gather(*(prometheus.query(alert.expr) for alert in alerts()))
        assert set() == await prometheus.firing()


def _is_rare(query: str) -> bool:
    return bool({read.name for read in reads(query)} & RARE.keys())


async def test_alerts_fire(services: Services, stack: Stack, tmp_path: Path) -> None:
    """A bad record, a model that refuses its credentials, and the end of the only worker each have their alert."""
    async with (
        watched(services, tmp_path) as (prometheus, client),
        AIOKafkaProducer(bootstrap_servers=stack.bootstrap) as producer,
    ):
        assert set() == await prometheus.firing()
        await producer.send_and_wait(REQUESTS.name, b"{oops", key=b"a conversation")
        refused = {"model": "simulated:fail=auth", "messages": HELLO}
        await client.post("/v1/messages", json=refused, headers={"Prefer": "respond-async"})
        await _fires(prometheus, "DeadLetters", "ModelHeldBack")
        (worker,) = [service for service in services.started if service.name.startswith("worker")]
        await worker.stop()
        await _fires(prometheus, "NoWorkers")
        assert {"DeadLetters", "ModelHeldBack", "NoWorkers"} >= await prometheus.firing() - {"ServiceDown"}


async def _fires(prometheus: Prometheus, *names: str) -> None:
    async def all_fire() -> bool:
        return set(names) <= await prometheus.firing()

    await eventually(all_fire, seconds=300, pause=1)
