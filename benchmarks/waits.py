"""How near the estimated waits of ``GET /v1/requests/{id}/waiting`` are: ``python -m benchmarks.waits``.

Run it against a stack of which nothing else wants anything, with few slots, for example
``LLM_PROVIDER=simulated WORKER_CONCURRENCY=8 orchestra up --detach``. It sends loads that change every minute, asks for
the estimates of requests that wait, and compares them with when their first attempt began.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import httpx

SETTLED_SECONDS = 30.0
MIN_WAIT_SECONDS = 2.0
FACTOR = 2.0
_ASKED_AT_ONCE = 8
_MODELS = ("simulated:latency_ms=400", "simulated:latency_ms=800", "simulated:latency_ms=1200")
_DEADLINE_SECONDS = 600.0


class Load(NamedTuple):
    """A minute of the run: requests each second, how many at its start, and the weights of their priorities."""

    rate: float
    at_once: int = 0
    priorities: dict[int, float] = {5: 1.0}  # noqa: RUF012


MIXED = {8: 0.3, 5: 0.5, 2: 0.2}
LOADS = (
    Load(14), Load(4), Load(7, 150), Load(14, 0, MIXED), Load(6, 0, MIXED), Load(8, 150, MIXED), Load(3, 0, MIXED),
    Load(2),
)  # fmt: skip


@dataclass
class Sample:
    """An estimate: of which request, when, in which minute of the run and how long after its start."""

    id: str
    at: datetime
    minute: int
    settled: bool
    priority: int
    estimate: float | None
    wait: float = 0.0


@dataclass
class Run:
    """The priorities of the requests that were sent, and the estimates so far."""

    priorities: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    minute: int = 0
    changed: float = 0.0


async def send(client: httpx.AsyncClient, run: Run, load: Load) -> None:
    """Send one request."""
    (priority,) = random.choices(list(load.priorities), list(load.priorities.values()))
    body = {"model": random.choice(_MODELS), "priority": priority, "messages": [{"role": "user", "content": "Hello"}]}
    response = await client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})
    id = response.raise_for_status().json()["id"]
    run.priorities[id] = priority


async def ask(client: httpx.AsyncClient, run: Run) -> None:
    """Ask for the estimates of a few requests that wait."""
    page = (await client.get("/v1/requests", params={"status": "pending", "limit": 100})).raise_for_status().json()
    for id in random.sample([each["id"] for each in page["data"]], min(_ASKED_AT_ONCE, len(page["data"]))):
        at, settled = datetime.now(UTC), time.monotonic() - run.changed >= SETTLED_SECONDS
        state = (await client.get(f"/v1/requests/{id}/waiting")).raise_for_status().json()
        if state["position"] is not None and id in run.priorities:
            estimate = state["estimate_seconds"]
            run.samples.append(Sample(id, at, run.minute, settled, run.priorities[id], estimate))


async def drive(client: httpx.AsyncClient, run: Run, seconds: float) -> None:
    """All loads, one after the other."""
    async with asyncio.TaskGroup() as tasks:
        for run.minute, load in enumerate(LOADS):
            run.changed = began = time.monotonic()
            sent, asked = -load.at_once, 0.0
            while (passed := time.monotonic() - began) < seconds:
                while sent < passed * load.rate:
                    tasks.create_task(send(client, run, load))
                    sent += 1
                if passed > asked:
                    tasks.create_task(ask(client, run))
                    asked = passed + 1
                await asyncio.sleep(0.05)


async def began(client: httpx.AsyncClient, id: str) -> datetime:
    """When the first attempt of a request began."""
    until = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < until:
        found = (await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=20"})).raise_for_status().json()
        if found["started_at"]:
            return datetime.fromisoformat(found["started_at"])
    raise TimeoutError(f"{id} did not start")


def told(samples: Sequence[Sample], title: str) -> str:
    """One line: how many estimates of long waits are within the factor."""
    long = [each for each in samples if each.wait >= MIN_WAIT_SECONDS]
    known = [each for each in long if each.estimate is not None]
    near = [each for each in known if each.wait / FACTOR <= (each.estimate or 0) <= each.wait * FACTOR]
    share = f"{100 * len(near) / len(known):.0f} %" if known else "-"
    ratios = sorted((each.estimate or 0) / each.wait for each in known)
    spread = " ".join(f"{ratios[int(len(ratios) * part)]:.2f}" for part in (0.05, 0.5, 0.95)) if ratios else "-"
    return (
        f"{title}: {len(near)} of {len(known)} within a factor of {FACTOR:g} ({share}), "
        f"{len(long) - len(known)} without; "
        f"estimate / wait p5 p50 p95: {spread}"
    )


async def main() -> None:
    """Run, and print what came of it."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--gateway", default="http://127.0.0.1:8080")
    given.add_argument("--seconds", type=float, default=60.0, help="of each load")
    options = given.parse_args()
    run = Run()
    async with httpx.AsyncClient(base_url=options.gateway, timeout=60, trust_env=False) as client:
        await drive(client, run, options.seconds)
        starts: dict[str, datetime] = {}
        for each in run.samples:
            if each.id not in starts:
                starts[each.id] = await began(client, each.id)
            each.wait = (starts[each.id] - each.at).total_seconds()
    settled = [each for each in run.samples if each.settled]
    for minute, load in enumerate(LOADS):
        print(told([each for each in settled if each.minute == minute], f"minute {minute} {load}"))
    for priority in sorted({each.priority for each in settled}):
        print(told([each for each in settled if each.priority == priority], f"priority {priority}"))
    print(told([each for each in run.samples if not each.settled], "within 30 s after a change"))
    print(told(settled, "from 30 s after a change"))


if __name__ == "__main__":
    asyncio.run(main())
