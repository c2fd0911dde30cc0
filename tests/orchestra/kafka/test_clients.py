"""Promises of orchestra/kafka/clients.py: no default of the clients that loses, doubles or skips records is left."""

import ast
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener
from aiokafka.partitioner import DefaultPartitioner
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from hypothesis import given
from hypothesis import strategies as st

from orchestra.kafka import clients as kafka
from orchestra.kafka.clients import choose_partition, group_reader, make_broker, make_producer, tail_reader
from orchestra.settings import KafkaSettings
from schemas.topics import EVENTS, REQUESTS
from tests.support.stack import Stack
from tests.support.tree import PACKAGES, ROOT

CANARY = "canary"


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hears of rebalances and does nothing."""

    async def on_partitions_revoked(self, revoked: object) -> None: ...

    async def on_partitions_assigned(self, assigned: object) -> None: ...


@pytest.fixture
async def broker(stack: Stack) -> AsyncIterator[KafkaBroker]:
    """A broker as every service makes it."""
    made = make_broker(stack.kafka_settings, "test")
    yield made
    await made.stop()


@pytest.fixture
async def producer(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    """A producer as every service makes it."""
    made = make_producer(stack.kafka_settings, "test")
    await made.start()
    yield made
    await made.stop()


async def test_readers_acknowledge_nothing_by_themselves(broker: KafkaBroker) -> None:
    """Each subscriber that there is: manual, without replies, without a handler that could be passed over."""
    group_reader(broker, [REQUESTS.name], f"test-{uuid4()}", Listener())
    tail_reader(broker, EVENTS.name)

    assert 2 == len(broker.subscribers)
    for subscriber in broker.subscribers:
        assert AckPolicy.MANUAL is subscriber.ack_policy  # type: ignore[attr-defined]
        assert subscriber._no_reply is True
        assert subscriber.calls == []


async def test_a_group_reader_starts_at_the_beginning_and_reads_what_is_committed(broker: KafkaBroker) -> None:
    """The options that the running consumer has: earliest, read_committed, no automatic commit, no short leash."""
    subscriber = group_reader(broker, [REQUESTS.name], f"test-{uuid4()}", Listener())
    await broker.start()

    effective = vars(subscriber.consumer)
    assert "earliest" == effective["_auto_offset_reset"]
    assert "read_committed" == effective["_isolation_level"]
    assert effective["_enable_auto_commit"] is False
    assert 10_000 == effective["_session_timeout_ms"]
    assert effective["_heartbeat_interval_ms"] * 3 <= effective["_session_timeout_ms"]
    assert 3_600_000 == effective["_max_poll_interval_ms"]
    assert 10_000 == effective["_rebalance_timeout_ms"]


async def test_a_tail_reader_reads_every_partition_from_now_on(broker: KafkaBroker) -> None:
    """It reads without a group, so that no other replica takes its share; no open transaction blocks it."""
    subscriber = tail_reader(broker, EVENTS.name)
    await broker.start()

    consumer = subscriber.consumer
    assert consumer is not None
    assert set(range(EVENTS.partitions)) == {tp.partition for tp in consumer.assignment()}
    effective = vars(consumer)
    assert (None, "latest", "read_uncommitted") == tuple(
        effective[name] for name in ("_group_id", "_auto_offset_reset", "_isolation_level")
    )
    assert effective["_enable_auto_commit"] is False


async def test_the_producer_loses_and_doubles_nothing(producer: AIOKafkaProducer) -> None:
    """Idempotent, acknowledged by all, without added delay, for records as large as the topics take."""
    assert producer._txn_manager is not None
    assert -1 == producer._sender._acks
    assert 0 == producer._message_accumulator._linger_time
    assert int(REQUESTS.config["max.message.bytes"]) == producer._max_request_size
    assert choose_partition is producer._partitioner


async def test_the_producer_carries_any_bytes(producer: AIOKafkaProducer) -> None:
    """Keys, values and header values are bytes as they came, or nothing."""
    headers = [("name", b"\xff\x00"), ("name", None)]

    done = await producer.send_and_wait(EVENTS.name, None, key=b"\xff", headers=headers)

    assert done.offset >= 0


@given(st.binary(max_size=40), st.integers(1, 64))
def test_a_key_goes_where_every_client_sends_it(key: bytes, partitions: int) -> None:
    """A key's partition is the one that Kafka's own clients choose."""
    numbers = list(range(partitions))

    assert DefaultPartitioner()(key, numbers, []) == choose_partition(key, numbers, [])


def test_a_record_without_a_key_goes_where_it_can() -> None:
    """A record without a key goes to a partition that is available, or to any if none is."""
    numbers = list(range(32))

    assert (5, True) == (choose_partition(None, numbers, [5]), choose_partition(None, numbers, []) in numbers)


def test_the_broker_makes_no_topics() -> None:
    """A misspelt topic is an error, not a new topic."""
    assert make_broker(KafkaSettings(), "test").config.allow_auto_create_topics is False


def test_every_subscriber_is_made_here() -> None:
    """No other module makes a FastStream subscriber or a consumer or producer of its own."""
    makers = {"subscriber", "AIOKafkaConsumer", "AIOKafkaProducer", "KafkaBroker"}
    found = {
        path.relative_to(ROOT)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if makers & called(path)
    }

    assert {Path("orchestra/kafka/clients.py")} == found


def called(path: Path) -> set[str]:
    """The names of all functions and methods that a file calls."""
    calls = (node.func for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call))
    return {each.attr if isinstance(each, ast.Attribute) else ast.unparse(each) for each in calls}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
async def test_both_clients_sign_in_alike(mechanism: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broker and producer get the same mechanism, user, password and encryption."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(kafka, "AIOKafkaProducer", lambda **options: given.update(options))
    settings = KafkaSettings.model_validate(
        {
            "kafka_security_protocol": protocol,
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": "user",
            "kafka_sasl_password": CANARY,
        }
    )
    make_producer(settings, "test")
    security = kafka._security(settings)

    assert (protocol, mechanism, "user", CANARY) == tuple(
        given[name] for name in ("security_protocol", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
    )
    assert security is not None
    assert ("user", CANARY) == (security.username, security.password)  # type: ignore[attr-defined]
    assert (protocol == "SASL_SSL") == (given["ssl_context"] is not None) == security.use_ssl
    assert CANARY not in repr(make_broker(settings, "test"))
