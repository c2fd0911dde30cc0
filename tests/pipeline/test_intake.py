"""Intake on real Kafka: bad records among good ones, aborted records, offsets, gaps, re-reads, a frozen worker."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from orchestra.store.database import Database
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, MAX_RECORD_BYTES, REPLIES
from tests.support import store
from tests.support.gateway import own_env
from tests.support.kafka import (
    Headers,
    Place,
    Stranger,
    Tail,
    all_committed,
    committed,
    delete_up_to,
    ends,
    group_is_empty,
    header,
    message,
    own_topic,
    rewind,
    stranger,
    tail,
)
from tests.support.metrics import metric
from tests.support.ports import free_port
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

PARTITIONS = 3
DEEP = 200_000
HELLO = json.dumps(message()).encode()


def content(text: bytes) -> bytes:
    """A request with one message that contains this piece of JSON unchanged."""
    return b'{"messages":[{"role":"user","content":' + text + b"}]}"


POISON: dict[str, tuple[bytes | None, Headers, str]] = {
    "no json": (b"hello?", [], "not_json"),
    "binary": (bytes(range(256)), [], "not_json"),
    "empty": (b"", [], "not_json"),
    "no utf-8": (content(b'"\xff\xfe"'), [], "not_json"),
    "tombstone": (None, [], "tombstone"),
    "a list": (b"[]", [], "invalid_request"),
    "null": (b"null", [], "invalid_request"),
    "no messages": (b'{"messages":[]}', [], "invalid_request"),
    "unknown role": (b'{"messages":[{"role":"king","content":"x"}]}', [], "invalid_request"),
    "unknown type": (HELLO, [("ce_type", b"llm.message.requested.v2")], "unknown_type"),
    "bad id": (HELLO, [("ce_id", b"4711")], "bad_header"),
    "two ids": (json.dumps(message(id=str(uuid4()))).encode(), [("ce_id", str(uuid4()).encode())], "invalid_request"),
    "binary header": (HELLO, [("correlation_id", b"\xff\xfe")], "bad_header"),
    "NUL in a header": (HELLO, [("traceparent", b"a\0b")], "bad_header"),
    "long header": (HELLO, [("correlation_id", b"x" * 5000)], "bad_header"),
    "bad deadline": (HELLO, [("deadline", b"tomorrow")], "bad_header"),
    "NaN": (b'{"temperature":NaN,"messages":[{"role":"user","content":"x"}]}', [], "not_json"),
    "infinity": (b'{"temperature":1e999,"messages":[{"role":"user","content":"x"}]}', [], "invalid_request"),
    "a huge number": (b'{"priority":' + b"9" * 5000 + b',"messages":[{"role":"user","content":"x"}]}', [], "not_json"),
    "NUL": (content(b'"\\u0000"'), [], "invalid_request"),
    "lone surrogate": (content(b'"\\ud800"'), [], "invalid_request"),
    "deep": (b"[" * DEEP + b"]" * DEEP, [], "not_json"),
    "deep and unknown": (b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"," + HELLO[1:], [], "not_json"),
    "large": (b"x" * (MAX_RECORD_BYTES - 1000), [], "not_json"),
    "cancel of nothing": (b"{}", [("ce_type", b"llm.cancel.requested")], "invalid_request"),
}


@dataclass
class Ground:
    """One worker on topics of its own, and its results. ``tx``: a topic for transactions."""

    producer: Stranger
    tail: Tail
    database: Database
    worker: Service
    metrics: str
    topic: str
    tx: str

    async def send(self, value: Any = HELLO, partition: int = 0, **more: Any) -> Place:
        """Put a record on the worker's topic."""
        return await self.producer.send(value, self.topic, partition=partition, **more)

    async def answered(self, *places: Place) -> None:
        """Return once each of these is completed."""
        for place in places:
            assert (await self.tail.reply(place.id)).status is Status.COMPLETED

    async def count(self, name: str) -> float:
        """The value of one of the worker's counters."""
        return await metric(self.metrics, f"orchestra_worker_{name}_total")

    async def rows(self) -> dict[str, int]:
        """The number of rows in each table that a second read could add to."""
        tables = ("requests", "conversations", "messages", "outbox", "dead_letters")
        return {table: await store.count(self.database, table) for table in tables}

    async def kept(self, place: Place) -> Any:
        """The dead letter in Postgres of the record at this place; None when there is none."""
        rows = await self.database.run(
            "SELECT * FROM dead_letters WHERE topic = :topic AND partition = :partition AND record_offset = :offset",
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
        )
        return rows[0] if rows else None


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def services(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    started = Services(env, tmp_path_factory.mktemp("services"))
    yield started
    await started.close()


@pytest.fixture(scope="module")
async def ground(stack: Stack, env: dict[str, str], services: Services) -> AsyncIterator[Ground]:
    port, topic, tx = free_port(), await own_topic(stack, PARTITIONS), await own_topic(stack)
    async with AsyncExitStack() as undo:
        database = store.connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        came = await undo.enter_async_context(tail(stack, REPLIES.name, DEAD_LETTERS.name))
        producer = await undo.enter_async_context(stranger(stack, max_request_size=4 * 1024 * 1024))
        await services.llm()
        worker = await services.worker(METRICS_PORT=str(port), INGRESS_TOPICS=f"{topic}=default,{tx}=default")
        yield Ground(producer, came, database, worker, f"http://127.0.0.1:{port}", topic, tx)


async def test_poison_among_good_records(ground: Ground) -> None:
    """Each bad record becomes a complete dead letter with reason and place; the good ones around it are answered."""
    good, bad = [await ground.send()], {}
    for name, (value, headers, _) in POISON.items():
        bad[name] = await ground.send(value, key=name.encode(), raw_headers=headers)
        good.append(await ground.send())

    await ground.answered(*good)

    for name, place in bad.items():
        value, headers, reason = POISON[name]
        letter, row = await ground.tail.dead_letter(place), await ground.kept(place)
        assert (name, reason) == (name, header(letter, "dlq-reason"))
        assert (name.encode(), value) == (letter.key, letter.value)
        assert list(headers) == list(letter.headers)[: len(list(headers))]
        assert (reason, name.encode(), value) == (row.reason, row.record_key, row.value)
        assert [[each, base64.b64encode(raw or b"").decode()] for each, raw in headers] == row.headers
        assert len(ground.tail.dead_letters(place)) == 1
    assert ground.worker.alive


async def test_what_is_not_poison(ground: Ground) -> None:
    """Unknown headers of any bytes, unknown fields and a record of nearly 2 MiB are all accepted."""
    headers = [("x-trace", b"\xff\xfe\x00"), ("x-null", None), ("", b""), ("x-trace", b"again"), ("größe", b"\xff")]
    places = [
        await ground.send(raw_headers=headers),
        await ground.send(message(padding="x" * (MAX_RECORD_BYTES - 1000), version=99)),
        await ground.send(b"\n " + HELLO + b"\n"),
    ]

    await ground.answered(*places)


@pytest.mark.parametrize(
    ("size", "header_size", "codec", "reason"),
    [
        (MAX_RECORD_BYTES, 60 * 1024, None, "not_json"),
        (1000, MAX_RECORD_BYTES + 60 * 1024, None, "not_json"),
        (MAX_RECORD_BYTES + 64 * 1024 - 200, 0, None, "too_large"),
        (5 * 1024 * 1024, 0, "zstd", "too_large"),
    ],
)
async def test_poison_that_barely_fits(
    ground: Ground, stack: Stack, size: int, header_size: int, codec: str | None, reason: str
) -> None:
    """A bad record so large that its dead letter has no room for headers, compressed too, blocks no other."""
    headers = [("x-long", b"x" * header_size)]
    async with stranger(stack, max_request_size=8 * 1024 * 1024, compression_type=codec) as producer:
        place = await producer.send(b"x" * size, ground.topic, partition=0, raw_headers=headers)
    good = await ground.send()

    await ground.answered(good)

    row = await ground.kept(place)
    assert (reason, size) == (row.reason, row.value_bytes or len(row.value))
    assert header(await ground.tail.dead_letter(place), "dlq-reason") == reason
    assert ground.worker.alive


@pytest.fixture
async def apart(stack: Stack, services: Services, ground: Ground) -> AsyncIterator[tuple[str, Service]]:
    """A topic and a worker of its own."""
    topic = await own_topic(stack)
    worker = await services.worker(INGRESS_TOPICS=f"{topic}=default")
    yield topic, worker
    await worker.end(10)


async def test_a_record_of_nothing(ground: Ground, apart: tuple[str, Service]) -> None:
    """A record with neither key nor value becomes a dead letter like any other."""
    topic, worker = apart
    place = await ground.producer.send_raw(None, topic)
    good = await ground.producer.send(HELLO, topic)

    await eventually(lambda: not worker.alive or ground.tail.replies(good.id))

    assert worker.alive
    letter, row = await ground.tail.dead_letter(place), await ground.kept(place)
    assert ("tombstone", None) == (header(letter, "dlq-reason"), letter.value)
    assert ("tombstone", None, None) == (row.reason, row.record_key, row.value)


async def test_a_header_name_that_is_not_text(ground: Ground, apart: tuple[str, Service]) -> None:
    """A header whose name is not UTF-8, which C clients can send, is ignored and blocks no record."""
    topic, worker = apart
    before = await ground.producer.send(HELLO, topic)
    place = await ground.producer.send_raw(HELLO, topic, names=[b"\xff\xfe"])
    poison = await ground.producer.send_raw(b"no json", topic, names=[b"a", b"\xff\xfe"])
    after = await ground.producer.send(HELLO, topic)

    await eventually(lambda: not worker.alive or ground.tail.replies(after.id))

    assert worker.alive
    await ground.answered(before, place, after)
    letter = await ground.tail.dead_letter(poison)
    assert ("not_json", "value") == (header(letter, "dlq-reason"), header(letter, "\\xff\\xfe"))


async def test_aborted_records_never_run(ground: Ground, stack: Stack) -> None:
    """Records of an aborted transaction are never taken in; those of a committed one are."""
    places = {}
    async with stranger(stack, transactional_id=uuid4().hex) as producer:
        for name, end in (("aborted", "abort"), ("committed", "commit"), ("aborted too", "abort")):
            await producer.producer.begin_transaction()
            places[name] = await producer.send(message(name), ground.tx, partition=0)
            await getattr(producer.producer, f"{end}_transaction")()
    last = await ground.producer.send(message("last"), ground.tx)

    await ground.answered(places["committed"], last)

    rows = await ground.database.run("SELECT src_offset FROM requests WHERE src_topic = :topic", topic=ground.tx)
    assert {place.offset for place in (places["committed"], last)} == {row.src_offset for row in rows}


async def test_transactions_leave_no_lag(ground: Ground, stack: Stack) -> None:
    """Aborted records and transaction markers, which no consumer receives, count as read: the group's lag is 0."""
    async with stranger(stack, transactional_id=uuid4().hex) as producer:
        await producer.producer.begin_transaction()
        await producer.send(message("aborted"), ground.tx, partition=0)
        await producer.producer.abort_transaction()

    await all_committed(stack, ground.tx, 10)


async def test_everything_taken_is_committed(ground: Ground, stack: Stack) -> None:
    """After a burst the group has no lag: committed is the end of each partition, and so is Postgres' read position."""
    places = [await ground.producer.producer.send(ground.topic, HELLO, partition=n % PARTITIONS) for n in range(1500)]
    for place in places:
        await place

    await all_committed(stack, ground.topic)

    async def all_marked() -> bool:
        rows = await ground.database.run(
            "SELECT partition, next_offset FROM intake_progress WHERE topic = :topic", topic=ground.topic
        )
        return await ends(stack, ground.topic) == {row.partition: row.next_offset for row in rows}

    await eventually(all_marked)


async def test_nothing_is_committed_before_postgres_has_it(ground: Ground, stack: Stack) -> None:
    """While Postgres refuses writes no offset is committed; then the record is answered and its offset committed."""
    await ground.answered(await ground.send(partition=1))
    await all_committed(stack, ground.topic)
    before = await committed(stack, ground.topic)

    async def blocked() -> bool:
        intake = "wait_event_type = 'Lock' AND query LIKE '%early_cancels%' AND datname = current_database()"
        return bool(await ground.database.run(f"SELECT 1 FROM pg_stat_activity WHERE {intake}"))

    async with ground.database.transaction() as tx:
        await tx.run("LOCK TABLE early_cancels IN ACCESS EXCLUSIVE MODE")
        place = await ground.send(partition=1)
        await eventually(blocked)
        assert await committed(stack, ground.topic) == before

    await ground.answered(place)
    await all_committed(stack, ground.topic)
    assert (await committed(stack, ground.topic))[1] == before[1] + 1


async def test_an_idle_partition_counts_as_read(ground: Ground) -> None:
    """A partition without new records still counts as read up to about now, and the time only grows."""

    async def marks() -> dict[int, datetime]:
        rows = await ground.database.run(
            "SELECT partition, read_up_to FROM intake_progress WHERE topic = :topic", topic=ground.topic
        )
        return {row.partition: row.read_up_to for row in rows}

    (now,) = await ground.database.run("SELECT now() AS now")

    async def all_later() -> bool:
        found = await marks()
        return len(found) == PARTITIONS and all(mark > now.now for mark in found.values())

    await eventually(all_later)


async def test_records_that_were_deleted_unread(ground: Ground, stack: Stack) -> None:
    """Records that retention deleted unread are counted and raise an alarm; the rest are answered."""
    await ground.answered(await ground.send(partition=2))
    await all_committed(stack, ground.topic)
    await ground.worker.stop()
    places = [await ground.send(partition=2) for _ in range(5)]
    await delete_up_to(stack, ground.topic, 2, places[3].offset)

    await ground.worker.start()

    await ground.answered(*places[3:])
    assert await ground.count("log_gap_records") == 3
    (alarm,) = [json.loads(line) for line in ground.worker.log.splitlines() if '"log_gap"' in line]
    assert (ground.topic, 2, 3) == (alarm["topic"], alarm["partition"], alarm["missing"])
    for place in places[:3]:
        assert await ground.database.run("SELECT 1 FROM requests WHERE id = :id", id=place.id) == []


async def test_a_topic_read_again(ground: Ground, stack: Stack) -> None:
    """Offsets reset to the start: every record is read again, and no row and no reply is added or changed."""
    await all_committed(stack, ground.topic)
    await ground.worker.stop()
    rows, replies = await ground.rows(), len(ground.tail.published())
    endings = await ground.database.run("SELECT id, status, fence, finished_at FROM requests ORDER BY id")
    await eventually(lambda: group_is_empty(stack))
    await rewind(stack, ground.topic, {0: 0, 1: 0})
    (wanted,) = await ground.database.run(
        "SELECT count(*) AS n FROM requests WHERE src_topic = :topic AND src_partition < 2", topic=ground.topic
    )

    await ground.worker.start()

    async def again() -> bool:
        return await ground.count("duplicate_records") == wanted.n

    await eventually(again)
    await all_committed(stack, ground.topic)
    assert rows == await ground.rows()
    assert endings == await ground.database.run("SELECT id, status, fence, finished_at FROM requests ORDER BY id")
    last = await ground.send(partition=1)
    await ground.answered(last)
    assert replies + 1 == len(ground.tail.published())


async def test_a_worker_that_was_frozen(ground: Ground, services: Services) -> None:
    """A worker frozen for longer than its lease loses its turn, and when it wakes its answer is discarded."""
    conversation = uuid4()
    place = await ground.send(message("once", "simulated:latency_ms=3000"), key=str(conversation).encode())

    async def claimed() -> bool:
        rows = await ground.database.run("SELECT status FROM requests WHERE id = :id", id=place.id)
        return [row.status for row in rows] == ["in_progress"]

    await eventually(claimed)
    ground.worker.pause()
    other = await services.worker(INGRESS_TOPICS=f"{ground.topic}=default,{ground.tx}=default")
    reply = await eventually(lambda: ground.tail.replies(place.id), 60)
    ground.worker.resume()
    await eventually(lambda: "lease_lost" in ground.worker.log)
    after = await ground.send(message("after"), key=str(conversation).encode())
    await ground.answered(after)

    assert json.loads(reply[0].value)["attempts"] == 2
    assert len(ground.tail.replies(place.id)) == 1
    said = [("user", "once"), ("assistant", "echo: once"), ("user", "after"), ("assistant", "echo: after")]
    assert said == await store.messages(ground.database, conversation)
    await other.stop()
