"""One conversation of everything: an image, a tool call and its result, JSON by a schema; streamed, cut, resumed."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from orchestra.transcript import Piece, after, items_of, joined, text_of
from tests.support.gateway import Sse, streaming
from tests.support.services import Services

# A PNG of one pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    },
}
REPORT = {
    "type": "json_schema",
    "json_schema": {
        "name": "report",
        "schema": {"type": "object", "required": ["degrees"], "properties": {"degrees": {"type": "integer"}}},
    },
}
QUESTION = {
    "role": "user",
    "content": [
        {"type": "text", "text": "call weather for the city in this picture"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ],
}


@pytest.fixture
async def gateways(services: Services) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two gateways, with a worker and the simulated model behind them."""
    await services.llm()
    started = [await services.gateway(), await services.gateway()]
    await services.worker()
    async with (
        httpx.AsyncClient(base_url=started[0].url, timeout=90) as one,
        httpx.AsyncClient(base_url=started[1].url, timeout=90) as other,
    ):
        yield [one, other]


def pieces_in(events: list[Sse]) -> list[Piece]:
    """The answer that these events of a stream tell."""
    told: list[Piece] = []
    for event in events:
        match event.name:
            case "delta":
                told.append(Piece("text", event.data["text"]))
            case "reasoning.delta":
                told.append(Piece("reasoning", event.data["text"]))
            case "refusal.delta":
                told.append(Piece("refusal", event.data["text"]))
            case "tool_call":
                told.append(Piece("tool_call", "", event.data["index"], event.data["call_id"], event.data["name"]))
            case "tool_call.delta":
                told.append(Piece("tool_arguments", event.data["arguments"], event.data["index"]))
    return joined(told)


async def ask(gateways: list[httpx.AsyncClient], body: dict[str, Any]) -> dict[str, Any]:
    """Stream a turn, and resume after each of its events on the other gateway; what its ending says."""
    one, other = gateways
    async with streaming(one, "POST", "/v1/messages", json={**body, "stream": True}) as reader:
        events = await reader.rest()
        location = reader.response.headers["location"]
    assert "completed" == events[-1].name, events[-1]
    whole = pieces_in(events)
    for place, event in enumerate(events[:-1]):
        if event.id is None:
            continue
        async with streaming(other, "GET", f"{location}/events", headers={"Last-Event-ID": event.id}) as reader:
            rest = await reader.rest()
        assert events[-1] == rest[-1]
        told = sum(piece.units for piece in pieces_in(events[: place + 1]))
        assert after(whole, told) == pieces_in(rest)
    ending = events[-1].data
    assert (text_of(whole), items_of(whole)) == (ending["reply"], ending.get("output"))
    resource = (await other.get(location)).json()
    for name in ("reply", "output", "usage", "finish_reason"):
        assert ending.get(name) == resource.get(name)
    return dict(ending)


async def test_a_conversation_of_everything_is_the_same_streamed_resumed_and_stored(
    gateways: list[httpx.AsyncClient],
) -> None:
    """Cut after any event and resumed on another gateway, each answer is what is stored."""
    conversation = str(uuid4())
    of_all = {"conversation_id": conversation, "model": "simulated:reasoning=3,gap_ms=2"}

    called = await ask(gateways, {**of_all, "messages": [QUESTION], "tools": [WEATHER], "reasoning": "include"})
    assert "tool_calls" == called["finish_reason"]
    assert ["reasoning", "function_call"] == [item["type"] for item in called["output"]]
    call = called["output"][-1]
    assert ("weather", {"city"}) == (call["name"], set(json.loads(call["arguments"])))

    result = {"role": "tool", "tool_call_id": call["call_id"], "content": "21 degrees"}
    answered = await ask(gateways, {**of_all, "messages": [result], "tools": [WEATHER]})
    assert ("stop", True) == (answered["finish_reason"], "21 degrees" in answered["reply"])

    asked = {"role": "user", "content": "as a report, please"}
    reported = await ask(gateways, {**of_all, "messages": [asked], "response_format": REPORT})
    assert {"degrees"} == set(json.loads(reported["reply"]))

    stored = (await gateways[1].get(f"/v1/conversations/{conversation}/messages")).json()["data"]
    assert ["user", "assistant", "tool", "assistant", "user", "assistant"] == [each["role"] for each in stored]
    assert QUESTION["content"] == stored[0]["parts"]
    assert called["output"] == stored[1]["output"]
    assert (call["call_id"], "21 degrees") == (stored[2]["tool_call_id"], stored[2]["content"])
    assert (answered["reply"], reported["reply"]) == (stored[3]["content"], stored[5]["content"])
