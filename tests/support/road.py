"""The whole road of a request on real Kafka and Postgres, with workers in the test's own process."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import RecordMetadata

from orchestra.kafka.clients import make_producer
from orchestra.store.database import Database, DatabaseUnavailableError
from schemas.requests import CANCEL_REQUESTED
from schemas.topics import DEAD_LETTERS, EVENTS, MAX_MESSAGE_BYTES, REPLIES
from tests.support.llm_script import LlmScript
from tests.support.records import message
from tests.support.stack import Stack
from tests.support.store import connect
from tests.support.waiting import eventually
from workers import app
from workers.app import Worker
from workers.metrics import Metrics
from workers.settings import WorkerSettings
from workers.timings import TIMINGS, Timings

PARTITIONS = 6
_STATUSES = "SELECT id, status FROM requests WHERE finished_at IS NOT NULL"


@dataclass
class Out:
    """One record that a worker wrote."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes | None]

    @property
    def json(self) -> dict[str, Any]:
        """Its value, read."""
        parsed: dict[str, Any] = json.loads(self.value or b"null")
        return parsed

    @property
    def kind(self) -> str:
        """The last word of its type."""
        return (self.headers.get("ce_type") or b"").decode().rpartition(".")[2]


@dataclass
class Road:
    """A topic and a database of this test's own. ``outs`` grows with everything that workers write."""

    stack: Stack
    topic: str
    group: str
    database_url: str
    database: Database
    producer: AIOKafkaProducer
    admin: AIOKafkaAdminClient
    llm: LlmScript
    outs: list[Out] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        """The settings of a worker process that serves this road."""
        return {
            "DATABASE_URL": self.database_url,
            "INGRESS_TOPICS": f"{self.topic}=default",
            "LLM_SERVICE_URL": self.llm.url,
            "LLM_MODEL": "echo",
        }

    @asynccontextmanager
    async def worker(self, timings: Timings = TIMINGS, **settings: Any) -> AsyncIterator["Running"]:
        """A worker in this process; drained at the end, unless it is over by then."""
        values = {name.lower(): value for name, value in {**self.stack.env, **self.env}.items()}
        told = WorkerSettings.model_validate({**values, "drain_seconds": 0, **settings})
        metrics = Metrics()
        async with app.worker(told, metrics, timings) as made:
            run = asyncio.create_task(made.run())
            running = Running(made, run, metrics)
            try:
                yield running
            finally:
                await running.stop()

    async def send(
        self, value: bytes | None, key: bytes | None = None, headers: Iterable[tuple[str, bytes | None]] = ()
    ) -> RecordMetadata:
        """Produce a record, as any producer may."""
        return await self.producer.send_and_wait(self.topic, value, key=key, headers=list(headers))

    async def ask(
        self, content: str = "hi", conversation: UUID | None = None, model: str = "echo", **more: Any
    ) -> UUID:
        """Send a message under an id of its own."""
        id, place = uuid4(), conversation or uuid4()
        value = message(content, conversation_id=str(place), model=model, **more)
        await self.send(value, str(place).encode(), [("ce_id", str(id).encode())])
        return id

    async def cancel(self, id: UUID) -> None:
        """Send a cancel; it lies on any partition."""
        value = json.dumps({"request_id": str(id)}).encode()
        await self.send(value, headers=[("ce_type", CANCEL_REQUESTED.encode())])

    async def endings(self, ids: Collection[UUID], seconds: float = 60) -> list[str]:
        """How these requests ended, in their order, once they all have."""

        async def ended() -> dict[UUID, str] | None:
            try:
                found = {row.id: row.status for row in await self.database.run(_STATUSES)}
            except DatabaseUnavailableError:
                return None
            return found if found.keys() >= set(ids) else None

        found = await eventually(ended, seconds, pause=0.05)
        assert found is not None
        return [found[id] for id in ids]

    async def replies(self, ids: Collection[UUID], seconds: float = 30) -> list[Out]:
        """The first reply record of each of these requests, in their order, once they are all there."""
        wanted = [str(id) for id in ids]

        def there() -> dict[str, Out] | None:
            found: dict[str, Out] = {}
            for out in self.outs:
                if out.topic == REPLIES.name:
                    found.setdefault(out.json["request_id"], out)
            return found if found.keys() >= set(wanted) else None

        found = await eventually(there, seconds)
        assert found is not None
        return [found[id] for id in wanted]

    def events(self, id: UUID) -> list[Out]:
        """The events of a request so far."""
        return [out for out in self.outs if out.topic == EVENTS.name and out.key == str(id).encode()]

    def dead_letters(self) -> list[Out]:
        """The dead letters of this road so far."""
        mine = self.topic.encode()
        return [out for out in self.outs if out.topic == DEAD_LETTERS.name and out.headers.get("dlq-topic") == mine]

    async def one(self, sql: str, **parameters: Any) -> Any:
        """The one row of a statement."""
        (row,) = await self.database.run(sql, **parameters)
        return row

    async def request(self, id: UUID) -> Any:
        """The row of a request."""
        return await self.one("SELECT * FROM requests WHERE id = :id", id=id)

    async def answers(self) -> dict[UUID, list[str]]:
        """The stored answers by request."""
        found: dict[UUID, list[str]] = {}
        for row in await self.database.run("SELECT request_id, content FROM messages WHERE role = 'assistant'"):
            found.setdefault(row.request_id, []).append(row.content)
        return found

    async def committed(self) -> dict[int, int]:
        """The group's committed offsets by partition."""
        offsets = await self.admin.list_consumer_group_offsets(self.group)
        return {
            tp.partition: mark.offset for tp, mark in offsets.items() if tp.topic == self.topic and mark.offset >= 0
        }


@dataclass
class Running:
    """A worker in this process."""

    worker: Worker
    run: "asyncio.Task[None]"
    metrics: Metrics

    async def stop(self) -> None:
        """Drain it, as SIGTERM does, and wait for its end; raises what it has failed with."""
        self.worker.stop()
        await asyncio.wait_for(asyncio.shield(self.run), 90)

    def count(self, metric: str, **labels: str) -> float:
        """The value of one of its counters."""
        return self.metrics.registry.get_sample_value(f"orchestra_worker_{metric}", labels) or 0.0


@asynccontextmanager
async def open_road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A new road, whose workers call this LLM service."""
    name = uuid4().hex[:12]
    topic, group = f"test.requests.{name}", f"test-{name}"
    async with AsyncExitStack() as opened:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.bootstrap)
        await admin.start()
        opened.push_async_callback(admin.close)
        await _make_topic(admin, topic)
        producer = make_producer(stack.kafka_settings, "test")
        await producer.start()
        opened.push_async_callback(producer.stop)
        database_url = await stack.fresh_database()
        database = connect(database_url)
        opened.push_async_callback(database.close)
        opened.enter_context(patch.object(app, "GROUP", group))
        road = Road(stack, topic, group, database_url, database, producer, admin, llm)
        await opened.enter_async_context(_listening(road))
        yield road
        await admin.delete_topics([topic])


async def _make_topic(admin: AIOKafkaAdminClient, topic: str) -> None:
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    await admin.create_topics([NewTopic(topic, PARTITIONS, 1, topic_configs=config)])

    async def led() -> bool:
        described = await admin.describe_topics([topic])
        return bool(described[0]["partitions"]) and all(each["leader"] >= 0 for each in described[0]["partitions"])

    await eventually(led)


@asynccontextmanager
async def _listening(road: Road) -> AsyncIterator[None]:
    consumer = AIOKafkaConsumer(bootstrap_servers=road.stack.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    topics = (REPLIES, EVENTS, DEAD_LETTERS)
    consumer.assign([TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)])
    await consumer.seek_to_end()
    for partition in consumer.assignment():
        await consumer.position(partition)
    task = asyncio.create_task(_read(consumer, road.outs))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await consumer.stop()


async def _read(consumer: AIOKafkaConsumer, outs: list[Out]) -> None:
    while True:
        record = await consumer.getone()
        outs.append(Out(record.topic, record.key, record.value, dict(record.headers)))
