"""What the oracle promises: replies that only the exact history gives, the faults it is set to, a complete log."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer

from faults.evidence import Call, call_of
from faults.oracle import Oracle, Spec
from faults.question import FAIL, SLOW, TOOL, TOOL_NAME, Question, arguments, history_hash
from tests.support.waiting import eventually


@asynccontextmanager
async def oracle(spec: str) -> AsyncIterator[tuple["TestClient[Any, Any]", io.StringIO]]:
    log = io.StringIO()
    server = TestServer(Oracle(Spec.parse(spec), log).app())
    await server.start_server()
    async with TestClient(server) as client:
        yield client, log


def asking(*questions: Question) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question.text()} for question in questions]}


def logged(log: io.StringIO) -> list[Call]:
    return [call_of(json.loads(line)) for line in log.getvalue().splitlines()]


async def test_the_reply_is_the_hash_of_what_was_sent() -> None:
    """The deltas of the stream add up to the hash of the messages; the log has the caller and the whole prompt."""
    first, second = Question(uuid4(), 0, "k0"), Question(uuid4(), 1, "k1")
    async with oracle("") as (client, log):
        answer = await (await client.post("/v1/chat/completions", json=asking(first, second))).text()
    lines = [line[6:] for line in answer.splitlines() if line.startswith("data: {")]
    chunks = [choice["delta"].get("content", "") for line in lines for choice in json.loads(line)["choices"]]
    expected = history_hash([("user", first.text()), ("user", second.text())])
    (call,) = logged(log)

    assert expected == "".join(chunks) == call.hash
    assert answer.endswith("data: [DONE]\n\n")
    assert ("whole", second.conversation, 1, "k1", ("k0", "k1")) == (
        call.ended, call.conversation, call.ordinal, call.key, call.seen,
    )  # fmt: skip
    assert call.start <= call.end


async def test_a_question_that_asks_for_a_tool_is_answered_with_its_call() -> None:
    """The arguments have the hash of the prompt, and the result of the call is hashed with its id."""
    asked, result = Question(uuid4(), 0, "k0", TOOL), Question(uuid4(), 1, "k1")
    called = {"id": "call_k0", "type": "function", "function": {"name": TOOL_NAME, "arguments": "{}"}}
    dialogue: list[dict[str, Any]] = [
        *asking(asked)["messages"],
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_k0", "content": result.text()},
    ]
    async with oracle("") as (client, log):
        first = await (await client.post("/v1/chat/completions", json={"messages": dialogue[:1]})).text()
        second = await (await client.post("/v1/chat/completions", json={"messages": dialogue})).text()
    deltas = [choice["delta"] for line in first.splitlines() if line.startswith("data: {")
              for choice in json.loads(line[6:])["choices"]]  # fmt: skip
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    before = [("user", asked.text())]

    assert ("call_k0", TOOL_NAME) == (calls[0]["id"], calls[0]["function"]["name"])
    assert arguments(history_hash(before)) == "".join(call["function"]["arguments"] for call in calls)
    assert '"finish_reason": "tool_calls"' in first
    assert [
        history_hash(before),
        history_hash([*before, ("assistant", "", [["call_k0", TOOL_NAME, "{}"]]), ("tool", result.text(), "call_k0")]),
    ] == [call.hash for call in logged(log)]
    assert '"finish_reason": "stop"' in second


@pytest.mark.parametrize(
    ("fault", "status", "ended"),
    [("rate_limited", 429, "error"), ("error", 500, "error"), ("cut", 200, "cut"), ("garbage", 200, "error")],
)
async def test_faults_come_as_told(fault: str, status: int, ended: str) -> None:
    """Each fault has its status, never a complete answer, and is logged by its name."""
    async with oracle(f"{fault}=1,retry_after=3") as (client, log):
        response = await client.post("/v1/chat/completions", json=asking(Question(uuid4(), 0, "k")))
        assert status == response.status
        assert '"finish_reason": "stop"' not in await response.text()
        assert ("3" if fault == "rate_limited" else None) == response.headers.get("Retry-After")
        (call,) = logged(log)

    assert (fault, ended) == (call.fault, call.ended)


async def test_a_reset_is_logged_as_cut() -> None:
    """The connection breaks in the middle of the answer."""
    async with oracle("reset=1") as (client, log):
        with pytest.raises(aiohttp.ClientError):
            await (await client.post("/v1/chat/completions", json=asking(Question(uuid4(), 0, "k")))).read()
        await eventually(lambda: logged(log))

    assert ("reset", "cut") == (logged(log)[0].fault, logged(log)[0].ended)


@pytest.mark.parametrize(("spec", "ended"), [("hang=1", "hang"), ("gap_ms=60000", "client_left")])
async def test_a_caller_who_leaves_is_noticed(spec: str, ended: str) -> None:
    """A call that is closed before its end is logged, as a hang or as left."""
    async with oracle(spec) as (client, log):
        response = await client.post("/v1/chat/completions", json=asking(Question(uuid4(), 0, "k")))
        await response.content.readany()
        response.close()
        await eventually(lambda: logged(log))

    assert ended == logged(log)[0].ended


async def test_a_question_can_ask_to_fail() -> None:
    """A question that asks for a failure fails at any rate; new rates apply from the moment they are set."""
    async with oracle("") as (client, log):
        asked = await client.post("/v1/chat/completions", json=asking(Question(uuid4(), 0, "k", FAIL)))
        assert 500 == asked.status
        await client.put("/faults", data="rate_limited=1")
        assert 429 == (await client.post("/v1/chat/completions", json=asking(Question(uuid4(), 0, "k")))).status
        assert 422 == (await client.put("/faults", data="nonsense=1")).status
        assert {"error": 2, "fault_error": 1, "fault_rate_limited": 1} == await (await client.get("/stats")).json()
    assert [FAIL, ""] == [call.note for call in logged(log)]


async def test_a_slow_answer_drips_until_the_spec_changes() -> None:
    """A slow answer comes by characters, and its rest at once as soon as the model is set to be fast."""
    question = Question(uuid4(), 0, "k", SLOW)
    async with (
        oracle("slow_ms=0,drip_ms=3600000") as (client, log),
        client.post("/v1/chat/completions", json=asking(question)) as response,
    ):
        first = await response.content.readuntil(b"\n\n")
        await (await client.put("/faults", data="slow_ms=0")).read()
        rest = await response.text()
    said = [json.loads(line[6:]) for line in (first.decode() + rest).splitlines() if line.startswith("data: {")]
    pieces = [piece for each in said for choice in each["choices"] if (piece := choice["delta"].get("content"))]
    (call,) = logged(log)

    assert list(call.hash) == pieces
    assert "whole" == call.ended
