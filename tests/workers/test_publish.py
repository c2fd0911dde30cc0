"""Promises of workers/publish.py: records leave a worker in order and are marked once Kafka has them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumber,
    RecordListTooLargeError,
)

from orchestra import loops
from orchestra.store.turns import Announcement
from orchestra.transcript import Piece
from schemas.errors import ErrorCode
from schemas.events import EVENT_TYPES, Restarted
from schemas.replies import Reply, RequestError
from schemas.status import Status
from schemas.topics import DEAD_LETTERS, EVENTS, MAX_RECORD_BYTES, REPLIES
from tests.support.events import SIGNER
from tests.support.fakes import QUICK, Calls, FakeProducer, away, no_pause, running, steps
from tests.support.records import claimed
from tests.support.store import letter
from tests.support.waiting import eventually
from workers import publish
from workers.metrics import Metrics
from workers.publish import Publisher
from workers.timings import Timings


@pytest.fixture
def marks(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A fake of the marking in Postgres, which is called often."""
    calls = Calls(None)
    monkeypatch.setattr(publish.outbox, "mark_published", calls)
    no_pause(monkeypatch, loops, "FIRST_PAUSE_SECONDS")
    return calls


def publisher(*producers: FakeProducer | Exception, timings: Timings = QUICK) -> Publisher:
    """A publisher that gets these producers in order; an error is a producer that fails to start."""
    made, anything = iter(producers), None

    @asynccontextmanager
    async def open_producer() -> AsyncIterator[Any]:
        producer = next(made)
        if isinstance(producer, Exception):
            raise producer
        yield producer

    return Publisher(open_producer, cast(Any, anything), Metrics(), SIGNER, timings)


def announcement(id: int, status: str = "completed", conversation: UUID | None = None, **more: Any) -> Announcement:
    """A row of the outbox."""
    request_id, conversation_id = uuid4(), conversation or uuid4()
    value = {
        "request_id": str(request_id),
        "conversation_id": str(conversation_id),
        "status": status,
        "reply": "text" if status == "completed" else None,
        "error": {"code": "timeout", "detail": "why"} if status == "failed" else None,
        "usage": {"input_tokens": 1, "output_tokens": 1} if status == "completed" else None,
        "attempts": 2,
        **more,
    }
    headers: dict[str, str | None] = {"correlation_id": "c", "traceparent": None, "body_hash": "hash"}
    return Announcement(id, "tenant", request_id, conversation_id, uuid4(), orjson.dumps(value).decode(), headers)


def places(producer: FakeProducer) -> list[str]:
    """The request ids on the reply topic, in order."""
    return [orjson.loads(value)["request_id"] for value in producer.values(REPLIES.name) if value]


async def test_events_of_a_turn_keep_their_order(marks: Calls) -> None:
    """The events of a turn have one key and keep their order."""
    producer, turn = FakeProducer(), claimed(fence=2)
    out = publisher(producer)
    async with running(out.run()):
        out.started(turn)
        out.delta(turn, 0, "a")
        out.delta(turn, 1, "b")
        out.announce([announcement(1)])
        await eventually(lambda: len(producer.sent) == 5)

    sent = [each for each in producer.sent if each.topic == EVENTS.name]
    kinds = [(each.headers["ce_type"] or b"").decode().removeprefix("llm.request.") for each in sent]
    assert ["started", "delta", "delta", "completed"] == kinds
    assert {str(turn.id).encode()} == {each.key for each in sent[:3]}
    values = [orjson.loads(each.value or b"") for each in sent]
    assert {"attempt": 2, "conversation_id": str(turn.conversation_id)} == values[0]
    assert [{"attempt": 2, "at": 0, "text": "a"}, {"attempt": 2, "at": 1, "text": "b"}] == values[1:3]


async def test_pieces_other_than_text_are_events_of_their_own(marks: Calls) -> None:
    """Each kind of piece has the fields that it needs, and is read back as the contract says."""
    producer, turn = FakeProducer(), claimed(fence=2)
    out = publisher(producer)
    async with running(out.run()):
        out.piece(turn, 0, Piece("reasoning", "so"))
        out.piece(turn, 2, Piece("tool_call", "", 0, "call_1", "weather"))
        out.piece(turn, 3, Piece("tool_arguments", "{}", 0))
        out.piece(turn, 5, Piece("refusal", "no"))
        out.delta(turn, 0, "text", 7)
        await eventually(lambda: len(producer.sent) == 5)

    assert [
        {"attempt": 2, "n": 0, "kind": "reasoning", "text": "so"},
        {"attempt": 2, "n": 2, "kind": "tool_call", "index": 0, "call_id": "call_1", "name": "weather"},
        {"attempt": 2, "n": 3, "kind": "tool_arguments", "index": 0, "text": "{}"},
        {"attempt": 2, "n": 5, "kind": "refusal", "text": "no"},
        {"attempt": 2, "at": 0, "text": "text", "n": 7},
    ] == [orjson.loads(each.value or b"") for each in producer.sent]
    for each in producer.sent:
        kind = (each.headers["ce_type"] or b"").decode()
        assert orjson.loads(each.value or b"") == EVENT_TYPES[kind].model_validate_json(each.value or b"").model_dump(
            exclude_none=True
        )


async def test_the_items_of_an_answer_are_in_its_event(marks: Calls) -> None:
    """The completed event has the items of the reply, and no such field if the answer is a text."""
    producer, output = FakeProducer(), [{"type": "function_call", "call_id": "c", "name": "n", "arguments": "{}"}]
    out = publisher(producer)
    async with running(out.run()):
        out.announce([announcement(1, output=output), announcement(2)])
        await eventually(lambda: len(producer.values(EVENTS.name)) == 2)

    told = [orjson.loads(value or b"") for value in producer.values(EVENTS.name)]
    assert [output, None] == [value.get("output") for value in told]
    assert "output" not in told[1]


async def test_text_of_all_attempts_goes_together(marks: Calls) -> None:
    """What attempts have gathered is handed over in one go, each once."""
    producer, one, another = FakeProducer(), claimed(), claimed()
    out = publisher(producer)
    async with running(out.run()):
        await out.connected.wait()
        for turn in (one, another):
            out.gather(turn, partial(out.delta, turn, 0, "a"))
        assert [] == producer.sent
        await eventually(lambda: producer.sent)
        assert 2 == len(producer.sent)
        out.gather(one, partial(out.delta, one, 1, "b"))
        await eventually(lambda: len(producer.sent) == 3)

    assert [str(turn.id).encode() for turn in (one, another, one)] == [each.key for each in producer.sent]


async def test_what_cannot_wait_takes_only_its_own_along(marks: Calls) -> None:
    """A hand-over for one request leaves the text of the others to the next round."""
    producer, one, another = FakeProducer(), claimed(), claimed()
    out = publisher(producer, timings=Timings(gather=3600, mark=3600))
    async with running(out.run()):
        for turn in (one, another):
            out.gather(turn, partial(out.delta, turn, 0, "a"))
        out.hand_over(one)
        out.restart(one, ErrorCode.TIMEOUT, "why")
        await eventually(lambda: len(producer.sent) == 2)

    assert [str(one.id).encode()] * 2 == [each.key for each in producer.sent]


@pytest.mark.parametrize("ends", [True, False])
async def test_nothing_overtakes_the_text_of_its_request(marks: Calls, ends: bool) -> None:
    """An ending and the event of a failed attempt come after the text that was gathered before."""
    producer, turn = FakeProducer(), claimed(tenant="tenant")
    out = publisher(producer, timings=Timings(gather=3600, mark=3600))
    async with running(out.run()):
        out.gather(turn, partial(out.delta, turn, 0, "a"))
        if ends:
            out.announce([replace(announcement(1), request_id=turn.id)])
        else:
            out.restart(turn, ErrorCode.TIMEOUT, "why")
        await eventually(lambda: len(producer.values(EVENTS.name)) == 2)

    kinds = [each.headers["ce_type"] for each in producer.sent if each.topic == EVENTS.name]
    assert [b"llm.request.delta", b"llm.request.completed" if ends else b"llm.request.restart"] == kinds


async def test_a_new_attempt_comes_after_what_the_last_one_left(marks: Calls) -> None:
    """Text that an attempt has left is published before anything of the request's next attempt."""
    producer, turn = FakeProducer(), claimed()
    again = replace(turn, fence=turn.fence + 1)
    out = publisher(producer, timings=Timings(gather=3600, mark=3600))
    async with running(out.run()):
        out.gather(turn, partial(out.delta, turn, 0, "a"))
        out.gather(again, partial(out.started, again))
        out.hand_over(again)
        await eventually(lambda: len(producer.sent) == 2)

    assert [turn.fence, again.fence] == [orjson.loads(each.value or b"")["attempt"] for each in producer.sent]


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled", "expired"])
async def test_every_event_is_signed(marks: Calls, status: str) -> None:
    """Every event is signed over its type, request, body, tenant and value; a reply is not signed."""
    producer, turn = FakeProducer(), claimed()
    out = publisher(producer)
    async with running(out.run()):
        out.started(turn)
        out.delta(turn, 0, "a")
        out.restart(turn, ErrorCode.TIMEOUT, "why")
        out.announce([announcement(1, status)])
        await eventually(lambda: len(producer.sent) == 5)

    *sent, reply = producer.sent
    assert "orchestra-signature" not in reply.headers
    names = ("orchestra-signature", "ce_type", "ce_subject", "orchestra-body-hash", "orchestra-tenant")
    assert all(SIGNER.verify(*(each.headers[name] or b"" for name in names), each.value or b"") for each in sent)


async def test_a_gateway_before_signatures_reads_the_same(marks: Calls) -> None:
    """Apart from its signature an event is, header by header, what versions before 0.1.0 wrote."""
    producer, turn = FakeProducer(), claimed(traceparent="00-a-b-00")
    out = publisher(producer)
    async with running(out.run()):
        out.delta(turn, 3, "a")
        await eventually(lambda: len(producer.sent) == 1)

    (sent,) = producer.sent
    headers = {name: value for name, value in sent.headers.items() if name not in ("ce_id", "orchestra-signature")}
    assert {
        "ce_specversion": b"1.0", "ce_type": b"llm.request.delta", "ce_source": b"/workers",
        "content-type": b"application/json", "ce_subject": str(turn.id).encode(), "orchestra-tenant": b"default",
        "orchestra-body-hash": b"hash", "traceparent": b"00-a-b-00",
    } == headers  # fmt: skip
    assert (str(turn.id).encode(), b'{"attempt":1,"at":3,"text":"a"}') == (sent.key, sent.value)


async def test_a_failed_attempt_is_an_event(marks: Calls) -> None:
    """A failed attempt is an event that voids the text, has the error, and can be read by a gateway."""
    producer, turn = FakeProducer(), claimed(fence=2)
    out = publisher(producer)
    async with running(out.run()):
        out.restart(turn, ErrorCode.RATE_LIMITED, "not now")
        await eventually(lambda: len(producer.sent) == 1)

    (event,) = producer.sent
    assert (b"llm.request.restart", str(turn.id).encode()) == (event.headers["ce_type"], event.key)
    read = Restarted.model_validate_json(event.value or b"")
    assert (2, "", RequestError(code=ErrorCode.RATE_LIMITED, detail="not now")) == (
        read.attempt,
        read.text,
        read.last_error,
    )


async def test_the_event_of_an_answer_says_why_it_ended(marks: Calls) -> None:
    """The event of an answer has the same finish reason as its reply."""
    producer = FakeProducer()
    out = publisher(producer)
    async with running(out.run()):
        out.announce([announcement(1, finish_reason="length", metadata={"order": "7"})])
        await eventually(lambda: len(producer.sent) == 2)

    assert {"attempt", "reply", "usage", "finish_reason"} == orjson.loads(producer.sent[0].value or b"").keys()


@pytest.mark.parametrize(
    ("status", "value"),
    [
        ("completed", {"attempt": 2, "reply": "text", "usage": {"input_tokens": 1, "output_tokens": 1}}),
        ("failed", {"attempt": 2, "code": "timeout", "detail": "why"}),
        ("cancelled", {"attempt": 2}),
        ("expired", {"attempt": 2}),
    ],
)
async def test_an_ending_is_an_event_and_a_reply(marks: Calls, status: str, value: dict[str, Any]) -> None:
    """An ending is an event and a reply with the outbox's id, and the reply has the outbox's bytes."""
    producer, ended = FakeProducer(), announcement(1, status)
    out = publisher(producer)
    async with running(out.run()):
        out.announce([ended])
        await eventually(lambda: len(producer.sent) == 2)

    event, reply = producer.sent
    assert value == orjson.loads(event.value or b"")
    assert (ended.value.encode(), str(ended.conversation_id).encode()) == (reply.value, reply.key)
    assert str(ended.event_id).encode() == event.headers["ce_id"] == reply.headers["ce_id"]
    assert (b"llm.reply", str(ended.request_id).encode()) == (reply.headers["ce_type"], reply.headers["ce_subject"])
    assert (b"c", b"hash", b"tenant") == tuple(
        reply.headers[name] for name in ("correlation_id", "orchestra-body-hash", "orchestra-tenant")
    )


async def test_replies_go_in_the_order_of_the_outbox(marks: Calls) -> None:
    """Replies are published in the order of the outbox, whatever order they were passed in."""
    producer, rows = FakeProducer(), [announcement(id) for id in (1, 2, 3)]
    out = publisher(producer)
    async with running(out.run()):
        out.announce([rows[2], rows[0], rows[1]])
        await eventually(lambda: len(places(producer)) == 3)

    assert [str(each.request_id) for each in rows] == places(producer)


async def test_a_reply_that_is_on_its_way_is_not_sent_again(marks: Calls) -> None:
    """A reply that is on its way is not sent again before it is marked."""
    producer, row = FakeProducer(slow=True), announcement(1)
    out = publisher(producer)
    async with running(out.run()):
        out.announce([row])
        out.announce([row])
        await eventually(lambda: places(producer))
        out.announce([row])
        await producer.flush()
        await eventually(lambda: marks.calls)
        await steps()
        assert 1 == len(places(producer))

        def sent_again() -> bool:
            out.announce([row])
            return len(places(producer)) == 2

        await eventually(sent_again)


async def test_only_what_kafka_has_is_marked(marks: Calls) -> None:
    """Only acknowledged replies are marked, not those that were merely sent."""
    producer = FakeProducer(slow=True)
    out = publisher(producer)
    async with running(out.run()):
        out.announce([announcement(1), announcement(2)])
        await eventually(lambda: len(producer.sent) == 4)
        assert marks.calls == []
        replies = [each for each in producer.sent if each.topic == REPLIES.name]
        replies[1].acknowledged.set_result(None)

        await eventually(lambda: marks.calls)

    assert [([2],)] == marks.calls


async def test_marks_wait_for_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """During an outage of Postgres no mark is forgotten and no reply is sent twice."""
    marks = Calls(away(), away(), None)
    monkeypatch.setattr(publish.outbox, "mark_published", marks)
    producer, row = FakeProducer(), announcement(7)
    out = publisher(producer)
    async with running(out.run()):
        out.announce([row])
        await eventually(lambda: len(marks.calls) == 3)
        assert [([7],)] * 3 == marks.calls

    assert 1 == len(places(producer))


@pytest.mark.parametrize("error", [OutOfOrderSequenceNumber(), KafkaError(), OSError(), TimeoutError(), None])
async def test_a_producer_beyond_help_is_replaced(marks: Calls, error: Exception | None) -> None:
    """A failed producer is replaced, and the next one first resends the unacknowledged records in order."""
    first, second, rows = FakeProducer(slow=True), FakeProducer(), [announcement(id) for id in (1, 2, 3)]
    out = publisher(first, KafkaConnectionError(), second)
    async with running(out.run()):
        out.announce(rows[:2])
        await eventually(lambda: len(first.sent) == 4)
        first.sent[1].acknowledged.set_result(None)
        await steps()
        if error:
            first.sent[3].acknowledged.set_exception(error)
        else:
            first.sent[3].acknowledged.cancel()
        out.announce(rows[2:])
        await eventually(lambda: len(second.sent) == 5)
        first.sent[0].acknowledged.set_result(None)
        await eventually(lambda: {1, 2, 3} == {id for (ids,) in marks.calls for id in ids})

    assert [str(each.request_id) for each in rows[1:]] == places(second)
    assert [each.value for each in (first.sent[0], *first.sent[2:])] == [each.value for each in second.sent[:3]]
    assert first.sent[3].headers == second.sent[2].headers


async def test_a_record_at_hand_is_kept_when_the_producer_fails(marks: Calls) -> None:
    """The record that was being sent when the producer failed is sent first by the next one."""
    rows = [announcement(1), announcement(2)]
    failing, next_one = FakeProducer(errors=[KafkaError("gone")]), FakeProducer()
    out = publisher(failing, next_one)
    async with running(out.run()):
        out.announce(rows)
        await eventually(lambda: len(next_one.sent) == 4)

    assert [str(each.request_id) for each in rows] == places(next_one)
    assert failing.sent == []


async def test_a_record_that_kafka_refuses_holds_up_nobody(marks: Calls) -> None:
    """A record that Kafka refuses delays no other, and a caller that waits for a dead letter continues."""
    producer = FakeProducer(slow=True, errors=[MessageSizeTooLargeError()])
    out = publisher(producer)
    async with running(out.run(), out.dead_letters([letter(), letter()])) as (run, waits):
        await eventually(lambda: len(producer.sent) == 1)
        out.announce([announcement(1)])
        await eventually(lambda: len(producer.sent) == 3)
        producer.sent[0].acknowledged.set_exception(RecordListTooLargeError())
        await asyncio.wait_for(waits, 10)
        await producer.flush()
        await eventually(lambda: [([1],)] == marks.calls)
        assert not run.done()


async def test_kafka_that_is_not_there_at_the_start_is_waited_for(marks: Calls) -> None:
    """Records queued before the first connection are sent once Kafka is reachable, and `connected` is set then."""
    producer = FakeProducer()
    out = publisher(KafkaConnectionError(), OSError(), TimeoutError(), producer)
    out.announce([announcement(1)])
    async with running(out.run()):
        assert not out.connected.is_set()
        await eventually(lambda: places(producer))
        assert out.connected.is_set()


async def test_replies_beyond_a_bound_are_left_to_the_outbox(marks: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit of records or bytes the last replies stay in the outbox, so that their order holds."""
    monkeypatch.setattr(publish, "MAX_QUEUED_BEFORE_EVENTS_DROP", 2)
    producer, rows = FakeProducer(), [announcement(id) for id in range(1, 9)]
    out = publisher(producer)
    out.announce(rows)
    async with running(out.run()):
        await eventually(lambda: len(places(producer)) == 3)
        await steps()
        out.announce(rows[3:4])
        await eventually(lambda: len(places(producer)) == 4)
    assert [str(each.request_id) for each in rows[:4]] == places(producer)

    monkeypatch.setattr(publish, "MAX_QUEUED_BYTES", len(rows[0].value) // 2)
    out.announce(rows[4:])
    assert 2 == len(out._queue)


async def test_what_waits_is_counted_in_bytes(marks: Calls) -> None:
    """The count of queued bytes is back at zero after a failure and a resend."""
    first, second = FakeProducer(slow=True), FakeProducer()
    out = publisher(first, second)
    async with running(out.run()):
        out.announce([announcement(1)])
        await eventually(lambda: len(first.sent) == 2)
        assert 0 == out._bytes
        first.sent[1].acknowledged.set_exception(KafkaError())
        await eventually(lambda: len(second.sent) == 2)
        await eventually(lambda: not out._sent)
        assert 0 == out._bytes


async def test_a_long_absence_of_kafka_is_sat_out(marks: Calls) -> None:
    """A record that finds no room in the producer's queue is retried before those behind it."""
    producer = FakeProducer(errors=[KafkaTimeoutError(), KafkaTimeoutError()])
    rows = [announcement(1), announcement(2)]
    out = publisher(producer)
    async with running(out.run()):
        out.announce(rows)
        await eventually(lambda: len(producer.sent) == 4)

    assert [str(each.request_id) for each in rows] == places(producer)


async def test_deltas_are_dropped_while_kafka_is_away(marks: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a limit deltas are dropped, but endings only beyond twice that."""
    monkeypatch.setattr(publish, "MAX_QUEUED_BEFORE_EVENTS_DROP", 2)
    producer, turn = FakeProducer(), claimed()
    out = publisher(producer)
    for at in range(10):
        out.delta(turn, at, "x")
    out.announce([announcement(1)])
    async with running(out.run()):
        await eventually(lambda: places(producer))

    assert 3 + 1 == len(producer.values(EVENTS.name))


async def test_dead_letters_are_awaited(marks: Calls) -> None:
    """Dead letters are awaited until Kafka has them all, unchanged and with their reason and place."""
    producer = FakeProducer(slow=True)
    out = publisher(producer)
    bad = letter(key=None, value=b"\xff", headers=[("x", b"\xfe"), ("y", None)], offset=5, partition=2)
    async with running(out.run(), out.dead_letters([bad.because(ErrorCode.NOT_JSON, "why"), letter()])) as (_, waits):
        await eventually(lambda: len(producer.sent) == 2)
        producer.sent[0].acknowledged.set_result(None)
        await steps()
        assert not waits.done()
        producer.sent[1].acknowledged.set_result(None)
        await asyncio.wait_for(waits, 10)

    sent = producer.sent[0]
    assert (DEAD_LETTERS.name, None, b"\xff") == (sent.topic, sent.key, sent.value)
    assert {
        "x": b"\xfe",
        "y": None,
        "dlq-reason": b"not_json",
        "dlq-detail": b"why",
        "dlq-topic": b"llm.requests",
        "dlq-partition": b"2",
        "dlq-offset": b"5",
    } == sent.headers


async def test_whoever_waits_for_a_refused_record_is_replied_to(marks: Calls) -> None:
    """The reply to a refused record has its ids and reason, with the same bytes and `ce_id` each time."""
    headers = [("correlation_id", b"order-7"), ("traceparent", b"00-1-2-03"), ("deadline", b"\xff")]
    bad = letter(key=b"talk", headers=headers, tenant="acme").because(ErrorCode.BAD_HEADER, "header deadline")
    other, twice = letter(), []
    for _ in range(2):
        producer = FakeProducer(slow=True)
        out = publisher(producer)
        async with running(out.run(), out.dead_letters([bad, other], [bad])) as (_, waits):
            await eventually(lambda: len(producer.sent) == 3)  # noqa: B023  awaited here
            producer.sent[0].acknowledged.set_result(None)
            producer.sent[1].acknowledged.set_result(None)
            await steps()
            assert not waits.done()
            producer.sent[2].acknowledged.set_result(None)
            await asyncio.wait_for(waits, 10)
        twice.append([(each.topic, each.key, each.value, each.headers) for each in producer.sent])

    topic, key, value, sent = twice[0][2]
    reply = Reply.model_validate_json(value or b"")
    assert (REPLIES.name, twice[0]) == (topic, twice[1])
    assert (Status.FAILED, ErrorCode.BAD_HEADER) == (reply.status, reply.error and reply.error.code)
    assert (str(bad.request_id).encode(), str(reply.conversation_id).encode()) == (sent["ce_subject"], key)
    assert (b"order-7", b"00-1-2-03", b"acme", b"llm.reply") == (
        sent["correlation_id"],
        sent["traceparent"],
        sent["orchestra-tenant"],
        sent["ce_type"],
    )


async def test_a_dead_letter_too_large_for_a_record_goes_without_its_value(marks: Calls) -> None:
    """A dead letter too large for a record is published without its value."""
    producer = FakeProducer()
    out = publisher(producer)
    large = letter(key=None, value=b"x" * MAX_RECORD_BYTES)
    larger = letter(key=None, value=b"x" * (MAX_RECORD_BYTES + 1))
    async with running(out.run()):
        await asyncio.wait_for(out.dead_letters([large, larger]), 10)

    assert [large.value, None] == producer.values(DEAD_LETTERS.name)
    assert b"value, key and headers omitted" in (producer.sent[1].headers["dlq-detail"] or b"")


async def test_a_dead_letter_of_nothing_at_all_is_sent(marks: Calls) -> None:
    """A dead letter with neither key nor value is sent."""
    producer = FakeProducer()
    out = publisher(producer)
    async with running(out.run()):
        await asyncio.wait_for(out.dead_letters([letter(key=None, value=None)]), 10)

    assert [(b"", None)] == [(each.key, each.value) for each in producer.sent]


async def test_flushing_leaves_nothing_owed(marks: Calls) -> None:
    """After a flush everything is acknowledged and marked, gathered text included."""
    producer, turn = FakeProducer(slow=True), claimed()
    out = publisher(producer, timings=Timings(gather=3600, mark=3600))
    async with running(out.run()):
        out.announce([announcement(id) for id in range(5)])
        out.gather(turn, partial(out.delta, turn, 0, "a"))
        async with running(out.flush()) as (flushing,):
            await eventually(lambda: len(producer.sent) == 11)
            assert not flushing.done()
            await producer.flush()
            await asyncio.wait_for(flushing, 10)

    assert [([0, 1, 2, 3, 4],)] == marks.calls


async def test_no_mark_is_lost_while_another_one_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush does not drop a reply that is acknowledged while the marks of others are written."""
    marked, release = list[list[int]](), asyncio.Event()

    async def mark(_database: object, ids: list[int]) -> None:
        marked.append(ids)
        if len(marked) == 1:
            await release.wait()

    monkeypatch.setattr(publish.outbox, "mark_published", mark)
    out = publisher(FakeProducer())
    async with running(out.run()):
        out.announce([announcement(1)])
        await eventually(lambda: marked)
        out.announce([announcement(2)])
        await steps()
        async with running(out.flush()) as (flushing,):
            await steps()
            out.announce([announcement(3)])
            await steps()
            release.set()
            await asyncio.wait_for(flushing, 10)
            await eventually(lambda: [1, 2, 3] == sorted(id for ids in marked for id in ids))
