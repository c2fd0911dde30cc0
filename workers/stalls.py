"""Detects partitions that are blocked by an open transaction: Kafka returns nothing from its first record on."""

import asyncio

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError

from workers.metrics import Metrics

# A normal transaction is over by then.
STALLED_SECONDS = 10.0
# Raised by aiokafka for a partition that has just been assigned or is no longer assigned.
NOT_ASSIGNED = (AssertionError, AttributeError, IllegalStateError)

log = structlog.get_logger()


class Stalls:
    """The topics of this worker that are blocked by an open transaction. No records of them are read, and none lost."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # The offset at which each partition is blocked, and since when.
        self._stands: dict[TopicPartition, tuple[int, float]] = {}
        self._logged: set[TopicPartition] = set()

    def look(self, consumer: AIOKafkaConsumer) -> frozenset[str]:
        """The topics that have been blocked for ten seconds; each blocked partition is logged once."""
        now = asyncio.get_running_loop().time()
        stands = {tp: at for tp in consumer.assignment() if (at := _stands_at(consumer, tp)) is not None}
        self._stands = {tp: self._since(tp, at, now) for tp, at in stands.items()}
        stalled = {tp for tp, (_, since) in self._stands.items() if now - since >= STALLED_SECONDS}
        for tp in stalled - self._logged:
            log.warning("intake_stalled", topic=tp.topic, partition=tp.partition, offset=self._stands[tp][0])
        self._logged = stalled
        self._metrics.stalled_partitions.set(len(stalled))
        return frozenset(tp.topic for tp in stalled)

    def _since(self, tp: TopicPartition, at: int, now: float) -> tuple[int, float]:
        before = self._stands.get(tp)
        return before if before and before[0] == at else (at, now)


def position(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """The offset of the next record that this consumer returns; None if it is not known yet."""
    try:
        found: int | None = consumer._subscription.subscription.assignment.state_value(tp).position  # noqa: SLF001  no await
    except NOT_ASSIGNED:
        return None
    return found


def _stands_at(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """The position of a partition with unread records of which Kafka returns none; None for any other."""
    try:
        end, shown, here = consumer.highwater(tp), consumer.last_stable_offset(tp), position(consumer, tp)
    except NOT_ASSIGNED:
        return None
    return here if None not in (end, shown, here) and here >= shown < end else None
