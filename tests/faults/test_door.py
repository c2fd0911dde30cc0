"""What the load's calls of OpenAI's API promise: no outcome is misread, no event lost, no answer taken twice."""

import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from faults.client import Http, Told
from faults.door import NUMBERS, Door, follows, told
from faults.door_turn import Before, DoorTurn
from faults.ledger import Entry, Way, open_ledger, read_ledger
from faults.question import TOOL, Question
from faults.turn import Conditions

ID = UUID("7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01")
ABOUT = {"Location": f"/v1/requests/{ID}"}
COMPLETION = {
    "id": f"chatcmpl-{ID.hex}", "object": "chat.completion", "choices": [{"message": {"content": "hash"}}]
}  # fmt: skip
DONE = "[DONE]"


def response(status: str, text: str = "hash") -> dict[str, Any]:
    said = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    output = [said] if status == "completed" else []
    return {"id": f"resp_{ID.hex}", "object": "response", "status": status, "output": output, "error": None}


def error(code: str) -> dict[str, Any]:
    return {"error": {"message": "no", "code": code}}


def chunk(text: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


def event(number: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": number, **more}


def piece(number: int, text: str) -> dict[str, Any]:
    return event(number, "response.output_text.delta", delta=text)


@dataclass(frozen=True)
class Answer:
    """What a call gets: a document, or the events of a stream."""

    said: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeDoor:
    """A gateway that gives these answers one after the other, and remembers what it was asked."""

    answers: list[Answer]
    calls: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path_qs}")
        self.keys.append(request.headers.get("Idempotency-Key"))
        if request.can_read_body:
            self.bodies.append(await request.json())
        answer = self.answers.pop(0)
        if not isinstance(answer.said, list):
            return web.json_response(answer.said, status=answer.status, headers=answer.headers)
        stream = web.StreamResponse(headers={"x-request-id": f"req_{ID.hex}"})
        await stream.prepare(request)
        for each in answer.said:
            name = f"event: {each['type']}\n" if "type" in each else ""
            text = DONE if each == DONE else json.dumps(each)
            await stream.write(f"{name}data: {text}\n\n".encode())
        return stream


@dataclass
class Run:
    """What a turn left behind."""

    turn: DoorTurn
    door: FakeDoor
    entries: list[Entry]
    counts: Counter[str]

    @property
    def steps(self) -> list[str]:
        """What the ledger has, in order."""
        return [entry.status or entry.what if entry.what == "stream" else entry.what for entry in self.entries]


@asynccontextmanager
async def running(door: FakeDoor) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", door.answer)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


async def run(
    folder: Path,
    way: Way,
    answers: Sequence[Any],
    *,
    before: Before | None = None,
    question: Question | None = None,
    keyless: bool = False,
) -> Run:
    """Run a turn against these answers."""
    door = FakeDoor([each if isinstance(each, Answer) else Answer(each) for each in answers])
    counts = Counter[str]()
    asked = question or Question(uuid4(), 0, uuid4().hex)
    path = folder / "ledger.jsonl"
    async with running(door) as url, aiohttp.ClientSession() as session, open_ledger(path) as ledger:
        nobody: Any = None
        conditions = Conditions(
            [url], Http(session), Door(session), nobody, nobody, ledger, counts, random.Random(1), 0, 30, None
        )
        turn = DoorTurn(conditions, asked, way, before=before, keyless=keyless)
        await turn.run()
    return Run(turn, door, read_ledger(path), counts)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(COMPLETION), Told("answered", ID, "completed", "hash")),
        (Answer(response("queued")), Told("acked", ID, "pending")),
        (Answer(response("completed")), Told("answered", ID, "completed", "hash")),
        (Answer(response("cancelled")), Told("answered", ID, "cancelled")),
        (Answer(response("failed") | {"error": {"message": "expired: late"}}),
         Told("answered", ID, "expired", code="expired")),
        (Answer(error("still_running"), 424, ABOUT), Told("acked", ID, code="still_running")),
        (Answer(error("unknown_model"), 404, ABOUT), Told("acked", ID, code="unknown_model")),
        (Answer(error("idempotency_key_reused"), 400, ABOUT), Told("refused", code="idempotency_key_reused")),
        (Answer(error("rate_limit_exceeded"), 429, {"Retry-After": "3"}),
         Told("busy", code="rate_limit_exceeded", retry_after=3)),
        (Answer(error("overloaded"), 503, {"Retry-After": "1"}), Told("busy", code="overloaded", retry_after=1)),
        (Answer(error("outcome_unknown"), 503), Told("unknown", code="outcome_unknown")),
        (Answer(error("internal"), 500), Told("unknown", code="internal")),
        (Answer(error("invalid_value"), 400), Told("refused", code="invalid_value")),
    ],
)  # fmt: skip
async def test_an_outcome_is_what_the_answer_says(answer: Answer, expected: Told) -> None:
    """Each answer of the door is read as accepted, ended, surely not accepted, refused, or unknown."""
    async with running(FakeDoor([answer])) as url, aiohttp.ClientSession() as session, session.get(url) as got:
        assert expected == await told(got)


@pytest.mark.parametrize(
    ("last", "number", "sound"),
    [
        (None, 0, True),
        (None, 2 * NUMBERS, True),
        (None, 1, False),
        (4, 5, True),
        (4, 6, False),
        (4, 4, False),
        (4, NUMBERS, True),
        (1, NUMBERS + 2, True),
        (4, NUMBERS + 4, False),
        (NUMBERS + 4, 5, False),
    ],
)
def test_numbers_have_no_gap(last: int | None, number: int, sound: bool) -> None:
    """A number follows the one before it, or is at the beginning of a later attempt."""
    assert sound == follows(number, last)


async def test_a_call_that_still_runs_is_followed_by_a_get(tmp_path: Path) -> None:
    """The error 424 means accepted; the answer comes by a GET, and no second call is made."""
    still = Answer(error("still_running"), 424, ABOUT)
    done = await run(tmp_path, "response", [still, response("in_progress"), response("completed")])

    assert ["sent", "acked", "answered"] == done.steps
    assert ("still_running", "hash") == (done.entries[1].code, done.entries[2].reply)
    assert [f"GET /openai/v1/responses/resp_{ID.hex}"] * 2 == done.door.calls[1:]


async def test_a_chat_completion_that_restarts_is_repeated(tmp_path: Path) -> None:
    """After ``answer_restarted`` the same key gets the stream from its beginning, and the void text is dropped."""
    running_still = {"id": str(ID), "status": "in_progress"}
    streams = [[chunk("ha"), error("answer_restarted")], running_still, [chunk("ha"), chunk("sh"), DONE]]
    done = await run(tmp_path, "chat_stream", streams, before=Before())

    assert ["sent", "acked", "restart", "repeated", "over", "answered"] == done.steps
    assert ["hash"] * 2 == [entry.reply for entry in done.entries[-2:]]
    assert 1 == done.counts["answer_restarted"]
    assert 1 == len({key for key in done.door.keys if key})
    assert done.door.bodies[0] == done.door.bodies[1]


async def test_a_response_is_resumed_behind_its_last_event(tmp_path: Path) -> None:
    """A stream that broke is resumed by number, over a restart too, and its text has each piece once."""
    base, running_still = NUMBERS, response("in_progress")
    streams = [
        [event(0, "response.created"), piece(1, "a")],
        running_still,
        [piece(2, "b"), event(3, "error", code="answer_restarted")],
        running_still,
        [event(base, "response.created"), piece(base + 1, "hash"),
         event(base + 2, "response.completed", response=response("completed"))],
    ]  # fmt: skip
    done = await run(tmp_path, "response_stream", streams)
    resumed = [call.rpartition("?")[2] for call in done.door.calls if "?" in call]

    assert ["stream=true&starting_after=1", "stream=true&starting_after=3"] == resumed
    assert ["sent", "acked", "resumed", "restart", "resumed", "over", "answered"] == done.steps
    assert "hash" == done.entries[-2].reply


async def test_a_lost_or_repeated_event_is_noted(tmp_path: Path) -> None:
    """A number that does not follow the one before it is in the ledger as a gap."""
    end = event(3, "response.completed", response=response("completed"))
    done = await run(tmp_path, "response_stream", [[event(0, "response.created"), piece(2, "hash"), end]])

    assert ["2 after 0"] == [entry.code for entry in done.entries if entry.status == "gap"]


async def test_a_response_that_was_cancelled_ends_without_an_event(tmp_path: Path) -> None:
    """A stream that closes without an ending is looked up, and not waited for."""
    done = await run(tmp_path, "response_stream", [[event(0, "response.created"), DONE], response("cancelled")])

    assert ["sent", "acked", "answered"] == done.steps
    assert "cancelled" == done.entries[-1].status


async def test_a_dialogue_goes_on_with_what_was_said(tmp_path: Path) -> None:
    """The next question of a chat has the dialogue before it; that after a tool call is its result."""
    function = {"name": "look_up", "arguments": "{}"}
    called = COMPLETION | {
        "choices": [{"message": {"content": None, "tool_calls": [{"id": "call_1", "function": function}]}}]
    }
    asking = Question(uuid4(), 0, uuid4().hex, TOOL)
    first = await run(tmp_path, "chat", [called], before=Before(), question=asking)
    assert first.turn.then
    second = await run(tmp_path, "chat", [COMPLETION], before=first.turn.then)
    roles = [message["role"] for message in second.door.bodies[0]["messages"]]

    assert ["user", "assistant", "tool"] == roles
    assert "call_1" == second.door.bodies[0]["messages"][2]["tool_call_id"]
    assert first.door.bodies[0]["tools"]
    assert all(entry.own for entry in second.entries)


@pytest.mark.parametrize("way", ["response", "background"])
async def test_a_response_names_what_it_goes_on_from(tmp_path: Path, way: Way) -> None:
    """A response names the response or the conversation that it goes on from, in its body and in the ledger."""
    question = Question(uuid4(), 0, uuid4().hex)
    chained = await run(tmp_path, way, [response("completed")], before=Before(response=ID), question=question)
    (tmp_path / "other").mkdir()
    talking = await run(tmp_path / "other", way, [response("completed")], question=question)

    assert f"resp_{ID.hex}" == chained.door.bodies[0]["previous_response_id"]
    assert (True, ID) == (chained.entries[0].own, chained.entries[0].after)
    assert f"conv_{question.conversation.hex}" == talking.door.bodies[0]["conversation"]
    assert (False, None) == (talking.entries[0].own, talking.entries[0].after)
    assert (way == "background") == ("background" in talking.door.bodies[0])


async def test_a_call_without_a_key_is_repeated_as_another_request(tmp_path: Path) -> None:
    """Without a key, a call is repeated after errors that permit it, with another question, and without a key again."""
    in_doubt, full = Answer(error("outcome_unknown"), 503), Answer(error("rate_limit_exceeded"), 429)
    done = await run(tmp_path, "chat", [in_doubt, full, COMPLETION], before=Before(), keyless=True)

    assert ["sent", "refused", "sent", "refused", "sent", "acked", "answered"] == done.steps
    assert [None] * 3 == done.door.keys
    assert 3 == len({entry.key for entry in done.entries})


async def test_a_call_without_a_key_is_not_repeated_in_the_dark(tmp_path: Path) -> None:
    """Without a key, a call that failed without saying how is not repeated."""
    done = await run(tmp_path, "chat", [Answer(error("internal"), 500)], before=Before(), keyless=True)

    assert ["sent", "unknown"] == done.steps
