import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    TopicAuthorizationFailedError,
)

from gateway.drain import Drain
from gateway.metrics import Metrics
from gateway.request_log import RequestLog
from schemas.errors import ErrorCode, OrchestraError


class Producer:
    """A producer that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.refusals: list[Exception] = []
        self.sent: list[asyncio.Future[None]] = []
        self.starts = self.stops = 0
        self.client = SimpleNamespace(fetch_all_metadata=self.metadata)
        self.topics: list[str] = ["llm.requests"]

    async def start(self) -> None:
        self.starts += 1
        if self.starts == 1 and self.refusals:
            raise self.refusals.pop()

    async def stop(self) -> None:
        self.stops += 1

    async def send(self, topic: str, value: bytes, *, key: bytes, headers: list[tuple[str, bytes]]) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]

    async def metadata(self) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        return SimpleNamespace(topics=lambda: self.topics)


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
async def log(producer: Producer, drain: Drain) -> AsyncIterator[RequestLog]:
    made = RequestLog(lambda: producer, lambda: drain.begin(failed=True), Metrics(), timeout=0.05, most_pending=2)
    await made.connect()
    yield made
    for future in producer.sent:
        future.cancel()
    await made.close()


async def code_of(log: RequestLog) -> ErrorCode:
    with pytest.raises(OrchestraError) as caught:
        await log.write(b"k", b"v", [("a", "ä")])
    return caught.value.code


async def test_acknowledged(log: RequestLog, producer: Producer) -> None:
    """A write is done when it is acknowledged, and not before."""
    writing = asyncio.create_task(log.write(b"k", b"v", []))
    while not producer.sent:
        await asyncio.sleep(0)
    assert not writing.done()
    producer.sent[0].set_result(None)
    await writing


async def test_not_in_time(log: RequestLog, producer: Producer, drain: Drain) -> None:
    """Without an acknowledgement in time the outcome is unknown; the record stays on its way."""
    assert await code_of(log) is ErrorCode.OUTCOME_UNKNOWN
    assert not producer.sent[0].cancelled()
    assert len(log._pending) == 1
    producer.sent[0].set_result(None)
    await asyncio.wait(log._pending)
    assert log._metrics.registry.get_sample_value("orchestra_gateway_late_acks_total") == 1
    assert not drain.begun


async def test_caller_leaves(log: RequestLog, producer: Producer) -> None:
    """A caller who gives up does not take his record back."""
    writing = asyncio.create_task(log.write(b"k", b"v", []))
    while not producer.sent:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert not producer.sent[0].cancelled()


async def test_too_many(log: RequestLog, producer: Producer) -> None:
    """Beyond so many records on their way nothing more is taken, until one has arrived."""
    assert [await code_of(log) for _ in range(3)] == [ErrorCode.OUTCOME_UNKNOWN] * 2 + [ErrorCode.OVERLOADED]
    assert len(producer.sent) == 2
    producer.sent[0].set_result(None)
    while len(log._pending) > 1:
        await asyncio.sleep(0)
    assert await code_of(log) is ErrorCode.OUTCOME_UNKNOWN


@pytest.mark.parametrize(
    ("error", "code"),
    [(MessageSizeTooLargeError(), ErrorCode.TOO_LARGE), (TopicAuthorizationFailedError(), ErrorCode.UNAVAILABLE)],
)
async def test_not_sent(log: RequestLog, producer: Producer, drain: Drain, error: KafkaError, code: ErrorCode) -> None:
    """A record that surely was not sent is refused as such, and the process goes on."""
    producer.refusals.append(error)
    assert await code_of(log) is code
    assert not drain.begun


@pytest.mark.parametrize("late", [False, True])
async def test_beyond_help(log: RequestLog, producer: Producer, drain: Drain, late: bool) -> None:
    """A producer that gives up is beyond help (aiokafka issue 1017): the process ends with an error."""
    if late:
        writing = asyncio.create_task(code_of(log))
        while not producer.sent:
            await asyncio.sleep(0)
        producer.sent[0].set_exception(OutOfOrderSequenceNumber())
        assert await writing is ErrorCode.OUTCOME_UNKNOWN
    else:
        producer.refusals.append(OutOfOrderSequenceNumber())
        assert await code_of(log) is ErrorCode.OUTCOME_UNKNOWN
    assert (drain.begun, drain.failed) == (True, True)


async def test_connect(monkeypatch: pytest.MonkeyPatch, drain: Drain) -> None:
    """Until Kafka is there calls are refused as unavailable; it is tried again and again."""
    monkeypatch.setattr("gateway.request_log._RECONNECT_SECONDS", 0)
    first, second = Producer(), Producer()
    first.refusals.append(KafkaConnectionError())
    made = iter([first, second])
    log = RequestLog(lambda: next(made), drain.begin, Metrics(), timeout=1, most_pending=1)
    assert await code_of(log) is ErrorCode.UNAVAILABLE
    assert await log.ping() == "Kafka cannot be reached"
    await log.connect()
    assert (first.stops, second.starts) == (1, 1)
    assert await log.ping() is None
    await log.close()


async def test_ping(log: RequestLog, producer: Producer) -> None:
    """A broker that does not answer and a topic that is missing are told apart."""
    producer.refusals.append(KafkaError())
    assert await log.ping() == "Kafka does not answer (KafkaError)"
    producer.topics = []
    assert await log.ping() == "the topic llm.requests is missing"


async def test_no_room_in_time(log: RequestLog, producer: Producer, drain: Drain) -> None:
    """A record that the producer has not taken in time is surely not written, and counts as on its way until then."""

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    producer.send = never  # type: ignore[method-assign]
    writing = [asyncio.create_task(code_of(log)) for _ in range(3)]
    codes = [await each for each in writing]

    assert [ErrorCode.UNAVAILABLE, ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED] == codes
    assert not drain.begun
