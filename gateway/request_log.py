"""The gateway's one way to write to ``llm.requests``: a single idempotent producer, acknowledged or not in time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    ProducerClosed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

from gateway.metrics import Metrics
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import REQUESTS

_RECONNECT_SECONDS = 1.0
_CLOSE_SECONDS = 1.5
_PING_SECONDS = 3.0
# Raised before the record entered the producer's queue: it was not sent, and the producer is as good as before.
_NOT_SENT = (KafkaTimeoutError, ProducerClosed, TopicAuthorizationFailedError, UnknownTopicOrPartitionError)

_Headers = Sequence[tuple[str, str | bytes | None]]

log = structlog.get_logger()


class RequestLog:
    """``make_producer`` is called inside the event loop; ``on_failure`` when the producer is beyond help.

    ``timeout``: seconds that an acknowledgement may take; ``most_pending``: records that may be on their way.
    """

    def __init__(
        self,
        make_producer: Callable[[], AIOKafkaProducer],
        on_failure: Callable[[], None],
        metrics: Metrics,
        *,
        timeout: float,
        most_pending: int,
    ) -> None:
        self._make_producer = make_producer
        self._on_failure = on_failure
        self._metrics = metrics
        self._timeout = timeout
        self._most_pending = most_pending
        self._producer: AIOKafkaProducer | None = None
        self._entering = 0
        self._pending: set[asyncio.Future[object]] = set()
        metrics.pending_sends.set_function(self._on_their_way)

    async def connect(self) -> None:
        """Connect, however long that takes."""
        while self._producer is None:
            producer = self._make_producer()
            try:
                await producer.start()
            except (KafkaError, OSError) as error:
                log.warning("kafka_connect_failed", error=type(error).__name__)
                await producer.stop()
                await asyncio.sleep(_RECONNECT_SECONDS)
            except BaseException:
                await producer.stop()
                raise
            else:
                self._producer = producer

    async def write(self, key: bytes | None, value: bytes, headers: _Headers) -> None:
        """Write a record and wait until every replica in sync has it.

        Whoever stops waiting does not stop the record. Raises ``OrchestraError``: ``OVERLOADED`` and ``UNAVAILABLE``
        (surely not written), ``TOO_LARGE``, or ``OUTCOME_UNKNOWN``.
        """
        if self._producer is None:
            raise OrchestraError(ErrorCode.UNAVAILABLE, "Kafka cannot be reached")
        if self._on_their_way() >= self._most_pending:
            raise OrchestraError(ErrorCode.OVERLOADED, "too many requests are on their way to Kafka")
        began = time.monotonic()
        acknowledged = await self._enter(self._producer, key, value, headers)
        self._pending.add(acknowledged)
        acknowledged.add_done_callback(partial(self._sent, began))
        done, _ = await asyncio.wait({acknowledged}, timeout=self._timeout)
        if not done or acknowledged.cancelled():
            raise _unknown()
        if error := acknowledged.exception():
            raise _too_large() if isinstance(error, MessageSizeTooLargeError) else _unknown() from error

    async def ping(self) -> str | None:
        """Why Kafka cannot take records now; None when it can."""
        if self._producer is None:
            return "Kafka cannot be reached"
        try:
            async with asyncio.timeout(_PING_SECONDS):
                cluster = await self._producer.client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            return f"Kafka does not answer ({type(error).__name__})"
        return None if REQUESTS.name in cluster.topics() else f"the topic {REQUESTS.name} is missing"

    async def close(self) -> None:
        """Let what is on its way arrive, but not for ever: an idempotent producer would wait until Kafka is back."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=_CLOSE_SECONDS)
        for sending in self._pending:
            sending.cancel()
        if self._producer is not None:
            stopping = asyncio.create_task(self._producer.stop())
            await asyncio.wait({stopping}, timeout=_CLOSE_SECONDS)
            if not stopping.done():
                stopping.cancel()

    def _on_their_way(self) -> int:
        return len(self._pending) + self._entering

    async def _enter(
        self, producer: AIOKafkaProducer, key: bytes | None, value: bytes, headers: _Headers
    ) -> "asyncio.Future[object]":
        """Hand a record to the producer; its acknowledgement to come."""
        encoded = [(name, text.encode() if isinstance(text, str) else text) for name, text in headers]
        self._entering += 1
        try:
            async with asyncio.timeout(self._timeout):
                acknowledged: asyncio.Future[object] = await producer.send(
                    REQUESTS.name, value, key=key, headers=encoded
                )
        except MessageSizeTooLargeError:
            raise _too_large() from None
        except (*_NOT_SENT, TimeoutError) as error:
            raise OrchestraError(ErrorCode.UNAVAILABLE, f"Kafka takes no records ({type(error).__name__})") from error
        except KafkaError as error:
            self._fail(error)
            raise _unknown() from error
        finally:
            self._entering -= 1
        return acknowledged

    def _sent(self, began: float, acknowledged: "asyncio.Future[object]") -> None:
        """Count an acknowledgement, whether anybody still waits for it or not."""
        self._pending.discard(acknowledged)
        if acknowledged.cancelled():
            return
        error = acknowledged.exception()
        if error is None:
            seconds = time.monotonic() - began
            self._metrics.ack_seconds.observe(seconds)
            if seconds > self._timeout:
                self._metrics.late_acks.inc()
        elif not isinstance(error, MessageSizeTooLargeError):
            # An idempotent producer gives up only for good (aiokafka issue 1017).
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("producer_failed", error=type(error).__name__)
        self._on_failure()


def _too_large() -> OrchestraError:
    return OrchestraError(ErrorCode.TOO_LARGE)


def _unknown() -> OrchestraError:
    detail = "Kafka did not acknowledge in time; retry with the same Idempotency-Key"
    return OrchestraError(ErrorCode.OUTCOME_UNKNOWN, detail, retry_after=5)
