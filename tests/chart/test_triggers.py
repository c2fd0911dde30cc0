"""What KEDA would read: the queries of the rendered ScaledObject, on a real Prometheus that scrapes two gateways."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestra.devstack.ports import HOST, Ports
from tests.chart.tools import NAMESPACE, ci, objects
from tests.support.ports import free_port, free_ports
from tests.support.stack import open_folder
from tests.support.waiting import eventually

_ORCHESTRA = Path(sys.executable).with_name("orchestra")
_SECONDS = 120.0
# Slots of the one worker, requests that are sent, and how long the model takes for each.
SLOTS, SENT, MODEL = 4, 60, "simulated:latency_ms=2000"
REFUSING = "simulated:fail=rate_limited,retry_after=60"


@dataclass
class Live:
    """``triggers``: name, query and threshold, as rendered. ``url``: of a gateway."""

    http: httpx.AsyncClient
    triggers: dict[str, tuple[str, float]]
    url: str
    prometheus: str
    data: Path

    async def value(self, query: str) -> float | None:
        """The value that KEDA takes from the answer; None if there is none. More than one is an error, as for KEDA."""
        answer = await self.http.get(f"{self.prometheus}/api/v1/query", params={"query": query})
        values = [float(each["value"][1]) for each in answer.raise_for_status().json()["data"]["result"]]
        assert len(values) <= 1
        return values[0] if values else None

    async def read(self) -> tuple[float | None, ...]:
        """The values of the triggers: the age of the queue, and the turns."""
        return tuple([await self.value(query) for query, _ in self.triggers.values()])

    async def send(self, model: str) -> None:
        """Send a request without waiting for its answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        answer = await self.http.post(f"{self.url}/v1/messages", json=body, headers={"Prefer": "respond-async"})
        answer.raise_for_status()


@pytest.fixture(scope="module")
async def live() -> AsyncIterator[Live]:
    """A stack with one small worker and two gateways, and a Prometheus that labels them as the ServiceMonitor does."""
    options = ("--set", f"workers.concurrency={SLOTS}")
    rendered = objects(ci("everything"), *options)
    (scaled,) = [each["spec"] for each in rendered if each["kind"] == "ScaledObject"]
    (service,) = [
        each["metadata"]["name"]
        for each in rendered
        if each["kind"] == "Service" and each["metadata"]["name"].endswith("-gateway")
    ]
    triggers = {
        each["name"]: (each["metadata"]["query"], float(each["metadata"]["threshold"])) for each in scaled["triggers"]
    }
    with open_folder() as folder:
        ports, own = Ports.from_base(free_ports(12)), free_port()
        gateways = [f"{HOST}:{ports.of_gateway(number)[0]}" for number in (1, 2)]
        data = folder / "stack"
        env = {"LLM_PROVIDER": "simulated", "LLM_MODEL": "simulated", "WORKER_CONCURRENCY": str(SLOTS)}
        words = ("--detach", "--port-base", str(ports.gateway), "--gateways", "2")
        try:
            _orchestra("up", *words, data=data, **env)
            prometheus = _prometheus(folder, own, gateways, {"namespace": NAMESPACE, "service": service})
            try:
                async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
                    made = Live(http, triggers, f"http://{gateways[0]}", f"http://{HOST}:{own}", data)
                    await eventually(lambda: _scrapes(made), _SECONDS)
                    yield made
            finally:
                prometheus.kill()
                prometheus.wait()
        finally:
            _orchestra("down", "--wipe", data=data)


def _orchestra(*words: str, data: Path, **env: str) -> None:
    command = [str(_ORCHESTRA), *words, "--data", str(data)]
    subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, check=True)


def _prometheus(folder: Path, port: int, targets: list[str], labels: dict[str, str]) -> subprocess.Popen[bytes]:
    jobs: list[dict[str, Any]] = [
        {"job_name": "gateways", "scrape_interval": "1s", "static_configs": [{"targets": targets, "labels": labels}]}
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}), "utf-8")
    options = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": folder / "prometheus"}
    command = ["prometheus", f"--web.listen-address={HOST}:{port}", *(f"--{key}={at}" for key, at in options.items())]
    with (folder / "prometheus.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


async def _scrapes(live: Live) -> bool:
    """Whether both gateways are scraped, and have looked at the workers."""
    try:
        seen = await live.value('count(orchestra_worker_slots{state="used"})')
    except httpx.HTTPError:  # Prometheus starts: it does not listen yet, or answers with 503.
        return False
    return seen == 2


async def test_before_during_and_after_a_load(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """Each trigger passes its threshold under load, counts each turn once, not once a gateway, and ends at 0."""
    seen: list[tuple[float | None, ...]] = []

    async def idle() -> bool:
        seen.append(await live.read())
        return seen[-1] == (0, 0)

    await eventually(idle, _SECONDS)
    await asyncio.gather(*(live.send(MODEL) for _ in range(SENT)))
    seen.clear()
    await eventually(lambda: _busy(live), _SECONDS)
    await eventually(idle, _SECONDS, pause=0.5)
    peaks = [max(value or 0 for value in values) for values in zip(*seen, strict=True)]
    with capsys.disabled():
        shown = zip(live.triggers, live.triggers.values(), peaks, strict=True)
        print("".join(f"\n{name}: 0, up to {peak:.1f}, 0; threshold {limit:.0f}" for name, (_, limit), peak in shown))

    assert all(peak > limit for peak, (_, limit) in zip(peaks, live.triggers.values(), strict=True))
    assert SENT / 2 < peaks[1] <= SENT


async def _busy(live: Live) -> bool:
    _, turns = await live.read()
    return bool(turns)


async def test_turns_that_wait_for_a_model_ask_for_no_worker(live: Live) -> None:
    """Turns of a model that refuses calls are in the queue, and do not count."""
    await asyncio.gather(*(live.send(REFUSING) for _ in range(10)))

    await eventually(lambda: _only_holds(live), _SECONDS)


async def _only_holds(live: Live) -> bool:
    held = await live.value('sum(max by (priority) (orchestra_queue_turns{state="held"}))')
    return bool(held) and await live.read() == (0, 0)


async def test_without_gateways_there_is_no_value(live: Live) -> None:
    """When nothing is known there is no value, rather than a 0 by which workers would be removed."""
    _orchestra("down", data=live.data)

    await eventually(lambda: _is_silent(live), _SECONDS)


async def _is_silent(live: Live) -> bool:
    return await live.read() == (None, None)
