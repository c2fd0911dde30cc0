"""Turns that call tools, on real Kafka and Postgres: calls, results, and conversations that go on without them."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web

from tests.support.llm_script import DONE, END, LlmScript, line, llm_script, sends
from tests.support.road import Road, open_road
from tests.support.stack import Stack
from tests.support.waiting import eventually

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}
STATE = {"provider": "p", "signature": "opaque"}


async def calls_a_tool(request: web.Request, response: web.StreamResponse) -> None:
    """Call a tool for a new question, and answer once its result is there."""
    last = (await request.json())["messages"][-1]
    if last["role"] == "tool":
        await sends(line(delta=f"It is {last['content']}."), END)(request, response)
        return
    head = {"index": 0, "id": "call_1", "name": "weather"}
    arguments = [line(tool_delta={"index": 0, "text": text}) for text in ('{"city": ', '"Oslo"}')]
    done = json.dumps({**DONE, "finish_reason": "tool_calls"}).encode()
    await sends(line(reasoning="hm"), line(tool=head), *arguments, line(state=STATE), done)(request, response)


class Waits:
    """Begins a tool call, and sends the rest of it once ``goes_on`` is set."""

    def __init__(self) -> None:
        self.goes_on = asyncio.Event()

    async def __call__(self, request: web.Request, response: web.StreamResponse) -> None:
        """Answer one call."""
        await sends(line(tool={"index": 0, "id": "call_1", "name": "weather"}))(request, response)
        await self.goes_on.wait()
        done = json.dumps({**DONE, "finish_reason": "tool_calls"}).encode()
        await response.write(line(tool_delta={"index": 0, "text": CALL["arguments"]}) + done)


@pytest.fixture
def waits() -> Waits:
    """A model that waits for the test."""
    return Waits()


@pytest.fixture
async def llm(waits: Waits) -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    async with llm_script(tools=calls_a_tool, waits=waits) as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened


async def ask(road: Road, conversation: UUID, *messages: dict[str, Any], model: str = "tools", **more: Any) -> UUID:
    """Send these messages under an id of their own."""
    id = uuid4()
    value = {"conversation_id": str(conversation), "messages": messages, "model": model, "tools": [TOOL], **more}
    await road.send(json.dumps(value).encode(), str(conversation).encode(), [("ce_id", str(id).encode())])
    return id


def user(content: Any = "How is the weather?") -> dict[str, Any]:
    """A message of a user."""
    return {"role": "user", "content": content}


def result(content: str, call_id: str = "call_1") -> dict[str, Any]:
    """The result of a call."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def wanted(**more: Any) -> dict[str, Any]:
    """The answer that calls the tool, as the model gets it again."""
    function = {"name": CALL["name"], "arguments": CALL["arguments"]}
    return {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}], **more}


async def test_a_tool_is_called_over_kafka_alone(road: Road) -> None:
    """The reply has the call, the next record its result, and the model gets both, with all that came before."""
    conversation, question = uuid4(), user([{"type": "text", "text": "How is it there?"}, IMAGE])
    async with road.worker():
        first = await ask(road, conversation, question, reasoning="include")
        (called,) = await road.replies([first])
        second = await ask(road, conversation, result("sunny"))
        (answered,) = await road.replies([second])
        third = await ask(road, conversation, user("Thanks"), model="echo")
        (last,) = await road.replies([third])

    reasoning = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert ("completed", "", "tool_calls") == tuple(called.json[name] for name in ("status", "reply", "finish_reason"))
    assert [reasoning, CALL] == called.json["output"]
    assert ("It is sunny.", False) == (answered.json["reply"], "output" in answered.json)
    assert "echo: Thanks" == last.json["reply"]
    dialogue = [question, wanted(state=STATE), result("sunny"), {"role": "assistant", "content": "It is sunny."}]
    seen = [call.body["messages"] for call in road.llm.calls]
    assert [[question], dialogue[:3], [*dialogue, user("Thanks")]] == seen
    kinds = [event.kind for event in road.events(first)]
    assert ["started", "piece", "piece", "piece", "completed"] == [*dict.fromkeys(kinds[:1]), *kinds[1:4], kinds[-1]]
    assert [reasoning, CALL] == road.events(first)[-1].json["output"]


async def test_the_first_piece_leaves_before_the_last_exists(road: Road, waits: Waits) -> None:
    """The head of a call is published while the model has not written its arguments yet."""
    async with road.worker():
        id = await ask(road, uuid4(), user(), model="waits")

        assert await eventually(lambda: [event.kind for event in road.events(id)] == ["started", "piece"])
        waits.goes_on.set()
        (reply,) = await road.replies([id])

    assert [CALL] == reply.json["output"]


async def test_a_conversation_goes_on_without_results(road: Road) -> None:
    """A message in the place of a result is answered: the model reads that the call was not executed."""
    conversation = uuid4()
    async with road.worker():
        await road.replies([await ask(road, conversation, user())])
        (reply,) = await road.replies([await ask(road, conversation, user("Never mind"), model="echo")])

    assert "echo: Never mind" == reply.json["reply"]
    told = [user(), wanted(state=STATE), result("not executed"), user("Never mind")]
    assert told == road.llm.calls[-1].body["messages"]


async def test_results_of_other_calls_fail_without_a_call_to_the_model(road: Road) -> None:
    """A result without its call fails by name, and the conversation can still be continued with the right one."""
    conversation = uuid4()
    async with road.worker():
        await road.replies([await ask(road, conversation, user())])
        (failed,) = await road.replies([await ask(road, conversation, result("sunny", "call_2"))])
        asked = len(road.llm.calls)
        (answered,) = await road.replies([await ask(road, conversation, result("sunny"))])

    assert ("failed", "tool_results_missing") == (failed.json["status"], failed.json["error"]["code"])
    assert (1, "It is sunny.") == (asked, answered.json["reply"])


async def test_a_conversation_with_tools_can_be_deleted_in_part(road: Road) -> None:
    """If the answer with a call is deleted, its results are left out of later prompts, and nothing fails."""
    conversation = uuid4()
    async with road.worker():
        first = await ask(road, conversation, user())
        await road.replies([first])
        await road.replies([await ask(road, conversation, result("sunny"))])
        await road.database.run("DELETE FROM messages WHERE request_id = :id", id=first)
        (reply,) = await road.replies([await ask(road, conversation, user("And now?"), model="echo")])

    assert "echo: And now?" == reply.json["reply"]
    assert [user("And now?")] == road.llm.calls[-1].body["messages"]
