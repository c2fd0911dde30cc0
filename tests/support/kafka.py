"""Kafka as strangers use it: records put on any topic in any form, and whatever comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from orchestra.kafka.topics import Admin
from schemas.ids import record_id
from schemas.replies import Reply
from schemas.topics import DEAD_LETTERS, REPLIES, REQUESTS
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.app import GROUP

Headers = Iterable[tuple[str, bytes | None]]


def message(content: str = "hello", model: str = "simulated", **more: Any) -> dict[str, Any]:
    """The value of a request record."""
    return {"model": model, "messages": [{"role": "user", "content": content}], **more}


@dataclass(frozen=True)
class Place:
    """Where a record lies."""

    topic: str
    partition: int
    offset: int
    timestamp: int

    @property
    def id(self) -> UUID:
        """The request id of a record here that carries none."""
        return record_id(self.topic, self.partition, self.offset, self.timestamp)


class Stranger:
    """A producer that does not use our settings."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self.producer = producer

    async def send(
        self,
        value: Any,
        topic: str = REQUESTS.name,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Mapping[str, str] | None = None,
        raw_headers: Headers = (),
    ) -> Place:
        """Put one record on a topic: bytes as they are, None as a tombstone, anything else as JSON."""
        data = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
        raw = [(name, text.encode()) for name, text in (headers or {}).items()] + list(raw_headers)
        done = await self.producer.send_and_wait(topic, data, key=key, partition=partition, headers=raw)
        return Place(topic, done.partition, done.offset, done.timestamp)

    async def send_raw(
        self, value: bytes | None, topic: str, partition: int = 0, *, names: Iterable[bytes] = ()
    ) -> Place:
        """What aiokafka refuses to send and clients in C do: neither key nor value, header names of any bytes."""
        batch = self.producer.create_batch()
        batch._builder = _DefaultRecordBatchBuilderPy(
            2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1_000_000
        )
        batch.append(timestamp=None, key=None, value=value, headers=[(_Name(name), b"value") for name in names])
        done = await (await self.producer.send_batch(batch, topic, partition=partition))
        return Place(topic, partition, done.offset, done.timestamp)


class _Name(str):
    """A header's name that is encoded as bytes of one's own."""

    __slots__ = ("_raw",)

    def __new__(cls, raw: bytes) -> Self:
        made = super().__new__(cls, raw.decode("latin-1"))
        made._raw = raw
        return made

    def encode(self, *_: Any) -> bytes:
        return self._raw


@asynccontextmanager
async def stranger(stack: Stack, **settings: Any) -> AsyncIterator[Stranger]:
    """A producer with settings of its own."""
    producer = AIOKafkaProducer(bootstrap_servers=stack.bootstrap, **settings)
    await producer.start()
    try:
        yield Stranger(producer)
    finally:
        await producer.stop()


@dataclass
class Tail:
    """Every record that has come onto some topics since this was opened."""

    records: list[Any] = field(default_factory=list)

    def published(self) -> list[Any]:
        """The reply records in order, without those that only repeat one: same event id, same bytes."""
        first: dict[tuple[str | None, bytes], Any] = {}
        for each in self.records:
            if each.topic == REPLIES.name:
                first.setdefault((header(each, "ce_id"), each.value), each)
        return list(first.values())

    def replies(self, id: UUID) -> list[Any]:
        """The reply records of a request, without repeats."""
        return [each for each in self.published() if header(each, "ce_subject") == str(id)]

    def dead_letters(self, place: Place) -> list[Any]:
        """The dead letters of the record at this place."""
        wanted = [place.topic, str(place.partition), str(place.offset)]
        return [
            each
            for each in self.records
            if each.topic == DEAD_LETTERS.name
            and [header(each, f"dlq-{name}") for name in ("topic", "partition", "offset")] == wanted
        ]

    async def reply_record(self, id: UUID) -> Any:
        """The first reply record of a request, once it is there."""
        return (await eventually(lambda: self.replies(id)))[0]

    async def reply(self, id: UUID) -> Reply:
        """The first reply to a request, once it is there."""
        return Reply.model_validate_json((await self.reply_record(id)).value)

    async def dead_letter(self, place: Place) -> Any:
        """The first dead letter of the record at this place, once it is there."""
        return (await eventually(lambda: self.dead_letters(place)))[0]


@asynccontextmanager
async def tail(stack: Stack, *topics: str) -> AsyncIterator[Tail]:
    """What comes onto these topics from now on."""
    consumer = AIOKafkaConsumer(*topics, bootstrap_servers=stack.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    for partition in consumer.assignment():
        await consumer.position(partition)
    opened = Tail()

    async def read() -> None:
        async for record in consumer:
            opened.records.append(record)

    reading = asyncio.create_task(read())
    try:
        yield opened
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await consumer.stop()


def header(record: Any, name: str) -> str | None:
    """The text of a record's header."""
    return next((value.decode() for each, value in record.headers if each == name), None)


async def own_topic(stack: Stack, partitions: int = 1) -> str:
    """A new topic with the settings of ``llm.requests``."""
    topic = replace(REQUESTS, name=f"test.{uuid4().hex}", partitions=partitions)
    async with Admin(stack.kafka_settings) as admin:
        assert await admin.create_missing([topic]) == []
    return topic.name


async def all_committed(stack: Stack, topic: str, seconds: float = 30) -> None:
    """Return once the group has committed everything that is on a topic."""

    async def attempt() -> bool:
        marks, behind = await committed(stack, topic), await ends(stack, topic)
        return behind == {partition: max(mark, 0) for partition, mark in marks.items()}

    await eventually(attempt, seconds)


async def ends(stack: Stack, topic: str) -> dict[int, int]:
    """The offset behind the last record of each partition."""
    async with _member(stack, None) as consumer:
        return {tp.partition: end for tp, end in (await consumer.end_offsets(await _partitions(stack, topic))).items()}


async def committed(stack: Stack, topic: str) -> dict[int, int]:
    """What the workers' group has committed for each partition; -1 where nothing."""
    async with Admin(stack.kafka_settings) as admin:
        found = await admin.client.list_consumer_group_offsets(GROUP, partitions=await _partitions(stack, topic))
    return {tp.partition: mark.offset for tp, mark in found.items()}


async def rewind(stack: Stack, topic: str, offsets: Mapping[int, int]) -> None:
    """Set back what the workers' group has committed, as an operator can while no worker runs."""
    async with _member(stack, GROUP) as consumer:
        marks = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        consumer.assign(list(marks))
        await consumer.commit(marks)


async def delete_up_to(stack: Stack, topic: str, partition: int, offset: int) -> None:
    """Delete the records of a partition before an offset, as retention does."""
    async with Admin(stack.kafka_settings) as admin:
        await admin.client.delete_records({TopicPartition(topic, partition): RecordsToDelete(offset)})


async def group_is_empty(stack: Stack) -> bool:
    """True when Kafka knows of no worker any more."""
    async with Admin(stack.kafka_settings) as admin:
        (answer,) = await admin.client.describe_consumer_groups([GROUP])
    (group,) = answer.groups
    return bool(group[2] == "Empty")


async def _partitions(stack: Stack, topic: str) -> list[TopicPartition]:
    async with Admin(stack.kafka_settings) as admin:
        (described,) = await admin.client.describe_topics([topic])
    return [TopicPartition(topic, each["partition"]) for each in described["partitions"]]


@asynccontextmanager
async def _member(stack: Stack, group: str | None) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
