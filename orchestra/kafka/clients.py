"""Kafka clients: a FastStream broker for reading, one idempotent producer for writing.

Every client default that loses or duplicates records is overridden here (docs/decisions/0004-kafka-clients.md).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed
from aiokafka.partitioner import murmur2
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import LogicSubscriber
from faststream.middlewares import AckPolicy
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from orchestra.kafka.faults import arm
from orchestra.kafka.records import read_any_record
from orchestra.kafka.unreachable import explained
from orchestra.settings import KafkaSettings
from schemas.topics import MAX_MESSAGE_BYTES

GROUP = "llm-orchestra-workers"
"""The group of the workers, which read what comes in."""

Subscriber = LogicSubscriber[Any]
# Whatever calls for another fetch wakes the client. By default it also looks five times a second.
_LOOK_AT_FETCHES_MS = 1000
# Errors that the clients raise while Kafka is unavailable or faulty; anything else is a bug, theirs or ours.
KAFKA_ERRORS = (KafkaError, OSError, EOFError)
# Wait at most this long for a client to close; it continues in the background.
_CLOSE_SECONDS = 3.0
_closing: set[asyncio.Task[None]] = set()


def make_broker(settings: KafkaSettings, client_id: str) -> KafkaBroker:
    """A broker that only reads; writes go through ``make_producer``, whose records may contain any bytes."""
    read_any_record()
    arm()
    return KafkaBroker(
        settings.bootstrap,
        client_id=client_id,
        security=_security(settings),
        consumer_only=True,
        allow_auto_create_topics=False,
        metadata_max_age_ms=30_000,
        logger=None,
    )


def group_reader(broker: KafkaBroker, topics: list[str], group_id: str, listener: Any) -> Subscriber:
    """Read topics as a member of a group; only what the caller commits is committed.

    It has no handler: the caller takes batches from ``consumer.getmany``, so that only its own code parses, skips or
    acknowledges records.
    """
    return broker.subscriber(
        *topics,
        group_id=group_id,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        listener=listener,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        # A killed member blocks everyone's intake until its session ends. Losing a session costs nothing here.
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        rebalance_timeout_ms=10_000,
        max_poll_interval_ms=3_600_000,
        # How long an idle broker keeps a fetch open. Partitions gained in a rebalance are not read before it returns.
        fetch_max_wait_ms=1000,
        consumer_timeout_ms=_LOOK_AT_FETCHES_MS,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )


def tail_reader(broker: KafkaBroker, topic: str) -> Subscriber:
    """Read every partition of a topic without a group, from now on; the caller may seek back."""
    return broker.subscriber(
        topic,
        group_id=None,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        auto_offset_reset="latest",
        # Workers do not use transactions; another producer's must not delay their events.
        isolation_level="read_uncommitted",
        fetch_max_wait_ms=5000,
        consumer_timeout_ms=_LOOK_AT_FETCHES_MS,
    )


@asynccontextmanager
async def open_browser(settings: KafkaSettings, client_id: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer without a group and without partitions; it reads what the caller assigns to it.

    It never commits. Raises whatever the client raises.
    """
    read_any_record()
    arm()
    consumer = AIOKafkaConsumer(
        **_connection(settings, client_id),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_uncommitted",
        fetch_max_wait_ms=250,
        fetch_max_bytes=2 * MAX_MESSAGE_BYTES,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
        consumer_timeout_ms=_LOOK_AT_FETCHES_MS,
        metadata_max_age_ms=30_000,
    )
    try:
        async with explained(settings):
            await consumer.start()
        yield consumer
    finally:
        await _in_time(consumer.stop)


@asynccontextmanager
async def open_committer(settings: KafkaSettings, client_id: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer that commits positions of a group without being a member; it reads nothing by itself.

    Raises whatever the client raises.
    """
    consumer = AIOKafkaConsumer(**_connection(settings, client_id), group_id=group, enable_auto_commit=False)
    try:
        async with explained(settings):
            await consumer.start()
        yield consumer
    finally:
        await _in_time(consumer.stop)


def make_producer(settings: KafkaSettings, client_id: str) -> AIOKafkaProducer:
    """The one producer of a process: idempotent, ``acks=all``, no added delay. Start it inside the event loop."""
    arm()
    return AIOKafkaProducer(
        **_connection(settings, client_id),
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_request_size=MAX_MESSAGE_BYTES,
        metadata_max_age_ms=30_000,
        partitioner=choose_partition,
    )


@lru_cache(maxsize=4096)
def _hash(key: bytes) -> int:
    """Kafka's hash of a key; kept, because every event of a stream has the same one."""
    return int(murmur2(key)) & 0x7FFFFFFF


def choose_partition(key: bytes | None, partitions: Sequence[int], available: Sequence[int]) -> int:
    """The partition that every Kafka client chooses for this key; for none, any of those that are available."""
    if key is None:
        return random.choice(available or partitions)
    return partitions[_hash(key) % len(partitions)]


@asynccontextmanager
async def started(broker: KafkaBroker, settings: KafkaSettings) -> AsyncIterator[None]:
    """A broker that reads during the body. It leaves its groups at the end, if Kafka answers in time.

    Raises whatever the client raises; then a new broker must be created.
    """
    try:
        async with explained(settings):
            await broker.start()
        yield
    finally:
        await _in_time(broker.stop)


def check_reading(consumer: AIOKafkaConsumer) -> None:
    """Raise ``KafkaError`` if the background fetch has ended.

    The client itself would keep running and return nothing.
    """
    background = (consumer._fetcher._fetch_task, consumer._client._sync_task)  # noqa: SLF001  nothing else reports it
    if any(task.done() for task in background):
        raise KafkaError("the client has stopped fetching")


@asynccontextmanager
async def open_producer(settings: KafkaSettings, client_id: str) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer of ``make_producer``, ``abandon``-ed at the end. Raises whatever the client raises."""
    producer = make_producer(settings, client_id)
    try:
        async with explained(settings):
            await producer.start()
        yield producer
    finally:
        await abandon(producer)


async def abandon(producer: AIOKafkaProducer) -> None:
    """Close a producer without sending its pending records; callers that wait for them get ``ProducerClosed``.

    Records already on the wire may still arrive. ``AIOKafkaProducer.stop`` would first send the rest, after what
    another producer may have sent by then, and wait for Kafka for as long as that takes.
    """
    sender = producer._sender.sender_task  # noqa: SLF001  the client has no other way to stop sending
    if sender is not None:
        sender.cancel()
    accumulator = producer._message_accumulator  # noqa: SLF001  likewise
    accumulator.fail_all(ProducerClosed())
    for batches in accumulator._batches.values():  # noqa: SLF001  it logs errors that were never retrieved
        for batch in batches:
            batch._drain_waiter.exception()  # noqa: SLF001

    async def stop() -> None:
        try:
            await producer.stop()
        finally:
            await producer.client.close()

    await _in_time(stop)


async def _in_time(stop: Callable[[], Awaitable[None]]) -> None:
    """Stop a client; its errors no longer matter."""

    async def stopping() -> None:
        with suppress(Exception):
            await stop()

    task = asyncio.create_task(stopping())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
    await asyncio.wait({task}, timeout=_CLOSE_SECONDS)


def _security(settings: KafkaSettings) -> BaseSecurity | None:
    context, protocol = settings.ssl_context(), settings.kafka_security_protocol
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=True) if context else None
    kind: Any = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}[
        settings.kafka_sasl_mechanism
    ]
    security: BaseSecurity = kind(
        username=settings.kafka_sasl_username or "",
        password=_password(settings) or "",
        ssl_context=context,
        use_ssl=context is not None,
    )
    return security


def _connection(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """How one of aiokafka's own clients connects."""
    sasl: dict[str, Any] = {}
    if settings.kafka_security_protocol.startswith("SASL"):
        sasl = {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return {
        "bootstrap_servers": settings.bootstrap,
        "client_id": client_id,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": settings.ssl_context(),
        **sasl,
    }


def _password(settings: KafkaSettings) -> str | None:
    return settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else None
