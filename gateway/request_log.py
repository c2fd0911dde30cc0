"""Writes to ``llm.requests`` through one idempotent producer, and waits a bounded time for the acknowledgement."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from gateway.metrics import Metrics
from orchestra.kafka.clients import KAFKA_ERRORS
from orchestra.loops import keep_running
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import REQUESTS

_CLOSE_SECONDS = 1.5
_PING_SECONDS = 3.0
# Raised before the record entered the producer's queue: it was not sent, and the producer stays usable.
_NOT_SENT = (KafkaTimeoutError, ProducerClosed, TopicAuthorizationFailedError, UnknownTopicOrPartitionError)

Headers = Sequence[tuple[str, str | bytes | None]]


class RequestLog:
    """Accepts records while ``run`` runs and Kafka is reachable.

    A producer that fails is replaced. The outcome of its unacknowledged records is unknown: they may still arrive,
    after records of the next producer, so a caller that retries must use the same id.

    ``timeout``: seconds that an acknowledgement may take; ``max_pending``: records that may be on their way at once.
    """

    def __init__(
        self,
        open_producer: Callable[[], AbstractAsyncContextManager[AIOKafkaProducer]],
        metrics: Metrics,
        *,
        timeout: float,
        max_pending: int,
    ) -> None:
        self._open_producer = open_producer
        self._metrics = metrics
        self._timeout = timeout
        self._max_pending = max_pending
        self._connected: _Connected | None = None
        self._entering = 0
        self._pending: set[asyncio.Future[object]] = set()
        metrics.pending_sends.set_function(self._on_their_way)

    async def run(self) -> None:
        """Keep a producer connected until cancelled."""
        await keep_running(self._connect, "kafka_producer_failed", expected=KAFKA_ERRORS)

    async def write(self, key: bytes | None, value: bytes, headers: Headers) -> None:
        """Write a record and wait until every in-sync replica has it.

        Cancelling this call does not stop the record. Raises ``OVERLOADED``, ``UNAVAILABLE`` or ``TOO_LARGE`` (not
        written), or ``OUTCOME_UNKNOWN``.
        """
        connected = self._connected
        if connected is None or connected.failure.done():
            raise OrchestraError(ErrorCode.UNAVAILABLE, "Kafka cannot be reached")
        if self._on_their_way() >= self._max_pending:
            raise OrchestraError(ErrorCode.OVERLOADED, "too many requests are on their way to Kafka")
        began = time.monotonic()
        acknowledged = await self._enter(connected, key, value, headers)
        self._pending.add(acknowledged)
        acknowledged.add_done_callback(partial(self._sent, began, connected))
        done, _ = await asyncio.wait({acknowledged}, timeout=self._timeout)
        if not done or acknowledged.cancelled():
            raise _unknown()
        if error := acknowledged.exception():
            raise _too_large() if isinstance(error, MessageSizeTooLargeError) else _unknown() from error

    async def ping(self) -> str | None:
        """Why Kafka cannot accept records now; None when it can."""
        if self._connected is None:
            return "Kafka cannot be reached"
        try:
            async with asyncio.timeout(_PING_SECONDS):
                cluster = await self._connected.producer.client.fetch_all_metadata()
        except Exception as error:  # noqa: BLE001 - whatever the client raises, Kafka does not respond
            return f"Kafka does not respond ({type(error).__name__})"
        return None if REQUESTS.name in cluster.topics() else f"the topic {REQUESTS.name} is missing"

    async def close(self) -> None:
        """Wait a bounded time for records in flight; call it before ``run`` is cancelled."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=_CLOSE_SECONDS)

    async def _connect(self) -> None:
        """Connect a producer and keep it until it fails. Raises what it failed with."""
        async with self._open_producer() as producer:
            self._connected = _Connected(producer, asyncio.get_running_loop().create_future())
            try:
                await self._connected.failure
            finally:
                self._connected = None

    def _on_their_way(self) -> int:
        return len(self._pending) + self._entering

    async def _enter(
        self, connected: "_Connected", key: bytes | None, value: bytes, headers: Headers
    ) -> "asyncio.Future[object]":
        """Hand a record to the producer, and return the future of its acknowledgement."""
        encoded = [(name, text.encode() if isinstance(text, str) else text) for name, text in headers]
        self._entering += 1
        try:
            async with asyncio.timeout(self._timeout):
                acknowledged: asyncio.Future[object] = await connected.producer.send(
                    REQUESTS.name, value, key=key, headers=encoded
                )
        except MessageSizeTooLargeError:
            raise _too_large() from None
        except (*_NOT_SENT, TimeoutError) as error:
            raise OrchestraError(
                ErrorCode.UNAVAILABLE, f"Kafka does not accept records ({type(error).__name__})"
            ) from error
        except Exception as error:
            connected.fail(error)
            raise _unknown() from error
        finally:
            self._entering -= 1
        return acknowledged

    def _sent(self, began: float, connected: "_Connected", acknowledged: "asyncio.Future[object]") -> None:
        """Count an acknowledgement, whether a call still waits for it or not."""
        self._pending.discard(acknowledged)
        error = ProducerClosed() if acknowledged.cancelled() else acknowledged.exception()
        if error is None:
            seconds = time.monotonic() - began
            self._metrics.ack_seconds.observe(seconds)
            if seconds > self._timeout:
                self._metrics.late_acks.inc()
        elif not isinstance(error, MessageSizeTooLargeError):
            # An idempotent producer that has failed once never recovers (aiokafka issue 1017).
            connected.fail(error)


@dataclass(frozen=True)
class _Connected:
    """A producer that accepts records until ``failure`` is set."""

    producer: AIOKafkaProducer
    failure: asyncio.Future[None]

    def fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)


def _too_large() -> OrchestraError:
    return OrchestraError(ErrorCode.TOO_LARGE)


def _unknown() -> OrchestraError:
    detail = "Kafka did not acknowledge in time; retry with the same Idempotency-Key"
    return OrchestraError(ErrorCode.OUTCOME_UNKNOWN, detail, retry_after=5)
