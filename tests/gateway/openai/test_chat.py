"""Promises of gateway/openai/chat.py and gateway/openai/stream_chat.py, seen through a whole gateway."""

import asyncio
import re
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion as TheirCompletion
from openai.types.chat import ChatCompletionChunk as TheirChunk
from pydantic import BaseModel

from benchmarks.guard.ends import Away
from gateway.following.live import Ending, LiveRequest
from gateway.openai.chat import read_chat, record_of
from gateway.openai.stream_chat import ChatEvents
from gateway.settings import GatewaySettings
from orchestra.store.database import Database
from orchestra.transcript import Piece, items_of, text_of
from schemas import envelope, events
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import Usage
from schemas.openai.chat import ChatCompletion, ChatCompletionChunk
from schemas.requests import MessageRequested
from schemas.status import Status
from tests.support.answers import answers
from tests.support.door import Door, answered, completed, failed, open_door, told

PATHS = ("/openai/v1/chat/completions", "/v1/chat/completions")
PATH = PATHS[0]
HELLO: dict[str, Any] = {"model": "llama3", "messages": [{"role": "user", "content": "hi"}]}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = [
    Piece("tool_call", "", 0, "call_1", "weather"),
    Piece("tool_arguments", '{"city":'),
    Piece("tool_arguments", "1}"),
]
TEXT = [Piece("text", "Hello "), Piece("text", "world")]


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with open_door() as opened:
        yield opened


def same_names(theirs: BaseModel, data: Any) -> None:
    """Every field of the data is one that OpenAI's type has, and none that it requires is missing."""
    for name, value in data.items():
        assert name in type(theirs).model_fields or name == "reasoning_content", name
        field = getattr(theirs, name)
        if isinstance(field, BaseModel):
            same_names(field, value)
        elif isinstance(field, list) and field and isinstance(field[0], BaseModel):
            for each, its in zip(field, value, strict=True):
                same_names(each, its)


def read_completion(raw: bytes) -> ChatCompletion:
    """A completion, checked strictly against OpenAI's type and our own."""
    same_names(TheirCompletion.model_validate_json(raw, strict=True), orjson.loads(raw))
    return ChatCompletion.model_validate_json(raw, strict=True)


def read_chunks(raw: bytes) -> list[dict[str, Any]]:
    """The chunks of a stream, checked strictly against OpenAI's type and our own, and the rules between them."""
    found = [line[6:] for line in raw.decode().split("\n") if line.startswith("data: ")]
    assert raw.decode().replace(": keep-alive\n\n", "") == "".join(f"data: {line}\n\n" for line in found)
    assert found.pop() == "[DONE]"
    chunks = [orjson.loads(line) for line in found]
    for line, chunk in zip(found, chunks, strict=True):
        same_names(TheirChunk.model_validate_json(line, strict=True), chunk)
        ours = ChatCompletionChunk.model_validate_json(line, strict=True).model_dump()
        assert ours == {name: value for name, value in chunk.items() if (name, value) != ("usage", None)}
    heads = [{name: chunk[name] for name in ("id", "created", "model", "object", "service_tier")} for chunk in chunks]
    assert all(head == heads[0] for head in heads)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert ["role" in delta for delta in deltas] == [True, *[False] * (len(deltas) - 1)]
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert [reason is None for reason in reasons] == [*[True] * (len(reasons) - 1), False]
    return chunks


def joined(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together from chunks."""
    message: dict[str, Any] = {"content": "", "refusal": "", "reasoning_content": "", "tool_calls": []}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        for name, value in choice["delta"].items():
            if name == "tool_calls":
                for call in value:
                    if call["index"] == len(message["tool_calls"]):
                        assert {"id", "type", "function"} <= call.keys()
                        message["tool_calls"].append({name: call[name] for name in ("id", "type")} | call["function"])
                    else:
                        assert call.keys() == {"index", "function"}
                        message["tool_calls"][call["index"]]["arguments"] += call["function"]["arguments"]
            elif name != "role" and value is not None:
                message[name] += value
    return message


@pytest.mark.parametrize("path", PATHS)
async def test_a_completion(door: Door, path: str) -> None:
    """An answer has OpenAI's shape, at both paths; its id and `x-request-id` contain the id of the request."""
    response = await door.post(path, HELLO, answered(TEXT, cached_tokens=16, reasoning_tokens=2))
    answer = read_completion(response.content)

    assert (answer.id, response.headers["x-request-id"]) == (f"chatcmpl-{door.id.hex}", f"req_{door.id.hex}")
    assert (answer.model, answer.service_tier) == ("llama3", "default")
    assert orjson.loads(response.content)["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer.usage.model_dump() == {
        "prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26,
        "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 2, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


async def test_metadata_is_in_the_answer(door: Door) -> None:
    """It comes back as it was sent, and the field is absent if none was."""
    some, none = [
        read_completion((await door.post(PATHS[0], {**HELLO, **more}, answered(TEXT))).content)
        for more in ({"metadata": {"order": "7"}}, {})
    ]
    assert ({"order": "7"}, False) == (some.metadata, "metadata" in none.model_fields_set)


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream(door: Door, path: str) -> None:
    """A stream is chunks with the same head: the role first, then the text as it comes, then why it ended."""
    response = await door.post(path, {**HELLO, "stream": True}, answered(TEXT, "length"))
    chunks = read_chunks(response.content)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-request-id"] == f"req_{door.id.hex}"
    assert chunks[0]["id"] == f"chatcmpl-{door.id.hex}"
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""}, {"content": "Hello "}, {"content": "world"}, {}
    ]  # fmt: skip
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert not any("usage" in chunk for chunk in chunks)


async def test_usage_in_a_stream(door: Door) -> None:
    """Usage comes only if it is asked for: null in every chunk, then in a last one without a choice."""
    body = {**HELLO, "stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    chunks = read_chunks((await door.post(PATH, body, answered(TEXT))).content)

    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 26)


async def test_tools(door: Door) -> None:
    """A call of a tool has its id and name once, and its arguments in pieces; its result comes in the next call."""
    body = {**HELLO, "tools": [WEATHER], "tool_choice": "auto", "parallel_tool_calls": False}
    answer = read_completion((await door.post(PATH, body, answered(CALL, "tool_calls"))).content)
    choice = answer.choices[0]

    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":1}'}}
    assert (choice.message.tool_calls, choice.message.content, choice.finish_reason) == ([call], None, "tool_calls")
    assert (door.record.tools, door.record.tool_choice, door.record.parallel_tool_calls) == ([WEATHER], "auto", False)
    chunks = read_chunks((await door.post(PATH, {**body, "stream": True}, answered(CALL, "tool_calls"))).content)
    assert joined(chunks)["tool_calls"] == [
        {"id": "call_1", "type": "function", "name": "weather", "arguments": '{"city":1}'}
    ]
    result = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]}
    called = {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []}
    again = {**body, "messages": [*HELLO["messages"], called, result]}
    assert (await door.post(PATH, again, answered(TEXT))).status_code == 200
    assert [message.role for message in door.record.messages] == ["user", "assistant", "tool"]


async def test_reasoning_and_refusals(door: Door) -> None:
    """Reasoning and refusals have fields of their own, and no text is made up beside them."""
    said = [Piece("reasoning", "hm"), Piece("refusal", "No.")]
    body = {**HELLO, "reasoning": "include"}
    message = read_completion((await door.post(PATH, body, answered(said))).content).choices[0].message
    assert (message.content, message.refusal, message.reasoning_content) == (None, "No.", "hm")
    assert door.record.reasoning == "include"
    streamed = joined(read_chunks((await door.post(PATH, {**body, "stream": True}, answered(said))).content))
    assert (streamed["content"], streamed["refusal"], streamed["reasoning_content"]) == ("", "No.", "hm")
    plain = (await door.post(PATH, HELLO, answered(TEXT))).json()["choices"][0]["message"]
    assert plain.keys() == {"role", "content", "refusal"}


async def test_the_record(door: Door) -> None:
    """A call becomes an ordinary request, in a conversation with the request's own id, and says how it came."""
    body = {
        **HELLO, "max_completion_tokens": 7, "temperature": 0.5, "stop": "x", "seed": 3, "user": "u", "store": False,
        "metadata": {"a": "b"}, "response_format": {"type": "json_object"}, "service_tier": "flex", "logprobs": False,
        "reasoning_effort": "low", "n": 1, "safety_identifier": "s", "prompt_cache_key": "k", "logit_bias": None,
        "on_disconnect": "continue",
    }  # fmt: skip
    await door.post(PATH, body, answered(TEXT))

    assert orjson.loads(door.producer.value) == {
        "messages": HELLO["messages"], "model": "llama3", "context": "given", "conversation_id": str(door.id),
        "door": "chat", "store": False, "max_tokens": 7, "temperature": 0.5, "stop": ["x"], "seed": 3, "user": "u",
        "metadata": {"a": "b"}, "response_format": {"type": "json_object"}, "priority": 2, "reasoning_effort": "low",
    }  # fmt: skip
    await door.post(PATH, HELLO, answered(TEXT))
    assert orjson.loads(door.producer.value).keys() == {"messages", "model", "context", "conversation_id", "door"}


@pytest.mark.parametrize(
    ("body", "priority"),
    [({}, None), ({"service_tier": "priority"}, 8), ({"service_tier": "auto"}, None), ({"priority": 9}, 9),
     ({"priority": 1, "service_tier": "priority"}, 1)],
)  # fmt: skip
async def test_priorities(door: Door, body: dict[str, Any], priority: int | None) -> None:
    """A tier is a priority; a priority of the caller's own has precedence."""
    await door.post(PATH, {**HELLO, **body}, answered(TEXT))

    assert door.record.priority == priority


async def test_a_priority_is_lowered_to_what_the_caller_may_use() -> None:
    """A tier gives no more than the caller may have."""
    async with open_door(max_priority=5) as door:
        answer = await door.post(PATH, {**HELLO, "service_tier": "priority"}, answered(TEXT))
        assert (door.record.priority, answer.json()["service_tier"]) == (5, "priority")


async def test_agents(door: Door) -> None:
    """`agent:NAME` asks an agent, and answers show that name; an unknown one is an unknown model."""
    answer = await door.post(PATH, {**HELLO, "model": "agent:analyst"}, answered(TEXT))
    assert (answer.json()["model"], door.record.model, door.record.agent) == ("agent:analyst", None, "analyst")
    for name in ("agent:nobody", "agent:", "agent:Not A Name"):
        refused = await door.post(PATH, {**HELLO, "model": name})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    del (body := {**HELLO})["model"]
    assert (await door.post(PATH, body, answered(TEXT))).json()["model"] == "llama3"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"n": 2}, "unsupported_value", "n"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"top_logprobs": 3}, "unsupported_parameter", "top_logprobs"),
        ({"logit_bias": {"1": 2}}, "unsupported_parameter", "logit_bias"),
        ({"modalities": ["text", "audio"]}, "unsupported_value", "modalities"),
        ({"audio": {}}, "unsupported_parameter", "audio"),
        ({"prediction": {}}, "unsupported_parameter", "prediction"),
        ({"web_search_options": {}}, "unsupported_parameter", "web_search_options"),
        ({"functions": [{}]}, "unsupported_parameter", "functions"),
        ({"function_call": {"name": "f"}}, "unsupported_parameter", "function_call"),
        ({"verbosity": "low"}, "unsupported_value", "verbosity"),
        ({"service_tier": "scale"}, "invalid_value", "service_tier"),
        ({"top_k": 3}, "unknown_parameter", "top_k"),
        ({"conversation_id": str(UUID(int=7))}, "unknown_parameter", "conversation_id"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [WEATHER], "tool_choice": {"type": "allowed_tools"}}, "unsupported_value", "tool_choice.type"),
        ({"response_format": {"type": "xml"}}, "unsupported_value", "response_format"),
        ({"messages": None}, "invalid_type", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "unsupported_value", "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        (
            {"messages": [{"role": "assistant", "content": "x", "function_call": {"name": "f"}}]},
            "unsupported_parameter", "messages[0].function_call",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a/b"}}]}]},
            "unsupported_value", "messages[0].content[0].image_url.url",
        ),
        ({"temperature": "hot"}, "invalid_value", "temperature"),
        ({"temperature": 9}, "invalid_value", "temperature"),
        ({"stream": "yes"}, "invalid_type", "stream"),
        ({"stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_value", "max_completion_tokens"),
        ({"deadline": "2999-01-01T00:00:00Z"}, "invalid_value", "deadline"),
        ({"on_disconnect": "wait"}, "invalid_value", "on_disconnect"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_refused(door: Door, body: dict[str, Any], code: str, param: str) -> None:
    """What is not offered or not valid is a 400 by name before anything is accepted, in a stream as well."""
    for stream in (False, True):
        answer = await door.post(PATH, {**HELLO, "stream": stream, **body})
        error = answer.json()["error"]

        assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
        assert error["type"] == "invalid_request_error"
    assert door.tally.records == 0


async def test_missing_fields_and_no_json(door: Door) -> None:
    """A body without its messages, or that is no JSON object, is a 400 that says so."""
    for content, code in ((b"{}", "missing_required_parameter"), (b"[]", "invalid_type"), (b"{", "not_json")):
        answer = await door.client.post(PATH, content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


async def test_neutral_values_are_no_reason_to_refuse(door: Door) -> None:
    """Null, and values that change nothing, are accepted for every field that is not offered."""
    body = {**HELLO, "n": 1, "logprobs": False, "modalities": ["text"], "functions": [], "audio": None, "top_k": None,
            "verbosity": "medium", "web_search_options": None, "function_call": "auto"}  # fmt: skip
    assert (await door.post(PATH, body, answered(TEXT))).status_code == 200


async def test_a_refusal_among_parts(door: Door) -> None:
    """A refusal that OpenAI's clients send back as a part is read as the message's refusal."""
    parts = [{"type": "text", "text": "Well."}, {"type": "refusal", "refusal": "No."}]
    messages = [*HELLO["messages"], {"role": "assistant", "content": parts}, {"role": "user", "content": "Why?"}]
    await door.post(PATH, {**HELLO, "messages": messages}, answered(TEXT))
    assert (door.record.messages[1].text, door.record.messages[1].refusal) == ("Well.", "No.")


@pytest.mark.parametrize(
    ("code", "status", "name"),
    [("content_filter", 400, "content_filter"), ("context_too_long", 400, "context_length_exceeded"),
     ("unknown_model", 404, "model_not_found"), ("bad_upstream", 424, "bad_upstream"), ("timeout", 424, "timeout"),
     ("rate_limited", 424, "rate_limited"), ("internal", 424, "internal")],
)  # fmt: skip
async def test_failures(door: Door, code: str, status: int, name: str) -> None:
    """A failed request is an error that no client retries; in a stream it is a chunk `error`, and nothing follows."""
    plain = await door.post(PATH, HELLO, [failed(code)])
    error = plain.json()["error"]
    assert (plain.status_code, error["code"], plain.headers["x-should-retry"]) == (status, name, "false")
    named = f"chatcmpl-{door.id.hex}" in error["message"]
    assert (named, plain.headers["x-request-id"]) == (True, f"req_{door.id.hex}")

    streamed = await door.post(PATH, {**HELLO, "stream": True}, [*told(TEXT), failed(code)])
    last = orjson.loads(streamed.text.strip().rpartition("data: ")[2])
    assert (streamed.status_code, last.keys(), last["error"]["code"]) == (200, {"error"}, name)


@pytest.mark.parametrize(("kind", "code"), [(events.CANCELLED, "cancelled"), (events.EXPIRED, "expired")])
async def test_other_endings(door: Door, kind: str, code: str) -> None:
    """A request that was cancelled, or expired, is a 424."""
    answer = await door.post(PATH, HELLO, [(kind, {"attempt": 0})])
    assert (answer.status_code, answer.json()["error"]["code"]) == (424, code)


async def test_an_answer_that_restarts(door: Door) -> None:
    """Text that became void is never continued by another one: the stream ends with an error that says so."""
    restarts = [*told(TEXT), *told([Piece("text", "Other")], 2)]
    response = await door.post(PATH, {**HELLO, "stream": True}, [*restarts, completed(TEXT, attempt=2)])
    *chunks, last = [orjson.loads(each) for each in re.findall("data: (.*)\n", response.text)]

    assert joined(chunks)["content"] == "Hello world"
    assert (last.keys(), last["error"]["code"]) == ({"error"}, "answer_restarted")


async def test_an_attempt_that_failed_before_it_said_anything(door: Door) -> None:
    """A stream goes on with the next attempt if no text was sent before."""
    error = {"code": "overloaded", "detail": "later"}
    first = [*told([]), (events.RESTART, {"attempt": 1, "text": "", "last_error": error})]
    response = await door.post(PATH, {**HELLO, "stream": True}, [*first, *answered(TEXT, attempt=2)])

    assert joined(read_chunks(response.content))["content"] == "Hello world"


async def test_unsigned_text_is_not_sent(door: Door) -> None:
    """Text that another program may have written is never sent: the answer then comes with its ending."""

    async def tell() -> None:
        for kind, value in told([Piece("text", "forged")]):
            door.tell(kind, value, signed=False)

    posting = asyncio.ensure_future(door.post(PATH, {**HELLO, "stream": True}))
    await door.producer.until(1)
    await tell()
    for kind, value in answered(TEXT):
        door.tell(kind, value)
    chunks = read_chunks((await posting).content)

    assert joined(chunks)["content"] == "Hello world"


async def test_a_wait_that_takes_too_long() -> None:
    """A call that waits too long is a 424 with the id of its request, which goes on."""
    async with open_door(door_wait_seconds=0.01) as door:
        answer = await door.post(PATH, HELLO)
        assert (answer.status_code, answer.json()["error"]["code"]) == (424, "still_running")
        assert (answer.headers["x-should-retry"], "retry-after" in answer.headers) == ("false", False)
        assert answer.headers["location"] == f"/v1/requests/{door.id}"


async def test_a_stream_that_waits_too_long() -> None:
    """A stream of which nothing comes for that long ends with the same error."""
    async with open_door(door_wait_seconds=0.01) as door:
        answer = await door.post(PATH, {**HELLO, "stream": True})
        last = orjson.loads(answer.text.strip().rpartition("data: ")[2])
        assert (answer.status_code, last["error"]["code"]) == (200, "still_running")


@pytest.mark.parametrize("stream", [False, True])
async def test_workers_know_that_a_client_waits(door: Door, stream: bool) -> None:
    """A client waits with and without a stream; a worker knows which, and both are the same request."""
    await door.post(PATH, {**HELLO, "stream": stream}, answered(TEXT))
    assert (door.producer.last[envelope.CALLER_WAITS], door.record.stream or False) == (b"1", stream)
    assert door.record.body_hash() == record_of(read_chat(orjson.dumps(HELLO)), door.id).body_hash()


async def test_a_gateway_that_shuts_down() -> None:
    """A call that waits, and a stream, end with an error about a request that goes on; new calls may be retried."""
    async with open_door() as door:
        calls = [asyncio.ensure_future(door.post(PATH, {**HELLO, "stream": stream})) for stream in (False, True)]
        await door.producer.until(2)
        door.drain.begin()
        plain, streamed = await asyncio.gather(*calls)
        refused = await door.post(PATH, HELLO)

    assert (plain.status_code, plain.json()["error"]["code"]) == (424, "still_running")
    assert (plain.headers["x-should-retry"], "x-request-id" in plain.headers) == ("false", True)
    last = orjson.loads(streamed.text.strip().rpartition("data: ")[2])
    assert (last["error"]["code"], "[DONE]" in streamed.text) == ("still_running", False)
    assert (refused.status_code, refused.headers["retry-after"], "x-should-retry" in refused.headers) == (
        503,
        "1",
        False,
    )


class Notes(Away):
    """A Postgres that notes early cancels and nothing else."""

    taken = False

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.noted: list[str] = []

    async def run(self, sql: str, **parameters: Any) -> Any:
        """Note a cancel, of what was taken in meanwhile or not."""
        if "early_cancels" not in sql:
            return [SimpleNamespace(mark="7", settled=True, taken=self.taken)]
        if "INSERT" in sql:
            self.noted.append(parameters["refs"])
        return ()


class Taken(Notes):
    """A database to which a worker has written the request."""

    taken = True


@pytest.mark.parametrize(
    ("key", "kind", "status", "retry", "noted"),
    [
        (None, Notes, 503, None, 1),
        (None, Taken, 424, "false", 1),
        (None, Away, 424, "false", 0),
        ("k", Away, 503, None, 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_unknown_outcome(
    key: str | None, kind: type[Database], status: int, retry: str | None, noted: int, stream: bool
) -> None:
    """A call whose acceptance is unknown may be retried only if it has a key, or after it was surely cancelled."""
    settings = GatewaySettings.model_validate({"orchestra_secret": "s" * 32})
    database = kind.connect(settings, "test")
    async with open_door(database) as door:
        door.producer.error = ConnectionError("lost")
        answer = await door.post(PATH, {**HELLO, "stream": stream}, **({"Idempotency-Key": key} if key else {}))

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "outcome_unknown")
    assert answer.headers.get("x-should-retry") == retry
    assert len(getattr(database, "noted", [])) == noted


async def test_the_same_key_is_the_same_request(door: Door) -> None:
    """Calls with one Idempotency-Key have the id of one request, at both paths."""
    seen = set()
    for path in PATHS:
        await door.post(path, HELLO, answered(TEXT), **{"Idempotency-Key": "k"})
        seen.add(door.id)
    assert len(seen) == 1


@given(st.data())
def test_any_answer_in_any_pieces(data: st.DataObject) -> None:
    """Whatever an answer is and however it is cut, its chunks are the answer; most of it may come only at the end."""
    pieces = data.draw(answers())
    seen = data.draw(st.integers(0, len(pieces)))
    writer, live = ChatEvents(uuid4(), HEAD, with_usage=False), LiveRequest()
    live.believe()
    raw = writer.begin(live)
    live.begin(1)
    for piece in pieces[:seen]:
        live.add_piece(live.window.end, piece)
        raw += writer.catch_up(live)
    ending = Ending(Status.COMPLETED, 1, text_of(pieces), Usage(), output=items_of(pieces))
    message = joined(read_chunks(b"".join([*raw, *writer.end(ending)])))

    assert message["content"] == text_of(pieces)
    assert message["refusal"] == "".join(piece.text for piece in pieces if piece.kind == "refusal")
    calls = [item for item in items_of(pieces) or () if item["type"] == "function_call"]
    assert [(call["id"], call["arguments"]) for call in message["tool_calls"]] == [
        (call["call_id"], call["arguments"]) for call in calls
    ]


HEAD: dict[str, Any] = {"id": "chatcmpl-1", "created": 1, "model": 'a"b\u2028', "service_tier": "default"}


def test_a_chunk_is_one_line_for_every_client() -> None:
    """Characters that some clients take for the end of a line are escaped."""
    writer, live = ChatEvents(uuid4(), HEAD, with_usage=True), LiveRequest()
    live.believe()
    live.begin(1)
    live.add(0, "a\u2028\u2029\u0085\n")
    (raw,) = writer.catch_up(live)
    assert b"\n" not in raw[:-2]
    assert orjson.loads(raw[6:])["choices"][0]["delta"] == {"content": "a\u2028\u2029\u0085\n"}
    assert not {"\u2028", "\u2029", "\u0085"} & set(raw.decode())


def test_a_replica_that_is_behind_says_nothing_twice() -> None:
    """A window that begins later than the stream, and an ending of another attempt, never make a wrong text."""
    writer, live = ChatEvents(uuid4(), HEAD, with_usage=False), LiveRequest()
    live.believe()
    live.begin(2)
    live.add(0, "abc")
    writer.catch_up(live)
    live.window.clear(10)
    live.add(10, "z")
    assert writer.catch_up(live) == []
    (last,) = writer.end(Ending(Status.COMPLETED, 3, "xyz", Usage()))
    assert orjson.loads(last[6:])["error"]["code"] == "answer_restarted"
    assert writer.closed


@pytest.mark.parametrize(
    "more",
    [{}, {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
     {"stop": ["a"], "metadata": {"a": "b"}, "deadline": "2026-12-01T10:00:00+02:00", "store": True, "max_tokens": 5},
     {"presence_penalty": 0, "parallel_tool_calls": True, "response_format": {"type": "text"}, "seed": 0}],
    ids=str,
)  # fmt: skip
def test_a_worker_reads_the_same_record(more: dict[str, Any]) -> None:
    """What a worker reads of the record has the same hash, by which events find their request."""
    made = record_of(read_chat(orjson.dumps({**HELLO, **more})), uuid4())
    read = MessageRequested.model_validate_json(made.model_dump_json(exclude_none=True))
    assert read.body_hash() == made.body_hash()
    assert read == MessageRequested.model_validate(made.model_dump(exclude_none=True))


def test_breaking_off() -> None:
    """A stream that ends because of its gateway, or of its caller, ends with an error, and names the request."""
    writer = ChatEvents(id := uuid4(), HEAD, with_usage=False)
    (raw,) = writer.break_off(OrchestraError(ErrorCode.STILL_RUNNING, "this gateway is shutting down"))
    error = orjson.loads(raw[6:])["error"]
    assert (error["code"], f"chatcmpl-{id.hex}" in error["message"]) == ("still_running", True)


async def test_credentials() -> None:
    """Without credentials a closed gateway answers with OpenAI's error, for every route."""
    async with open_door(open_mode=False) as door:
        for method, path in (
            ("POST", PATH),
            ("POST", PATHS[1]),
            ("GET", "/v1/models"),
            ("GET", "/openai/v1/models/a/b"),
        ):
            answer: httpx.Response = await door.client.request(method, path, json={} if method == "POST" else None)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
