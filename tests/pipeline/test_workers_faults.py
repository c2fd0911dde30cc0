"""What workers promise under faults: killed, paused, drained, joined and left; Kafka and Postgres unreachable."""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from faults.proxy import Proxy, proxy
from orchestra.store.database import Database
from tests.support.fakes import no_pause
from tests.support.llm_script import Held
from tests.support.road import Road
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers import intake


async def burst(road: Road, conversations: int, turns: int) -> list[UUID]:
    """``turns`` turns in each of ``conversations`` conversations, interleaved."""
    names = [uuid4() for _ in range(conversations)]
    return [await road.ask(f"{turn}", name, "model") for turn in range(turns) for name in names]


async def check_answered_once(road: Road, ids: list[UUID]) -> None:
    """Check that each completed with one answer and one outbox row, and that no lease is left."""
    assert {"completed"} == set(await road.endings(ids, 90))
    answers = await road.answers()
    assert set(ids) == answers.keys()
    assert {1} == {len(texts) for texts in answers.values()}
    assert len(ids) == (await road.one("SELECT count(*) AS n FROM outbox")).n
    await road.replies(ids)


async def test_a_killed_workers_turn_is_answered_by_another(road: Road, model: Held, services: Services) -> None:
    """After kill -9 in the middle of a call another worker starts the turn again, and there is one answer."""
    killed = await services.worker(**road.env)
    id = await road.ask("hello", model="model")
    await eventually(lambda: road.llm.open_now == 1)
    await asyncio.gather(killed.kill(), services.worker(**road.env))
    await eventually(lambda: len(road.llm.calls) == 2)
    model.open.set()

    await check_answered_once(road, [id])
    kept = await road.request(id)
    assert (2, 2, 1) == (kept.fence, kept.tries, kept.losses)


async def test_a_paused_worker_cannot_write_when_it_wakes(road: Road, model: Held, services: Services) -> None:
    """A paused worker whose turn another has taken cannot write its late answer, and works on under a new lease."""
    paused = await services.worker(**road.env)
    id = await road.ask("hello", model="model")
    await eventually(lambda: road.llm.open_now == 1)
    paused.pause()
    other = await services.worker(**road.env)
    await eventually(lambda: len(road.llm.calls) == 2)
    model.open.set()
    assert ["completed"] == await road.endings([id])
    paused.resume()
    await eventually(lambda: "lease_lost" in paused.log)
    await other.stop()

    more = await road.ask("more", model="model")
    await check_answered_once(road, [id, more])
    assert 2 == (await road.request(id)).fence


async def test_a_worker_that_is_told_to_stop_gives_back_at_once(road: Road, model: Held, services: Services) -> None:
    """On SIGTERM, after the drain, the turn is free at once, without waiting for a lease, and the try is given back."""
    stopped = await services.worker(**road.env, DRAIN_SECONDS="0")
    id = await road.ask("hello", model="model")
    await eventually(lambda: road.llm.open_now == 1)
    stopped.terminate()
    assert await stopped.ended() == 0
    await asyncio.wait_for(road.llm.calls[0].left.wait(), 10)

    kept = await road.request(id)
    assert ("pending", 1, 0, 0) == (kept.status, kept.fence, kept.tries, kept.losses)
    assert kept.run_at <= (await road.one("SELECT now() AS now")).now
    assert await road.database.run("SELECT 1 FROM workers") == []
    model.open.set()
    async with road.worker():
        await check_answered_once(road, [id])


async def test_a_read_only_postgres_costs_no_request(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres answers and stores nothing, no record is given up, and each is answered as soon as it does."""
    no_pause(monkeypatch, intake, "RETRY_SECONDS")
    with capture_logs() as logs:
        async with road.worker():
            await set_read_only(road.database, "on")
            id = await road.ask("hello")
            await eventually(lambda: len(refused(logs)) > intake.MAX_FAILURES_ALONE)
            await set_read_only(road.database, "off")

            await check_answered_once(road, [id])


async def set_read_only(database: Database, switch: str) -> None:
    """Make all sessions of this database read-only, as a provider does when a disk is full; `off`: no longer."""
    async with database.transaction() as tx:
        await tx.run("SET TRANSACTION READ WRITE")
        (me,) = await tx.run("SELECT quote_ident(current_database()) AS name")
        await tx.run(f"ALTER DATABASE {me.name} SET default_transaction_read_only = {switch}")
    await database.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def refused(logs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines that say that intake could not store."""
    return [each for each in logs if each["event"] == "intake_waits" and "read-only" in each["reason"]]


async def test_a_draining_worker_finishes_what_it_runs(road: Road, model: Held) -> None:
    """A draining worker ends its calls, writes and publishes their answers, and gives its partitions up at once."""
    async with road.worker(drain_seconds=60) as running:
        held = [await road.ask("hello", model="model") for _ in range(20)]
        await eventually(lambda: road.llm.open_now == 20)
        async with road.worker():
            stopping = asyncio.create_task(running.stop())
            late = [await road.ask("late") for _ in range(20)]
            assert {"completed"} == set(await road.endings(late))
            assert 20 == running.count("in_flight")
            model.open.set()
            await asyncio.wait_for(stopping, 60)
            await check_answered_once(road, held + late)

    assert 40 == len(road.llm.calls)
    assert await road.database.run("SELECT 1 FROM outbox WHERE published_at IS NULL") == []


async def test_joining_and_leaving_costs_no_call(road: Road, model: Held) -> None:
    """While workers come and go during a burst, each turn is answered once with one call to the model."""
    model.open.set()
    model.seconds = 0.05
    async with AsyncExitStack() as workers:
        first = await workers.enter_async_context(road.worker(drain_seconds=60))
        sending = asyncio.create_task(burst(road, 40, 10))
        await eventually(lambda: len(road.llm.calls) > 20)
        second = await workers.enter_async_context(road.worker(drain_seconds=60))
        await eventually(lambda: second.count("records_total", kind="NewRequest") or sending.done())
        await workers.enter_async_context(road.worker(drain_seconds=60))
        await first.stop()
        ids = await sending
        await check_answered_once(road, ids)

    assert len(ids) == len(road.llm.calls)


async def test_a_killed_broker_loses_nothing(road: Road, model: Held, stack: Stack) -> None:
    """Kafka dies during a burst and comes back: every acknowledged request is answered once."""
    model.open.set()
    model.seconds = 0.2
    async with road.worker(), road.worker():
        ids = await burst(road, 20, 5)
        await eventually(lambda: len(road.llm.calls) > 10)
        await stack.kill_kafka()
        await stack.start_kafka()
        ids += await burst(road, 5, 2)
        await check_answered_once(road, ids)

    assert len(ids) == len(road.llm.calls)


async def test_a_killed_database_loses_nothing(road: Road, model: Held, stack: Stack) -> None:
    """Postgres dies during a burst and comes back: no worker exits, and everything is answered once."""
    model.open.set()
    model.seconds = 0.2
    async with road.worker(), road.worker():
        ids = await burst(road, 20, 5)
        await eventually(lambda: len(road.llm.calls) > 10)
        await stack.kill_postgres()
        ids += await burst(road, 5, 2)
        await stack.start_postgres()
        await check_answered_once(road, ids)


def through(road: Road, opened: Proxy) -> str:
    """The setup's database behind a proxy."""
    split = urlsplit(road.database_url)
    return urlunsplit(split._replace(netloc=split.netloc.replace(f":{split.port}", f":{opened.port}")))


async def test_a_database_whose_connections_break_leaves_nothing_stuck(road: Road, model: Held) -> None:
    """With connections cut at any point, commits included, every turn is recovered and answered once."""
    model.open.set()
    split = urlsplit(road.database_url)
    assert split.hostname
    assert split.port
    chance = random.Random(4)
    async with proxy(split.hostname, split.port) as opened:

        async def cut() -> None:
            for _ in range(25):
                opened.cut_after = chance.randrange(5, 100)
                await eventually(lambda: opened.cut_after is None, 60)

        async with road.worker(database_url=through(road, opened)):
            cutting = asyncio.create_task(cut())
            ids = await burst(road, 20, 5)
            await cutting
            await check_answered_once(road, ids)


async def test_a_worker_can_stop_while_the_database_is_away(road: Road, model: Held) -> None:
    """A worker stops in bounded time while Postgres is away; the next one takes in again what it could not write."""
    model.open.set()
    split = urlsplit(road.database_url)
    assert split.hostname
    assert split.port
    async with proxy(split.hostname, split.port) as opened, road.worker(database_url=through(road, opened)) as running:
        await check_answered_once(road, first := [await road.ask(model="model")])
        opened.refusing = True
        opened.cut()
        ids = await burst(road, 5, 2)
        await eventually(lambda: running.worker.intake._at_hand)
        await running.stop()

    async with road.worker():
        await check_answered_once(road, first + ids)
