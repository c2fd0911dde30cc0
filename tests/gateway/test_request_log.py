import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    TopicAuthorizationFailedError,
)

from gateway.metrics import Metrics
from gateway.request_log import RequestLog
from orchestra import loops
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import no_pause, running, steps
from tests.support.waiting import eventually


class Producer:
    """A producer that acknowledges when the test releases it."""

    def __init__(self) -> None:
        self.refusals: list[BaseException] = []
        self.sent: list[asyncio.Future[None]] = []
        self.closed = False
        self.client = SimpleNamespace(fetch_all_metadata=self.metadata)
        self.topics: list[str] = ["llm.requests"]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        try:
            if self.refusals:
                raise self.refusals.pop()
            yield self
        finally:
            self.closed = True
            for future in self.sent:
                if not future.done():
                    future.set_exception(ProducerClosed())

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
def second() -> Producer:
    return Producer()


@pytest.fixture
async def log(producer: Producer, second: Producer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RequestLog]:
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS")
    made = iter([producer, second])
    log = RequestLog(lambda: next(made).opened(), Metrics(), timeout=0.05, max_pending=2)
    async with running(log.run()):
        await eventually(lambda: log._connected)
        yield log


async def code_of(log: RequestLog) -> ErrorCode:
    with pytest.raises(OrchestraError) as caught:
        await log.write(b"k", b"v", [("a", "ä")])
    return caught.value.code


async def test_acknowledged(log: RequestLog, producer: Producer) -> None:
    """A write returns when it is acknowledged, and not before."""
    writing = asyncio.create_task(log.write(b"k", b"v", []))
    while not producer.sent:
        await asyncio.sleep(0)
    assert not writing.done()
    producer.sent[0].set_result(None)
    await writing


async def test_not_in_time(log: RequestLog, producer: Producer) -> None:
    """Without an acknowledgement in time the outcome is unknown; the record stays on its way."""
    assert await code_of(log) is ErrorCode.OUTCOME_UNKNOWN
    assert not producer.sent[0].cancelled()
    assert len(log._pending) == 1
    producer.sent[0].set_result(None)
    await asyncio.wait(log._pending)
    assert log._metrics.registry.get_sample_value("orchestra_gateway_late_acks_total") == 1
    assert log._connected


async def test_caller_leaves(log: RequestLog, producer: Producer) -> None:
    """A caller that leaves does not cancel its record."""
    writing = asyncio.create_task(log.write(b"k", b"v", []))
    while not producer.sent:
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    assert writing.cancelled()
    assert not producer.sent[0].cancelled()


async def test_too_many(log: RequestLog, producer: Producer) -> None:
    """At the limit of records on their way no more are accepted until one is acknowledged."""
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
async def test_not_sent(log: RequestLog, producer: Producer, error: KafkaError, code: ErrorCode) -> None:
    """A record that was certainly not sent is refused as such, and the producer is kept."""
    producer.refusals.append(error)
    assert await code_of(log) is code
    await steps()
    assert not producer.closed


FAILURES = [OutOfOrderSequenceNumber(), KafkaError(), OSError(), asyncio.IncompleteReadError(b"", 4), RuntimeError()]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_beyond_help(log: RequestLog, producer: Producer, second: Producer, error: Exception, late: bool) -> None:
    """A failed producer is replaced (aiokafka issue 1017): the outcome of its records is unknown, new ones work."""
    writing = asyncio.create_task(code_of(log))
    await eventually(lambda: producer.sent)
    if late:
        producer.sent[0].set_exception(error)
    else:
        producer.refusals.append(error)
        assert await code_of(log) is ErrorCode.OUTCOME_UNKNOWN
    assert await writing is ErrorCode.OUTCOME_UNKNOWN
    await eventually(lambda: producer.closed and log._connected)
    again = asyncio.create_task(log.write(b"k", b"v", []))
    await eventually(lambda: second.sent)
    second.sent[0].set_result(None)
    await again


async def test_what_an_old_producer_says_does_not_fail_the_next(log: RequestLog, producer: Producer) -> None:
    """All records of a failed producer fail with it, and their late errors do not fail its successor."""
    writing = [asyncio.create_task(code_of(log)) for _ in range(2)]
    await eventually(lambda: len(producer.sent) == 2)
    producer.sent[0].set_exception(KafkaError())
    assert [ErrorCode.OUTCOME_UNKNOWN] * 2 == [await each for each in writing]
    await eventually(lambda: producer.closed and log._connected)
    connected = log._connected
    await steps()
    assert connected is log._connected
    assert log._on_their_way() == 0


async def test_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until Kafka is there calls are refused as unavailable; connecting is retried whatever goes wrong."""
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS", "LAST_PAUSE_SECONDS")
    failing = [Producer() for _ in FAILURES]
    for each, error in zip(failing, FAILURES, strict=True):
        each.refusals.append(error)
    made = iter([*failing, Producer()])
    log = RequestLog(lambda: next(made).opened(), Metrics(), timeout=1, max_pending=1)
    assert await code_of(log) is ErrorCode.UNAVAILABLE
    assert await log.ping() == "Kafka cannot be reached"
    async with running(log.run()):
        await eventually(lambda: log._connected)
        assert all(each.closed for each in failing)
        assert await log.ping() is None
    assert await code_of(log) is ErrorCode.UNAVAILABLE


async def test_ping(log: RequestLog, producer: Producer) -> None:
    """A broker that does not respond and a missing topic are reported differently."""
    producer.refusals.append(KafkaError())
    assert await log.ping() == "Kafka does not respond (KafkaError)"
    producer.topics = []
    assert await log.ping() == "the topic llm.requests is missing"


async def test_no_room_in_time(log: RequestLog, producer: Producer) -> None:
    """A record that the producer does not accept in time is not written, and counts as on its way until then."""

    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    producer.send = never  # type: ignore[method-assign]
    writing = [asyncio.create_task(code_of(log)) for _ in range(3)]
    codes = [await each for each in writing]

    assert [ErrorCode.UNAVAILABLE, ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED] == codes
    assert log._connected
