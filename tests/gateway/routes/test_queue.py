"""Promises of gateway/routes/queue.py: what operators see of the queue, the workers and what has ended."""

import asyncio
import math
from bisect import bisect_right
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from gateway.drain import Drain
from gateway.metrics import Metrics
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.pulse import Look, Pulse, look
from gateway.routes.queue import QueueRoutes, quantile
from gateway.timings import Timings
from gateway.topics import Topics
from orchestra.store import leases, minutes
from orchestra.store.database import Database
from orchestra.store.minutes import BOUNDS
from orchestra.store.queue import Depth
from orchestra.store.worker_state import StateOfModel, StateOfTopic, WorkerState
from schemas.errors import ErrorCode
from tests.support.fakes import steps
from tests.support.people import bearer, calling, make_key, routed
from tests.support.store import claim_one, finish, let_lease_run_out, new_worker, request, take

NAMES = ("/v1/queue", "/v1/workers", "/v1/stats")


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    callers, drain = Callers(database, Tokens([b"s" * 32]), asks=True), Drain()
    pulse = Pulse(database, cast("Topics", SimpleNamespace(unread=3)), drain, Metrics(), None)
    async with calling(routed(callers, QueueRoutes(database, pulse).routes(), drain)) as opened:
        opened.headers.update(bearer(await make_key(database, "operate")))
        yield opened


async def test_the_queue_is_shown_to_operators(client: httpx.AsyncClient, database: Database) -> None:
    """What waits by priority and model, what runs, and what is next, of the caller's tenant only; what is unread."""
    await take(database, request(model="a"))
    await claim_one(database)
    urgent, other = request(priority=8, model="b", user="ada"), request(model="c")
    await take(database, urgent, other, request(tenant="acme", priority=9))

    found = (await client.get("/v1/queue")).json()

    assert {"count": 2, "more": False} == found["runnable"]
    assert {"count": 1, "more": False} == found["in_progress"]
    assert [(8, 1), (5, 1)] == [(each["priority"], each["runnable"]) for each in found["by_priority"]]
    assert {"b", "c"} == {each["model"] for each in found["by_model"]}
    assert [str(urgent.id), str(other.id)] == [each["id"] for each in found["head"]]
    assert "ada" == found["head"][0]["owner"]
    assert 3 == found["unread"]


async def test_operators_who_ask_at_once_share_a_look(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten calls at the same time read the queue and the workers once."""
    looks = []

    async def looking(database: Database) -> Look:
        looks.append(database)
        return await look(database)

    monkeypatch.setattr("gateway.pulse.look", looking)
    found = await asyncio.gather(*(client.get("/v1/queue") for _ in range(10)))

    assert [200] * 10 == [each.status_code for each in found]
    assert [database] == looks


async def test_operators_who_wait_for_a_look_share_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that lasts is too old for those who ask during it, and they have one between them."""
    looks, over = [], asyncio.Event()

    async def looking(database: Database) -> Look:
        looks.append(database)
        await over.wait()
        return Look(Depth([], frozenset()), {}, [])

    monkeypatch.setattr("gateway.pulse.look", looking)
    nothing: Any = None
    pulse = Pulse(nothing, nothing, Drain(), Metrics(), None, Timings(frame=0.0))
    asking = [asyncio.create_task(pulse.look()) for _ in range(10)]
    await steps()
    over.set()
    await asyncio.gather(*asking)

    assert 1 <= len(looks) <= 2


async def test_a_model_that_refuses_is_named_until_when(client: httpx.AsyncClient, database: Database) -> None:
    """Workers that hold back a model are counted, and the latest of their times is shown."""
    for seconds in (10.0, 30.0):
        model = StateOfModel(model="a", held_seconds=seconds, code=ErrorCode.AUTH, detail="why")
        state = WorkerState(version="1", in_flight=0, capacity=1, models=[model])
        assert await leases.renew(database, await new_worker(database), state)

    (held,) = (await client.get("/v1/queue")).json()["held"]

    assert ("a", 2, "auth", "why") == (held["model"], held["workers"], held["code"], held["detail"])
    left = datetime.fromisoformat(held["until"]) - datetime.now(UTC)
    assert timedelta(seconds=20) < left < timedelta(seconds=40)


async def test_workers_say_what_they_do(client: httpx.AsyncClient, database: Database) -> None:
    """A worker of an older release has no state, one whose lease is over is not alive."""
    old, lost, new = [await new_worker(database) for _ in range(3)]
    await let_lease_run_out(database, lost)
    topic = StateOfTopic(topic="llm.requests", tenant="default", partitions=[1, 2])
    await leases.renew(database, new, WorkerState(version="2", in_flight=3, capacity=9, draining=True, topics=[topic]))

    found = {each["id"]: each for each in (await client.get("/v1/workers")).json()["data"]}

    names = ("alive", "version", "in_flight", "capacity", "draining")
    assert (True, None, None, None, None) == tuple(found[str(old)][name] for name in names)
    assert not found[str(lost)]["alive"]
    assert (True, "2", 3, 9, True) == tuple(found[str(new)][name] for name in names)
    assert [{"topic": "llm.requests", "partitions": [1, 2]}] == found[str(new)]["topics"]


async def test_statistics_are_those_of_the_ended_requests(client: httpx.AsyncClient, database: Database) -> None:
    """By default the last hour by minutes; another tenant's are not in it."""
    await take(database, request(model="a"))
    await finish(database, await claim_one(database))
    await take(database, request(tenant="acme"))
    await finish(database, await claim_one(database))
    await database.run("UPDATE minutes_counted SET due_at = now()")
    await minutes.count(database, 60)

    found = (await client.get("/v1/stats", params={"by": "model"})).json()

    (point,) = found["data"]
    assert ("a", 1, 1, 0) == tuple(point[name] for name in ("key", "requests", "completed", "failed"))
    assert (1, 2) == (point["input_tokens"], point["output_tokens"])
    assert all(0 <= point[part][share] < 60 for part in ("queue_seconds", "model_seconds") for share in ("mean", "p95"))


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z", "step": "86400"},
        {"from": "2026-01-01T00:00:00Z", "to": "2026-01-30T00:00:00Z", "step": "60"},
        {"step": "90"},
        {"by": "owner"},
    ],
)
async def test_what_would_be_too_much_is_refused(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    """Times in the wrong order, more than a month, more than a thousand points, steps that are no minutes."""
    response = await client.get("/v1/stats", params=query)

    assert (422, "invalid_request") == (response.status_code, response.json()["code"])


@pytest.mark.parametrize("path", NAMES)
async def test_users_see_none_of_it(client: httpx.AsyncClient, database: Database, path: str) -> None:
    """The whole tenant is for operators."""
    response = await client.get(path, headers=bearer(await make_key(database, "read", "write")))

    assert 403 == response.status_code


async def test_ids_that_are_none_are_refused(client: httpx.AsyncClient, database: Database) -> None:
    """A live stream watches ids, at most a hundred."""
    headers = bearer(await make_key(database, "read"))
    many = ",".join(["7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"] * 101)

    answers = [await client.get("/v1/live", params={"ids": ids}, headers=headers) for ids in ("x", ",", many)]

    assert [(422, "invalid_request")] * 3 == [(each.status_code, each.json()["code"]) for each in answers]


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("seconds", [(0.011, 0.019), (0.7, 0.9), (35, 64), (60.5, 61), (299, 1900), (4e4, 7e4)])
def test_a_quantile_is_within_14_percent_of_the_exact_one(seconds: tuple[float, float], share: float) -> None:
    """Whatever requests took, from 10 ms to 22 hours, alike or not."""
    shortest, longest = seconds
    times = [shortest + (longest - shortest) * part / 99 for part in range(100)]
    buckets = [0] * (len(BOUNDS) + 1)
    for each in times:
        buckets[bisect_right(BOUNDS, each)] += 1

    exact = times[math.ceil(share * 100) - 1]
    assert exact == pytest.approx(quantile(share, buckets), rel=0.14)


def test_a_quantile_beyond_the_last_bound_is_not_made_up() -> None:
    """What took longer than the last bound shows as that; what took hardly any time, as hardly any."""
    empty = [0] * len(BOUNDS)

    assert BOUNDS[-1] == quantile(0.95, [*empty, 100])
    assert 0.01 > quantile(0.95, [100, *empty])
