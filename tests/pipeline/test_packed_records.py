"""Compressed records: a few KiB that unpack to far more block no other record and exhaust no process's memory."""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.structs import RecordMetadata

from faults.bombs import MAX_BYTES, Batch, Record, batch, bomb
from schemas.topics import EVENTS, MAX_BATCH_BYTES
from tests.support.llm_script import LlmScript, llm_script
from tests.support.metrics import metric
from tests.support.records import message
from tests.support.road import PARTITIONS, Road, open_road
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.intake import _murmur2_partition

MIB = 1 << 20
# The memory that a bomb may add to a process: 64 MiB that a codec must remember, and a few copies of 2 MiB records.
MAX_GROWTH = 200 * MIB


@pytest.fixture
async def llm() -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    async with llm_script() as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened


@pytest.fixture
async def producer(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    """A producer that sends whole batches."""
    async with AIOKafkaProducer(bootstrap_servers=stack.bootstrap) as started:
        yield started


async def send(producer: AIOKafkaProducer, whole: Batch, topic: str, partition: int) -> RecordMetadata:
    """Write a batch as it is, and return the place of its first record."""
    done: RecordMetadata = await (await producer.send_batch(whole, topic, partition=partition))
    return done


def max_memory(service: Service) -> int:
    """The peak memory of this process in bytes."""
    (line,) = (line for line in Path(f"/proc/{service.pid}/status").read_text().splitlines() if "VmHWM" in line)
    return int(line.split()[1]) * 1024


def partition_of(conversation: UUID) -> int:
    """The partition of a conversation's records."""
    return _murmur2_partition(str(conversation).encode(), PARTITIONS)


def turn(conversation: UUID, id: UUID) -> Record:
    """A turn of a conversation."""
    value = message(conversation_id=str(conversation), model="echo")
    return Record(value, str(conversation).encode(), [(b"ce_id", str(id).encode())])


async def order(road: Road, conversation: UUID) -> Sequence[UUID]:
    """The turns of a conversation, in order."""
    rows = await road.database.run("SELECT id FROM requests WHERE conversation_id = :id ORDER BY seq", id=conversation)
    return [row.id for row in rows]


@pytest.mark.parametrize("codec", MAX_BYTES)
async def test_a_bomb_is_a_dead_letter_and_stops_nobody(
    road: Road, services: Services, producer: AIOKafkaProducer, codec: str
) -> None:
    """A bomb is a dead letter: other records are answered in order, and the worker stays small."""
    size, conversation = MAX_BYTES[codec], uuid4()
    reached = size < MAX_BATCH_BYTES
    before, behind, bomb_id = uuid4(), uuid4(), uuid4()
    worker = await services.worker(**road.env)
    first = await road.ask(conversation=conversation)
    await road.endings([first])
    memory = max_memory(worker)

    bomb = Record(size, None, [(b"ce_id", str(bomb_id).encode())])
    records = [turn(conversation, before), bomb, turn(conversation, behind)]
    at = await send(producer, batch(codec, records), road.topic, partition_of(conversation))
    others = [await road.ask() for _ in range(20)]
    last = await road.ask(conversation=conversation)

    taken = [first, before, *([behind] if reached else []), last]
    assert ["completed"] * (len(taken) + 20) == await road.endings([*taken, *others])
    assert taken == await order(road, conversation)
    letters = await road.database.run(
        "SELECT record_offset, reason, detail, value, value_bytes, request_id FROM dead_letters ORDER BY record_offset"
    )
    assert ["too_large"] * (1 if reached else 2) == [letter.reason for letter in letters]
    assert (at.offset + 1, None, size) == (letters[0].record_offset, letters[0].value, letters[0].value_bytes)
    if reached:
        assert bomb_id == letters[0].request_id
        assert letters[0].detail.endswith(hashlib.sha256(b" " * size).hexdigest())
    else:
        assert letters[1].record_offset == at.offset + 2
        assert letters[1].detail.endswith(f"the record at offset {at.offset + 2}")
    published = await eventually(lambda: len(found := road.dead_letters()) == len(letters) and found)
    assert [letter.detail.encode() for letter in letters] == [out.headers["dlq-detail"] for out in published or ()]
    assert max_memory(worker) - memory < MAX_GROWTH


async def test_many_bombs_stop_nobody(road: Road, services: Services, producer: AIOKafkaProducer) -> None:
    """As many bombs as fit a fetch, ahead of all other requests, block none of those behind them or elsewhere."""
    worker = await services.worker(**road.env)
    await road.endings([await road.ask()])
    memory = max_memory(worker)

    for partition in range(PARTITIONS):
        for _ in range(5):
            await send(producer, bomb("zstd", MAX_BYTES["zstd"]), road.topic, partition)
    asked = [await road.ask() for _ in range(30)]

    assert ["completed"] * 30 == await road.endings(asked)
    assert 5 * PARTITIONS == (await road.one("SELECT count(*) AS count FROM dead_letters")).count
    assert max_memory(worker) - memory < MAX_GROWTH


async def test_a_gateway_reads_events_behind_a_bomb(
    stack: Stack, services: Services, producer: AIOKafkaProducer
) -> None:
    """Bombs on llm.events stop no stream and exhaust no gateway's memory."""
    gateway = await services.gateway()
    memory, name = max_memory(gateway), "orchestra_gateway_events_skipped_total"
    skipped = await metric(gateway.url, name)

    for codec, size in MAX_BYTES.items():
        await send(producer, batch(codec, [Record(size), Record(b"nonsense")]), EVENTS.name, 0)

    async def all_read() -> bool:
        return await metric(gateway.url, name) >= skipped + 2 * len(MAX_BYTES)

    await eventually(all_read)
    assert max_memory(gateway) - memory < MAX_GROWTH


async def test_a_record_that_is_too_large_gets_its_failed_reply(road: Road, producer: AIOKafkaProducer) -> None:
    """A consumer that waits for a record of 10 MiB with an id gets a failed reply with the reason."""
    id = uuid4()
    async with road.worker():
        large = Record(10 * MIB, b"key", [(b"ce_id", str(id).encode()), (b"correlation_id", b"mine")])
        await send(producer, batch("gzip", [large]), road.topic, 0)
        (reply,) = await road.replies([id])

    assert ("failed", "too_large") == (reply.json["status"], reply.json["error"]["code"])
    assert b"mine" == reply.headers["correlation_id"]
    (letter,) = road.dead_letters()
    assert (None, b"key") == (letter.value, letter.key)
    assert json.dumps(reply.json["error"]["detail"]).count(hashlib.sha256(b" " * 10 * MIB).hexdigest())
