"""Connections to Kafka: a FastStream broker to read with, one idempotent producer to write with.

Every default of the clients that loses or doubles records is set here (docs/decisions/0004-kafka-clients.md).
"""

from typing import Any

from aiokafka import AIOKafkaProducer
from faststream.kafka import KafkaBroker
from faststream.kafka.subscriber.usecase import LogicSubscriber
from faststream.middlewares import AckPolicy
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from orchestra.kafka_records import read_any_header_name
from orchestra.settings import KafkaSettings
from schemas.topics import MAX_RECORD_BYTES

Subscriber = LogicSubscriber[Any]


def make_broker(settings: KafkaSettings, client_id: str) -> KafkaBroker:
    """A broker that only reads; writing goes through ``make_producer``, whose records may carry any bytes."""
    read_any_header_name()
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
    """Reads topics as a member of a group; nothing is committed but what the caller commits.

    It has no handler: the caller takes batches from ``consumer.getmany``, so that no record is parsed, skipped or
    acknowledged outside of its own code.
    """
    return broker.subscriber(
        *topics,
        group_id=group_id,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        listener=listener,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        # A killed member holds up everybody's intake until its session ends. Losing a session costs nothing here.
        session_timeout_ms=10_000,
        heartbeat_interval_ms=2_000,
        rebalance_timeout_ms=10_000,
        max_poll_interval_ms=3_600_000,
        fetch_max_wait_ms=500,
        max_partition_fetch_bytes=MAX_RECORD_BYTES + 64 * 1024,
    )


def tail_reader(broker: KafkaBroker, topic: str) -> Subscriber:
    """Reads every partition of a topic without a group, from now on; the caller may seek back."""
    return broker.subscriber(
        topic,
        group_id=None,
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        auto_offset_reset="latest",
        isolation_level="read_committed",
        fetch_max_wait_ms=500,
    )


def make_producer(settings: KafkaSettings, client_id: str) -> AIOKafkaProducer:
    """The one producer of a process: idempotent, ``acks=all``, no added delay. Start it inside the event loop."""
    sasl: dict[str, Any] = {}
    if settings.kafka_security_protocol.startswith("SASL"):
        sasl = {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": _password(settings),
        }
    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        client_id=client_id,
        security_protocol=settings.kafka_security_protocol,
        ssl_context=settings.ssl_context(),
        enable_idempotence=True,
        acks="all",
        linger_ms=0,
        max_request_size=MAX_RECORD_BYTES + 64 * 1024,
        metadata_max_age_ms=30_000,
        **sasl,
    )


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


def _password(settings: KafkaSettings) -> str | None:
    return settings.kafka_sasl_password.get_secret_value() if settings.kafka_sasl_password else None
