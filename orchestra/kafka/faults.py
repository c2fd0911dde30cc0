"""Makes the Kafka clients raise errors at rates that an environment variable sets, for the fault campaign."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial, wraps
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumber,
    RequestTimedOutError,
    UnknownError,
)

_ACKNOWLEDGEMENT = "producer.acknowledgement"
_METHODS: Mapping[str, type] = MappingProxyType(
    {"consumer": AIOKafkaConsumer, "producer": AIOKafkaProducer, "client": AIOKafkaClient}
)
CALLS = (
    "consumer.start",
    "consumer.getmany",
    "consumer.commit",
    "consumer.position",
    "consumer.highwater",
    "consumer.beginning_offsets",
    "consumer.end_offsets",
    "consumer.offsets_for_times",
    "consumer.committed",
    "consumer.stop",
    "producer.start",
    "producer.send",
    _ACKNOWLEDGEMENT,
    "producer.stop",
    "client.fetch_all_metadata",
)
# These fail before they do anything, because a failure afterwards would be invisible: a record that was taken is sent,
# and a client that was not stopped would live on. All others fail before or after, at random.
_ONLY_BEFORE, _ONLY_AFTER = {"producer.send"}, {"consumer.stop", "producer.stop"}
_ERRORS: tuple[Callable[[], Exception], ...] = (
    KafkaError,
    KafkaConnectionError,
    NodeNotReadyError,
    NotLeaderForPartitionError,
    RequestTimedOutError,
    UnknownError,
    OSError,
    TimeoutError,
    asyncio.InvalidStateError,
    partial(asyncio.IncompleteReadError, b"", 4),
)

log = structlog.get_logger()


def parse(text: str) -> dict[str, float]:
    """The failure rate of each call: ``KAFKA_FAULTS=consumer.getmany=0.02,…``. Raises ``ValueError``."""
    rates = {}
    for order in filter(None, (part.strip() for part in text.split(","))):
        call, _, rate = order.partition("=")
        if call not in CALLS or not 0 <= float(rate or "nan") <= 1:
            raise ValueError(f"KAFKA_FAULTS: {order!r} is not CALL=SHARE with a call of orchestra/kafka/faults.py")
        rates[call] = float(rate)
    return rates


def environment(rates: Mapping[str, float]) -> dict[str, str]:
    """The environment variables that make calls of a process fail at these rates."""
    return {"KAFKA_FAULTS": ",".join(f"{call}={rate}" for call, rate in rates.items())}


@cache
def arm() -> None:
    """Make the clients of this process fail as ``KAFKA_FAULTS`` says from now on; without it nothing changes."""
    for call, rate in parse(os.environ.get("KAFKA_FAULTS", "")).items():
        owner, _, method = call.partition(".")
        if call == _ACKNOWLEDGEMENT:
            AIOKafkaProducer.send = _acknowledged_badly(AIOKafkaProducer.send, rate)
        else:
            setattr(_METHODS[owner], method, _failing(call, getattr(_METHODS[owner], method), rate))


def _failing(call: str, method: Any, rate: float) -> Any:
    def drawn() -> bool:
        return random.random() < rate

    def before() -> bool:
        return call in _ONLY_BEFORE or (call not in _ONLY_AFTER and random.random() < 0.5)

    if not iscoroutinefunction(method):

        @wraps(method)
        def fails(*args: Any, **options: Any) -> Any:
            if drawn():
                raise _error(call)
            return method(*args, **options)

        return fails

    @wraps(method)
    async def fails_too(*args: Any, **options: Any) -> Any:
        fault = drawn()
        if fault and before():
            raise _error(call)
        done = await method(*args, **options)
        if fault:
            raise _error(call)
        return done

    return fails_too


def _acknowledged_badly(send: Any, rate: float) -> Any:
    @wraps(send)
    async def sent(*args: Any, **options: Any) -> Any:
        future = await send(*args, **options)
        if random.random() >= rate:
            return future
        told = asyncio.get_running_loop().create_future()
        error = random.choice((_error(_ACKNOWLEDGEMENT), OutOfOrderSequenceNumber()))

        def tell(done: "asyncio.Future[Any]") -> None:
            if not done.cancelled():
                done.exception()
            if not told.done():
                told.set_exception(error)

        future.add_done_callback(tell)
        return told

    return sent


def _error(call: str) -> Exception:
    _injected()[call] += 1
    log.warning(
        "kafka_fault", part=call, count=_injected()[call]
    )  # The count makes each line different: all are written.
    return random.choice(_ERRORS)()


@cache
def _injected() -> Counter[str]:
    return Counter()
