"""A model that breaks off and its fallback, through real processes: what clients and consumers see."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import REPLIES
from tests.support.gateway import Sse, streaming, text_of
from tests.support.models_file import serving
from tests.support.stack import Stack

SAID = "who goes on 🦉 where another broke off"
TEXT = f"echo: {SAID}"
USAGE = {"input_tokens": 14, "output_tokens": 9, "cost": 3.2e-05, "model": "steady"}
# The first model is slow enough that a piece is sent before it breaks off, on a loaded machine too.
MODELS = """
[[models]]
name = "shaky"
provider = "simulated"
upstream = "simulated:tokens=40,gap_ms=250,cut_after=12"
fallbacks = ["down", "steady"]
context_tokens = 10000
max_output_tokens = 1000

[[models]]
name = "down"
provider = "simulated"
upstream = "simulated:fail=overloaded"
context_tokens = 10000
max_output_tokens = 1000

[[models]]
name = "steady"
provider = "simulated"
upstream = "simulated:latency_ms=200,gap_ms=50"
price = { input = 1, output = 2 }
context_tokens = 10000
max_output_tokens = 1000
"""


@pytest.fixture(scope="module")
async def client(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway, a worker and an LLM service with a chain of models."""
    async with serving(stack, tmp_path_factory.mktemp("fallback"), MODELS) as opened:
        yield opened


def body(**more: Any) -> dict[str, Any]:
    """A message for the model that breaks off."""
    return {"model": "shaky", "messages": [{"role": "user", "content": SAID}], **more}


def places_hold(told: list[Sse]) -> bool:
    """Whether each event's id gives the attempt and the length of the text so far."""
    return all(
        event.id.removesuffix(".end") == f"{2 if place >= _restart(told) else 1}.{len(text_of(told[: place + 1]))}"
        for place, event in enumerate(told)
        if event.id
    )


def _restart(told: list[Sse]) -> int:
    return next(place for place, event in enumerate(told) if event.name == "restart")


async def test_a_stream_is_told_to_start_anew(client: httpx.AsyncClient) -> None:
    """After a restart in mid stream the text is the fallback's, as stored, even for a client that resumes."""
    async with streaming(client, "POST", "/v1/messages", json=body(stream=True)) as reader:
        told = await reader.until("delta")
        before = told[-1]
        told += await reader.until("restart")
        location = reader.response.headers["location"]
        resumed = {"headers": {"Last-Event-ID": str(before.id)}}
        async with streaming(client, "GET", f"{location}/events", **resumed) as second:
            told += await reader.rest()
            _, *back = await second.rest()
    async with streaming(client, "GET", f"{location}/events", **resumed) as third:
        _, *late = await third.rest()

    assert str(before.id).startswith("1.")
    assert [event.data["attempt"] for event in told if event.name in ("started", "restart")] == [1, 2]
    # Pieces are gathered for a moment: those from just before the restart may be missing.
    so_far = text_of(told[: _restart(told)])
    assert so_far
    assert "".join(f"word{number} " for number in range(1, 13)).startswith(so_far)
    assert places_hold(told)
    assert told[-1] == Sse("completed", {"reply": TEXT, "usage": USAGE, "finish_reason": "stop"}, f"2.{len(TEXT)}.end")
    for events in (told, back, late):
        assert (text_of(events), events[-1]) == (TEXT, told[-1])
    assert back[0].name == late[0].name == "restart"
    resource = (await client.get(location)).json()
    assert (resource["reply"], resource["usage"], resource["attempts"]) == (TEXT, USAGE, 2)


async def test_cost_reaches_everybody_who_is_told_of_usage(client: httpx.AsyncClient, stack: Stack) -> None:
    """The cost is in the reply, the request, the task and the record; for a model without a price it is absent."""
    consumer = AIOKafkaConsumer(bootstrap_servers=stack.bootstrap, auto_offset_reset="latest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(REPLIES.name, number) for number in range(REPLIES.partitions)])
        await consumer.seek_to_end()
        for partition in consumer.assignment():
            await consumer.position(partition)
        answered = (await client.post("/v1/messages", json=body())).json()
        record = await asyncio.wait_for(_reply_of(consumer, answered["request_id"]), 30)
    finally:
        await consumer.stop()
    asked = {"task_type": "summarization", "model": "shaky", "prompt": SAID}
    id = (await client.post("/v1/tasks", json=asked)).json()["task_id"]
    await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=30"})
    task = (await client.get(f"/v1/tasks/{id}")).json()
    plain = (await client.post("/v1/messages", json=body(model="simulated"))).json()

    assert (answered["reply"], answered["usage"], answered["model"]) == (TEXT, USAGE, "shaky")
    assert (record["reply"], record["usage"], record["model"]) == (TEXT, USAGE, "shaky")
    assert (task["usage"]["model"], task["usage"]["cost"] > 0) == ("steady", True)
    assert plain["usage"] == {"input_tokens": 14, "output_tokens": 9}


async def _reply_of(consumer: AIOKafkaConsumer, id: str) -> Any:
    async for record in consumer:
        if (reply := json.loads(record.value))["request_id"] == id:
            return reply
    raise AssertionError("the topic has no end")


async def test_many_chains_at_once_keep_their_texts_apart(client: httpx.AsyncClient) -> None:
    """Thirty streams, each with its own break: every caller ends with its own text, and so does Postgres."""

    async def one(said: str) -> None:
        asked = body(stream=True, messages=[{"role": "user", "content": said}])
        async with streaming(client, "POST", "/v1/messages", json=asked) as reader:
            told = await reader.rest()
            stored = (await client.get(reader.response.headers["location"])).json()
        assert text_of(told) == told[-1].data["reply"] == stored["reply"] == f"echo: {said}"
        # None where the break came before any text was sent.
        assert [event.name for event in told].count("restart") == 2 - told[1].data["attempt"]

    await asyncio.gather(*(one(f"{uuid4()} says {number}") for number in range(30)))
