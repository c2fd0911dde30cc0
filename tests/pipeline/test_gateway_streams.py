"""Streams on real Kafka and Postgres: events, resuming on another gateway at every event, restarts, drains."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.transcript import Piece, before, items_of, joined, pieces_of, units_of
from orchestra.transcript import text_of as plain_text_of
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.answers import Reading
from tests.support.gateway import Gateway, HandWorker, Reader, Sse, own_env, running_gateway, streaming, text_of
from tests.support.stack import Stack
from tests.support.waiting import eventually

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
PIECES = ["Once", " upon", " a 🦉", " time", ", ćwir."]
TEXT = "".join(PIECES)
USAGE = {"input_tokens": 3, "output_tokens": len(TEXT)}


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env) as started:
        yield started


@pytest.fixture(scope="module")
async def replica(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env) as started:
        yield started


async def accept(gateway: Gateway) -> str:
    response = await gateway.client.post("/v1/messages", json=HELLO, headers={"Prefer": "respond-async"})
    location: str = response.headers["location"]
    return location


async def say(worker: HandWorker, turn: Any, pieces: list[str]) -> None:
    at = 0
    for piece in pieces:
        await worker.delta(turn, at, piece)
        at += len(piece)


@pytest.mark.parametrize("way", ["field", "header"])
async def test_post_streams(gateway: Gateway, worker: HandWorker, way: str) -> None:
    """A POST that asks for a stream gets every event in order, each with its id, and the location of the request."""
    more: dict[str, Any] = {"json": {**HELLO, "stream": True}}
    if way == "header":
        more = {"json": HELLO, "headers": {"Accept": "text/event-stream", "Prefer": "respond-async"}}
    async with streaming(gateway.client, "POST", "/v1/messages", **more) as reader:
        turn = await worker.begin()
        await say(worker, turn, PIECES)
        await worker.complete(turn, TEXT)
        told = await reader.rest()
    assert reader.response.headers["location"] == f"/v1/requests/{turn.id}"
    ids = {"request_id": str(turn.id), "conversation_id": str(turn.conversation_id)}
    assert told[:2] == [Sse("pending", ids), Sse("started", {"attempt": 1}, "1.0")]
    assert told[-1] == Sse("completed", {"reply": TEXT, "usage": USAGE, "finish_reason": "stop"}, f"1.{len(TEXT)}.end")
    assert {event.name for event in told[2:-1]} == {"delta"}
    assert text_of(told) == TEXT
    so_far = ""
    for event in told[2:-1]:
        so_far += event.data["text"]
        assert event.id == f"1.{len(so_far)}"


async def test_deltas_come_as_they_are_said(gateway: Gateway, worker: HandWorker) -> None:
    """A delta reaches the caller before the next one is generated."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        await reader.until("started")
        at = 0
        for piece in PIECES:
            await worker.delta(turn, at, piece)
            at += len(piece)
            assert await reader.next() == Sse("delta", {"text": piece}, f"1.{at}")
        await worker.complete(turn, TEXT)
        assert [event.name for event in await reader.rest()] == ["completed"]


async def test_resume_at_every_event_on_another_replica(gateway: Gateway, replica: Gateway, worker: HandWorker) -> None:
    """A stream cut after any event continues at another gateway, in mid reply and after the end, with the same text."""
    location = await accept(gateway)
    turn = await worker.begin()
    cut: list[Sse] = []
    async with streaming(gateway.client, "GET", f"{location}/events") as first:
        told = await first.until("started")
        cut.append(told[-1])
        said = ""
        for piece in PIECES:
            await worker.delta(turn, len(said), piece)
            said += piece
            cut += await first.until("delta")
            for place in cut:
                resumed = {"headers": {"Last-Event-ID": place.id}}
                async with streaming(replica.client, "GET", f"{location}/events", **resumed) as second:
                    assert (await second.until("pending"))[0].id is None
                    await read_on(second, place, said)
    await worker.complete(turn, TEXT)
    async with running_gateway(worker.env) as third:
        for place in cut:
            position = int(str(place.id).split(".")[1])
            for place_of in (replica, third):
                url = f"{location}/events?last_event_id={place.id}"
                async with streaming(place_of.client, "GET", url) as reader:
                    pending, *rest = await reader.rest()
                assert pending.name == "pending"
                assert {event.name for event in rest[:-1]} == ({"delta"} if position < len(TEXT) else set())
                assert rest[-1].name == "completed"
                assert TEXT[:position] + text_of(rest) == TEXT


ANSWER = [
    Piece("reasoning", "Hm 🦉"),
    Piece("text", "I look."),
    Piece("tool_call", "", 0, "call_1", "weather"),
    Piece("tool_arguments", '{"city": "Ósló"}', 0),
    Piece("tool_call", "", 1, "call_2", "time"),
    Piece("tool_arguments", "{}", 1),
]
ITEMS = items_of(ANSWER)


async def test_an_answer_of_more_than_a_text_resumes_at_every_unit(
    gateway: Gateway, replica: Gateway, worker: HandWorker
) -> None:
    """Each piece is sent as it comes; from each of its units on, any gateway has the rest, before the end and after."""
    location = await accept(gateway)
    turn = await worker.begin()
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        told, at = await reader.until("started"), 0
        for piece in ANSWER:
            if piece.kind == "text":
                value = {"attempt": 1, "at": 0, "n": at, "text": piece.text}
                await worker.event(turn, "llm.request.delta", value)
            else:
                await worker.piece(turn, at, piece)
            at += piece.units
            event = await reader.next()
            assert event
            told.append(event)
        assert [event.name for event in told[2:]] == [
            "reasoning.delta", "delta", "tool_call", "tool_call.delta", "tool_call", "tool_call.delta",
        ]  # fmt: skip
        assert told[-1].id == f"1.7-{at}"
        for place in range(units_of(ANSWER)):
            await resumes(replica, location, place, ended=False)
        await worker.answer(turn, ANSWER)
        ending = (await reader.rest())[-1]
    usage = {"input_tokens": 3, "output_tokens": 7}
    data = {"reply": "I look.", "usage": usage, "finish_reason": "tool_calls", "output": ITEMS}
    assert ending == Sse("completed", data, f"1.7-{at}.end")
    async with running_gateway(worker.env) as third:
        for place_of in (replica, third):
            for place in range(units_of(ANSWER)):
                await resumes(place_of, location, place, ended=True)
            seen = await place_of.client.get(f"{location}/events", headers={"Last-Event-ID": str(ending.id)})
            assert 204 == seen.status_code
            resource = (await place_of.client.get(location)).json()
            assert ("I look.", ITEMS, "tool_calls") == tuple(
                resource[name] for name in ("reply", "output", "finish_reason")
            )
        listed = (await third.client.get("/v1/requests?limit=1")).json()["data"]
        assert ITEMS == listed[0]["output"]
        conversation = f"/v1/conversations/{turn.conversation_id}/messages"
        question, answer = (await third.client.get(conversation)).json()["data"]
        assert ("I look.", ITEMS) == (answer["content"], answer["output"])
        assert "output" not in question


async def resumes(gateway: Gateway, location: str, place: int, *, ended: bool) -> None:
    """Whether a stream from this unit on has exactly the rest of the answer."""
    seen = before(ANSWER, place)
    id = f"1.{len(plain_text_of(seen))}" + (f"-{place}" if place != len(plain_text_of(seen)) else "")
    reading = Reading()
    reading.take("restart", {"text": plain_text_of(seen), **({"output": items_of(seen)} if items_of(seen) else {})})
    async with streaming(gateway.client, "GET", f"{location}/events", headers={"Last-Event-ID": id}) as reader:
        assert (await reader.until("pending"))[0].id is None
        names = [(event.name, reading.take(event.name, event.data))[0] async for event in left(reader, ANSWER, place)]
        assert "restart" not in names
        if ended:
            assert ["completed"] == [event.name for event in await reader.rest()]
    assert joined(ANSWER) == pieces_of("", reading.items)


async def left(reader: Reader, answer: list[Piece], place: int) -> AsyncIterator[Sse]:
    """The events of what is left of an answer: as few as can be, unless the gateway learns of its end only now."""
    while place < units_of(answer):
        event = await reader.next()
        assert event
        yield event
        place = int(str(event.id).rpartition("-")[2].rpartition(".")[2])


async def test_an_answer_in_the_response_of_a_wait(gateway: Gateway, worker: HandWorker) -> None:
    """A POST that waits gets the text and the items, also if they are too long for an event."""
    long = [*ANSWER, Piece("tool_call", "", 2, "call_3", "store"), Piece("tool_arguments", "x" * 70_000, 2)]
    for pieces in (ANSWER, long):
        asking = asyncio.create_task(gateway.client.post("/v1/messages", json=HELLO))
        turn = await worker.begin()
        await worker.answer(turn, pieces)
        answer = (await asking).json()
        assert ("I look.", items_of(pieces), "tool_calls") == (
            answer["reply"],
            answer["output"],
            answer["finish_reason"],
        )


async def read_on(reader: Reader, after: Sse, said: str) -> None:
    """Read the rest of the text: one delta, or more if the replica learns of the newest one only now."""
    position = int(str(after.id).split(".")[1])
    while position < len(said):
        event = await reader.next()
        assert event
        position += len(event.data["text"])
        assert said[:position].endswith(event.data["text"])
        assert (event.name, event.id) == ("delta", f"1.{position}")


async def test_from_the_beginning_after_the_end(gateway: Gateway, worker: HandWorker) -> None:
    """An ended request is sent whole; a client with a place in another attempt, or an invalid id, gets a restart."""
    location = await accept(gateway)
    turn = await worker.begin()
    await worker.complete(turn, TEXT)
    completed = Sse("completed", {"reply": TEXT, "usage": USAGE, "finish_reason": "stop"}, f"1.{len(TEXT)}.end")
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        _, *rest = await reader.rest()
    assert rest == [
        Sse("started", {"attempt": 1}, "1.0"),
        Sse("delta", {"text": TEXT}, f"1.{len(TEXT)}"),
        completed,
    ]
    anew = [Sse("restart", {"attempt": 1, "text": TEXT}, f"1.{len(TEXT)}"), completed]
    for place in ("2.3", "0.0", "nonsense", "1.99999"):
        async with streaming(gateway.client, "GET", f"{location}/events", headers={"Last-Event-ID": place}) as reader:
            _, *rest = await reader.rest()
        assert rest == anew


async def test_who_has_seen_the_ending_is_told_to_stop(gateway: Gateway, replica: Gateway, worker: HandWorker) -> None:
    """The id of the ending is answered with 204, which stops an EventSource; without the ending, it is sent once."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        await worker.delta(turn, 0, TEXT)
        last = (await reader.until("delta"))[-1]
        early = {"Last-Event-ID": f"{last.id}.end"}
        async with streaming(replica.client, "GET", f"{location}/events", headers=early) as liar:
            anew = await liar.until("restart")
            await worker.complete(turn, TEXT)
            assert TEXT == text_of(anew + await liar.rest())
        (ending,) = await reader.rest()

    for place_of in (gateway, replica):
        events = f"{location}/events"
        async with streaming(place_of.client, "GET", events, headers={"Last-Event-ID": str(last.id)}) as resumed:
            assert [ending] == (await resumed.rest())[1:]
        over = await place_of.client.get(events, headers={"Last-Event-ID": str(ending.id)})
        assert (204, b"") == (over.status_code, over.content)
        assert 204 == (await place_of.client.get(f"{events}?last_event_id={ending.id}")).status_code
        async with streaming(place_of.client, "GET", events, headers={"Last-Event-ID": "2.0.end"}) as another:
            assert ["pending", "restart", "completed"] == [event.name for event in await another.rest()]


async def test_second_attempt(gateway: Gateway, replica: Gateway, worker: HandWorker) -> None:
    """Another attempt is a restart with its text so far; late events of the earlier one are dropped."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        first = await worker.begin()
        await worker.delta(first, 0, "Onc")
        told = await reader.until("delta")
        await worker.end(first, Status.PENDING)
        second = await worker.claim(first.id)
        told += await reader.until("restart")
        assert told[-1] == Sse("restart", {"attempt": 2, "text": ""}, "2.0")
        await worker.delta(first, 3, "e more")
        await say(worker, second, PIECES[:2])
        told += await reader.until("delta")

        headers = {"Last-Event-ID": "1.3"}
        async with streaming(replica.client, "GET", f"{location}/events", headers=headers) as late:
            restart = (await late.until("restart"))[-1]
            assert "Once upon".startswith(restart.data["text"])
            await say_from(worker, second, 2)
            await worker.complete(second, TEXT)
            assert restart.data["text"] + text_of(await late.rest()) == TEXT
        told += await reader.rest()
    assert text_of(told) == TEXT
    assert told[-1] == Sse("completed", {"reply": TEXT, "usage": USAGE, "finish_reason": "stop"}, f"2.{len(TEXT)}.end")


async def say_from(worker: HandWorker, turn: Any, index: int) -> None:
    at = len("".join(PIECES[:index]))
    for piece in PIECES[index:]:
        await worker.delta(turn, at, piece)
        at += len(piece)


async def test_other_endings(gateway: Gateway, worker: HandWorker) -> None:
    """Failed, cancelled and expired requests send that ending and close the stream, until a client has seen it."""
    events = {}
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        await worker.delta(turn, 0, "Once")
        await worker.end(turn, Status.FAILED, error=(ErrorCode.BAD_UPSTREAM, "broke off"))
        events[location] = (await reader.rest())[-1]
    assert events[location] == Sse("failed", {"code": "bad_upstream", "detail": "broke off"}, "1.4.end")

    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        await worker.take_in()
        await gateway.client.post(f"{location}/cancel")
        await worker.take_in()
        events[location] = (await reader.rest())[-1]
    assert events[location] == Sse("cancelled", {}, "0.0.end")

    body = {**HELLO, "deadline": "2020-01-01T00:00:00Z", "stream": True}
    async with streaming(gateway.client, "POST", "/v1/messages", json=body) as reader:
        request = await worker.take_in()
        events[f"/v1/requests/{request.id}"] = (await reader.rest())[-1]
    assert (await gateway.client.get(f"/v1/requests/{request.id}")).json()["status"] == "expired"

    for location, ending in events.items():
        async with streaming(gateway.client, "GET", f"{location}/events") as reader:
            afterwards = (await reader.rest())[-1]
        assert (afterwards.name, afterwards.data) == (ending.name, ending.data)
        for seen in (ending, afterwards):
            headers = {"Last-Event-ID": str(seen.id)}
            assert 204 == (await gateway.client.get(f"{location}/events", headers=headers)).status_code


async def test_lost_events(gateway: Gateway, worker: HandWorker) -> None:
    """When events are lost the stream continues as far as possible, and its text is complete at the end."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin(tell=False)
        await worker.delta(turn, 4, " upon")
        await worker.delta(turn, 9, " a 🦉")
        await worker.complete(turn, TEXT, tell=False)
        told = await reader.rest()
    assert [event.name for event in told] == ["pending", "started", "delta", "completed"]
    assert text_of(told) == TEXT


async def test_long_reply(gateway: Gateway, replica: Gateway, worker: HandWorker) -> None:
    """A reply over 64 KiB streams to clients that keep up, and reaches a late one complete at the end."""
    location, piece = await accept(gateway), "ź🦉" * 5000
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        told = await reader.until("started")
        for number in range(6):
            await worker.delta(turn, number * len(piece), piece)
            told += await reader.until("delta")
        async with streaming(replica.client, "GET", f"{location}/events") as late:
            early = await late.until("started")
            await worker.complete(turn, piece * 6)
            assert text_of(early + await late.rest()) == piece * 6
        told += await reader.rest()
    assert text_of(told) == piece * 6
    assert told[-1].data["reply"] == piece * 6
    assert len([event for event in told if event.name == "delta"]) == 6


async def test_gateway_started_in_mid_stream(env: dict[str, str], gateway: Gateway, worker: HandWorker) -> None:
    """A gateway that starts in the middle of a reply has the text from its beginning."""
    location = await accept(gateway)
    turn = await worker.begin()
    await say(worker, turn, PIECES[:3])
    async with running_gateway(env) as fresh, streaming(fresh.client, "GET", f"{location}/events") as reader:
        told = await reader.until("delta")
        assert text_of(told) == "".join(PIECES[:3])
        await say_from(worker, turn, 3)
        await worker.complete(turn, TEXT)
        told += await reader.rest()
    assert [event.name for event in told[:3]] == ["pending", "started", "delta"]
    assert text_of(told) == TEXT


async def test_idempotent_stream(gateway: Gateway, worker: HandWorker) -> None:
    """A stream requested again under its key is the same stream, from its beginning."""
    more: dict[str, Any] = {"json": {**HELLO, "stream": True}, "headers": {"Idempotency-Key": str(uuid4())}}
    async with streaming(gateway.client, "POST", "/v1/messages", **more) as first:
        turn = await worker.begin()
        await say(worker, turn, PIECES[:2])
        await first.until("delta")
        async with streaming(gateway.client, "POST", "/v1/messages", **more) as second:
            await second.until("delta")
            await worker.complete(turn, TEXT)
            assert (await second.rest())[-1] == (await first.rest())[-1]
    assert not worker.records


async def test_forged_and_broken_events(gateway: Gateway, worker: HandWorker) -> None:
    """Malformed records on llm.events are skipped, and the streams continue."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        for value in ({}, {"attempt": "x"}, {"attempt": 1, "at": -1, "text": "x"}, {"attempt": 1, "at": 0, "text": 7}):
            await worker.event(turn, "llm.request.delta", value)
        await worker.event(turn, "llm.request.nonsense", {"attempt": 1})
        await worker.publish("llm.request.failed", "default", turn.id, "another body", {"attempt": 1})
        await worker.publish("llm.request.cancelled", "other", turn.id, turn.body_hash, {"attempt": 1})
        await worker._producer.send_and_wait("llm.events", None, key=b"\xff", headers=[("ce_type", None)])
        await worker._producer.send_and_wait("llm.events", b"\xff\xfe", headers=[("ce_type", b"\xff")])
        await worker.delta(turn, 0, TEXT)
        await worker.complete(turn, TEXT)
        assert text_of(await reader.rest()) == TEXT


async def test_a_forged_ending(gateway: Gateway, worker: HandWorker) -> None:
    """An unsigned ending on llm.events, however exact, ends no request: clients get what Postgres has."""
    location = await accept(gateway)
    waiting = asyncio.create_task(gateway.client.get(location, headers={"Prefer": "wait=20"}))
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        await reader.until("started")
        worker.signs = False
        usage = {"input_tokens": 1, "output_tokens": 1}
        await worker.event(turn, "llm.request.delta", {"attempt": 1, "at": 0, "text": "FORGED"})
        await worker.event(turn, "llm.request.completed", {"attempt": 1, "reply": "FORGED REPLY", "usage": usage})
        worker.signs = True
        await say(worker, turn, PIECES)
        await worker.complete(turn, TEXT)
        told = await reader.rest()
    assert (text_of(told), told[-1].data["reply"]) == (TEXT, TEXT)
    assert (await waiting).json()["reply"] == TEXT


async def test_a_forged_text(gateway: Gateway, replica: Gateway, worker: HandWorker) -> None:
    """Text that was forged before the worker began is taken back, also for a client that resumes at another gateway."""
    location = await accept(gateway)
    turn = await worker.begin(tell=False)
    worker.signs = False
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        await worker.delta(turn, 0, "FORGED")
        told = await reader.until("delta")
    assert text_of(told) == "FORGED"
    worker.signs = True
    resumed = {"headers": {"Last-Event-ID": str(told[-1].id)}}
    async with streaming(replica.client, "GET", f"{location}/events", **resumed) as reader:
        await say(worker, turn, PIECES)
        await worker.complete(turn, TEXT)
        told += await reader.rest()
    assert (text_of(told), told[-1].id) == (TEXT, f"1.{len(TEXT)}.end")


@pytest.mark.parametrize("how", ["stream", "wait"])
async def test_a_worker_of_before_signatures(gateway: Gateway, worker: HandWorker, how: str) -> None:
    """Streams of a release without signatures are unchanged, and an ending waits at most for one look into Postgres."""
    worker.signs = False
    more: dict[str, Any] = {"json": {**HELLO, "stream": how == "stream"}}
    if how == "wait":
        answering = asyncio.create_task(gateway.client.post("/v1/messages", **more))
        turn = await worker.begin()
        await worker.complete(turn, TEXT)
        assert (await answering).json()["reply"] == TEXT
        return
    async with streaming(gateway.client, "POST", "/v1/messages", **more) as reader:
        turn = await worker.begin()
        await say(worker, turn, PIECES)
        told = await reader.until("delta")
        await worker.complete(turn, TEXT)
        told += await reader.rest()
    assert (text_of(told), told[-1].name, told[-1].data["reply"]) == (TEXT, "completed", TEXT)


async def test_an_attempt_of_each_release(gateway: Gateway, worker: HandWorker) -> None:
    """When a signing worker replaces an unsigned one, or the other way round, the stream ends correctly."""
    for first, second in ((True, False), (False, True)):
        worker.signs = first
        location = await accept(gateway)
        async with streaming(gateway.client, "GET", f"{location}/events") as reader:
            turn = await worker.begin()
            await worker.delta(turn, 0, "half")
            await reader.until("delta")
            await worker.end(turn, Status.PENDING)
            worker.signs = second
            turn = await worker.claim(turn.id)
            await say(worker, turn, PIECES)
            await worker.complete(turn, TEXT)
            told = await reader.rest()
        assert (told[-1].name, told[-1].data["reply"], told[-1].id) == ("completed", TEXT, f"2.{len(TEXT)}.end")


async def test_caller_leaves(gateway: Gateway, worker: HandWorker) -> None:
    """A stream whose client leaves ends; the request does not."""
    location = await accept(gateway)
    async with streaming(gateway.client, "GET", f"{location}/events") as reader:
        turn = await worker.begin()
        await reader.until("started")
        assert await streams_are(gateway, 1)
    await eventually(partial(streams_are, gateway, 0))
    await worker.complete(turn, TEXT)
    assert (await gateway.client.get(location)).json()["status"] == "completed"


async def streams_are(gateway: Gateway, count: int) -> bool:
    return f"orchestra_gateway_streams {count}.0\n" in (await gateway.client.get("/metrics")).text


async def test_drain(env: dict[str, str], gateway: Gateway, worker: HandWorker) -> None:
    """A gateway that shuts down sends reconnect hints to streams and locations to waits; both continue elsewhere."""
    async with running_gateway(env) as leaving:
        location = await accept(leaving)
        turn = await worker.begin()
        waiting = asyncio.create_task(leaving.client.post("/v1/messages", json=HELLO))
        other = await worker.take_in()
        preferring = asyncio.create_task(leaving.client.post("/v1/messages", json=HELLO, headers={"Prefer": "wait=60"}))
        await worker.take_in()
        async with streaming(leaving.client, "GET", f"{location}/events") as reader:
            await worker.delta(turn, 0, PIECES[0])
            told = await reader.until("delta")
            leaving.drain.begin()
            assert await reader.rest() == [Sse("retry", {"milliseconds": 500})]
    still = await waiting
    assert (still.status_code, still.json()["code"]) == (504, "still_running")
    assert still.headers["location"] == f"/v1/requests/{other.id}"
    accepted = await preferring
    assert (accepted.status_code, accepted.headers["preference-applied"]) == (202, "wait=60")

    headers = {"Last-Event-ID": str(told[-1].id)}
    async with streaming(gateway.client, "GET", f"{location}/events", headers=headers) as reader:
        await worker.complete(turn, TEXT)
        assert text_of(told + await reader.rest()) == TEXT


async def send(gateway: Gateway, conversation: str) -> str:
    """Send a message of a conversation; its request."""
    body, headers = {**HELLO, "conversation_id": conversation}, {"Prefer": "respond-async"}
    request: str = (await gateway.client.post("/v1/messages", json=body, headers=headers)).json()["id"]
    return request


async def test_one_stream_for_all_turns_of_a_conversation(
    gateway: Gateway, replica: Gateway, worker: HandWorker
) -> None:
    """A stream of a conversation has every turn in order, each event with its request, and resumes anywhere."""
    conversation = str(uuid4())
    url, turns = f"/v1/conversations/{conversation}/events", []
    first = await send(gateway, conversation)
    turn = await worker.begin()
    async with streaming(gateway.client, "GET", url) as reader:
        told = await reader.until("started")
        await say(worker, turn, PIECES)
        await worker.complete(turn, TEXT)
        told += await reader.until("completed")
        second, third = await send(gateway, conversation), await send(replica, conversation)
        await worker.take_in()
        await worker.take_in()
        told += await reader.until("pending")  # No worker has begun it.
        await worker.complete(await worker.claim(UUID(second)), TEXT)
        told += await reader.until("completed")
        await worker.end(await worker.claim(UUID(third)), Status.FAILED, error=(ErrorCode.TIMEOUT, "late"))
        told += await reader.until("failed")
    turns = [first, second, third]

    assert turns == list(dict.fromkeys(event.data["request_id"] for event in told))
    named = [event for event in told if event.name != "pending"]
    assert all(str(event.id).startswith(f"{event.data['request_id']}:1.") for event in named)
    expected = {id: [event for event in told if event.data["request_id"] == id] for id in turns}
    assert ["pending", "started"] == [event.name for event in expected[second]][:2]
    assert [TEXT, TEXT, ""] == [text_of(events) for events in expected.values()]
    for place, event in enumerate(told):
        if event.name == "pending":
            continue
        seen, rest = told[: place + 1], await rest_of(replica, url, str(event.id), third, event)
        for id in turns:
            parts = [each for each in (*seen, *rest) if each.data["request_id"] == id]
            assert text_of(expected[id]) == text_of(parts)
            assert 1 == [each.name for each in parts].count(expected[id][-1].name)
    skipped = await rest_of(replica, url, second, third, told[0])
    assert {third} == {event.data["request_id"] for event in skipped}


async def rest_of(gateway: Gateway, url: str, id: str, last: str, event: Sse) -> list[Sse]:
    """What a stream has behind this place, up to the ending of the last turn."""
    if (event.data["request_id"], event.name) == (last, "failed"):
        return []
    async with streaming(gateway.client, "GET", f"{url}?last_event_id={id}") as reader:
        found = await reader.until("failed")
    assert last == found[-1].data["request_id"]
    return found


async def test_the_stream_of_a_conversation_ends_with_it(gateway: Gateway, worker: HandWorker) -> None:
    """An event says that the conversation was deleted, and ends the stream; then there is none."""
    conversation = str(uuid4())
    url = f"/v1/conversations/{conversation}"
    await send(gateway, conversation)
    await worker.take_in()
    async with streaming(gateway.client, "GET", f"{url}/events") as reader:
        await reader.until("pending")
        assert 204 == (await gateway.client.delete(url)).status_code
        await worker.take_in()
        cancelled, deleted = await reader.rest()
    assert ("cancelled", Sse("deleted", {"conversation_id": conversation}, cancelled.id)) == (cancelled.name, deleted)
    assert 404 == (await gateway.client.get(f"{url}/events")).status_code


async def test_a_place_in_no_turn_of_the_conversation(gateway: Gateway, worker: HandWorker) -> None:
    """An event id that names no request of the conversation is refused, and so is one that is no such id."""
    conversation = str(uuid4())
    await send(gateway, conversation)
    await worker.take_in()
    other = (await accept(gateway)).rpartition("/")[2]
    await worker.take_in()
    for id in (f"{other}:1.0", other, str(uuid4()), "1.18", "x" * 300):
        answer = await gateway.client.get(f"/v1/conversations/{conversation}/events", headers={"Last-Event-ID": id})
        assert (422, "invalid_request") == (answer.status_code, answer.json()["code"])


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves(gateway: Gateway, worker: HandWorker, stream: bool) -> None:
    """The request of a client that leaves its stream or its waiting call is cancelled if the client said so."""
    body = {**HELLO, "stream": stream, "on_disconnect": "cancel"}
    posting = asyncio.create_task(gateway.client.post("/v1/messages", json=body))
    turn = await worker.begin()
    assert "on_disconnect" not in json.dumps(turn.body)
    posting.cancel()
    assert turn.id == (await worker.take_in()).request.id
    await worker.end(turn, Status.CANCELLED)
