"""Errors between a worker and Kafka touch no turn, and errors inside a worker let running calls end first."""

import asyncio
import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, OutOfOrderSequenceNumber, ProducerClosed

from orchestra import loops
from orchestra.kafka.clients import abandon, make_producer
from orchestra.store import endings as store
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from orchestra.store.endings import AttemptEnd, Finished
from orchestra.store.progress import Standstill, Why, standstills
from schemas.topics import EVENTS
from tests.support.fakes import no_pause
from tests.support.kafka import own_topic
from tests.support.llm_script import Held
from tests.support.ports import free_port
from tests.support.records import message
from tests.support.road import Road
from tests.support.stack import Stack
from tests.support.store import request, take
from tests.support.waiting import eventually
from workers import dlq_limit, intake, stalls


async def test_errors_of_the_reader_touch_no_turn(road: Road, model: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a fetch fails, as if a partition's broker died, calls in flight go on and reading restarts."""
    errors: list[Exception] = []
    getmany = AIOKafkaConsumer.getmany

    async def failing(consumer: AIOKafkaConsumer, **options: Any) -> Any:
        if errors and consumer._group_id == road.group:
            raise errors.pop()
        return await getmany(consumer, **options)

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", failing)
    async with road.worker() as running:
        first = [await road.ask(model="model") for _ in range(8)]
        await eventually(lambda: road.llm.open_now == 8)
        errors += [KafkaError("one partition's fetch has failed"), OSError(), TimeoutError()]
        second = [await road.ask(model="model") for _ in range(8)]
        await eventually(lambda: road.llm.open_now == 16 and not errors)
        model.open.set()
        assert {"completed"} == set(await road.endings(first + second))
        assert not running.run.done()

    assert 16 == len(road.llm.calls)


async def test_errors_of_the_producer_touch_no_turn(road: Road, model: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed producer is replaced: every reply is sent, and first occurrences keep their conversation's order."""
    model.open.set()
    sends, send = 0, AIOKafkaProducer.send

    async def failing(producer: AIOKafkaProducer, topic: str, *args: Any, **options: Any) -> Any:
        nonlocal sends
        sends += producer.client._client_id == "orchestra-worker"
        if producer.client._client_id != "orchestra-worker" or sends % 17:
            return await send(producer, topic, *args, **options)
        if sends % 2:
            raise KafkaError("while it was handed in")
        sent = await send(producer, topic, *args, **options)
        sent.add_done_callback(lambda done: done.cancelled() or done.exception())  # No other code retrieves its error.
        refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        refused.set_exception(OutOfOrderSequenceNumber())
        return refused

    monkeypatch.setattr(AIOKafkaProducer, "send", failing)
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS")
    async with road.worker(drain_seconds=30) as running:
        conversations = [request().conversation_id for _ in range(5)]
        ids = {each: [await road.ask(model="model", conversation=each) for _ in range(6)] for each in conversations}
        for each in ids.values():
            await road.replies(each, 60)
        assert not running.run.done()

    seen: dict[str, list[str]] = {}
    for out in road.outs:
        if out.topic == "llm.replies" and out.json["request_id"] not in seen.setdefault(
            out.json["conversation_id"], []
        ):
            seen[out.json["conversation_id"]].append(out.json["request_id"])
    assert {str(each): [str(id) for id in asked] for each, asked in ids.items()} == seen
    assert 30 == len(road.llm.calls)


async def test_a_worker_starts_and_works_without_kafka(road: Road, model: Held, tmp_path: Any) -> None:
    """Without Kafka a worker runs what Postgres has, is not ready, and can be stopped; another sends the replies."""
    model.open.set()
    waiting = [request(model="model") for _ in range(3)]
    await take(road.database, *waiting)
    ready = tmp_path / "ready"
    nowhere = {"kafka_bootstrap_servers": f"127.0.0.1:{free_port()}", "ready_file": ready}
    ids = [each.id for each in waiting]
    async with road.worker(**nowhere) as running:
        assert {"completed"} == set(await road.endings(ids))
        assert not running.run.done()
        assert not ready.exists()
    assert 3 == (await road.one("SELECT count(*) AS n FROM outbox WHERE published_at IS NULL")).n
    async with road.worker(ready_file=ready):
        await road.replies(ids)
        await eventually(ready.exists)

    assert 3 == len(road.llm.calls)


async def test_a_bug_ends_a_worker_after_its_calls(road: Road, model: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bug a worker drains: calls in flight end and are written, replies are sent, then it fails."""
    finish, broken = store.finish, asyncio.Event()

    async def buggy(database: Database, endings: Sequence[AttemptEnd], order: ClaimOrder | None) -> Finished:
        if broken.is_set():
            broken.clear()
            raise AssertionError("a bug")
        return await finish(database, endings, order)

    monkeypatch.setattr(store, "finish", buggy)
    async with road.worker(drain_seconds=5) as running:
        open_calls = [await road.ask(model="model") for _ in range(5)]
        await eventually(lambda: road.llm.open_now == 5)
        broken.set()
        lost = await road.ask()
        await eventually(lambda: running.worker.failed)
        model.open.set()
        assert {"completed"} == set(await road.endings(open_calls))
        await asyncio.wait_for(asyncio.shield(running.run), 60)

    await road.replies(open_calls)
    assert "pending" == (await road.request(lost)).status
    assert await road.database.run("SELECT 1 FROM workers") == []


async def test_a_topic_of_dead_letters_alone_stands_still(
    road: Road, model: Held, monkeypatch: pytest.MonkeyPatch, stack: Stack
) -> None:
    """A topic with nothing but bad records is paused, alone and visibly; a good record resumes it, none is lost."""
    model.open.set()
    monkeypatch.setattr(dlq_limit, "MIN_RECORDS", 20)
    monkeypatch.setattr(dlq_limit, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(dlq_limit, "PROBE_SECONDS", 1.0)
    monkeypatch.setattr(intake, "PROBE_RECORDS", 10)
    healthy = await own_topic(stack)
    topics = f"{road.topic}=default,{healthy}=default"
    async with road.worker(ingress_topics=topics) as running:
        for _ in range(25):
            await road.send(b"nonsense", b"one key")
        await eventually(lambda: running.count("topic_held", topic=road.topic))
        for _ in range(100):
            await road.send(b"nonsense", b"one key")
        await eventually(lambda: _holds(road), 20)
        kept = len(road.dead_letters())
        other = replace(road, topic=healthy)
        assert ["completed"] == await road.endings([await other.ask(model="model")])
        assert kept + 30 > len(road.dead_letters())

        monkeypatch.setattr(dlq_limit, "PROBE_SECONDS", 0.1)
        monkeypatch.setattr(dlq_limit, "MIN_RECORDS", 1_000)  # The rest of the bad records no longer pauses it.
        id = await road.ask(model="model", conversation=request().conversation_id)
        assert ["completed"] == await road.endings([id])
        await eventually(lambda: not running.count("topic_held", topic=road.topic))
        await eventually(lambda: len(road.dead_letters()) == 125)


async def test_an_open_transaction_holds_its_topic_up_and_is_told(
    road: Road, model: Held, monkeypatch: pytest.MonkeyPatch, stack: Stack
) -> None:
    """An open transaction blocks its topic, and gateways report that; records behind it are answered once it ends."""
    model.open.set()
    monkeypatch.setattr(stalls, "STALLED_SECONDS", 0.5)
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap, transactional_id=f"open-{road.topic}")
    async with producer, road.worker() as running:
        async with producer.transaction():
            partitions = await producer.partitions_for(road.topic)
            await asyncio.gather(
                *[await producer.send(road.topic, message("hi"), partition=number) for number in partitions]
            )
            id = await road.ask(model="model")
            await eventually(lambda: running.count("stalled_partitions"))
            await eventually(lambda: _stands_still(road))
            assert await road.database.run("SELECT 1 FROM requests") == []
        assert ["completed"] == await road.endings([id])


async def _stands_still(road: Road) -> bool:
    return await standstills(road.database) == [Standstill(Why.STALLED, road.topic)]


async def _holds(road: Road) -> bool:
    return await standstills(road.database) == [Standstill(Why.HELD, road.topic)]


async def test_an_abandoned_producer_sends_nothing_more(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    """Records of an abandoned producer fail at once for their callers; no task of it is left or logs errors later."""
    gc.collect()  # Errors of what earlier tests left behind are logged now.
    caplog.clear()
    before = asyncio.all_tasks()
    producer = make_producer(stack.kafka_settings, "test")
    await producer.start()
    sent = [await producer.send(EVENTS.name, json.dumps({"n": n}).encode(), key=b"k") for n in range(50)]
    await abandon(producer)

    assert all(each.done() for each in sent)
    assert {ProducerClosed} >= {type(each.exception()) for each in sent if each.exception()}
    with pytest.raises(ProducerClosed):
        await producer.send(EVENTS.name, b"{}", key=b"k")
    await eventually(lambda: asyncio.all_tasks() == before)
    del producer, sent
    gc.collect()
    assert [] == [record.message for record in caplog.records if record.name == "asyncio"]
