"""A model that refuses calls, end to end: calls to it become rare, and every waiting client learns why."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.gateway import Sse, streaming
from tests.support.models_file import serving
from tests.support.stack import Stack
from tests.support.waiting import eventually

LATER = {"Prefer": "respond-async"}
MODELS = """
[[models]]
name = "narrow"
provider = "simulated"
upstream = "simulated:latency_ms=100"
max_concurrency = 2
context_tokens = 10000
max_output_tokens = 1000
"""


@pytest.fixture(scope="module")
async def client(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway with a worker and an LLM service behind it."""
    async with serving(stack, tmp_path_factory.mktemp("refusals"), MODELS) as opened:
        yield opened


def model(fail: str, **options: Any) -> str:
    """A model that only this test uses, so that it is not held back because of others."""
    named = {"fail": fail, **options, "cut_after": 1000 + uuid4().int % 100_000}
    return "simulated:" + ",".join(f"{name}={value}" for name, value in named.items())


def body(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **more}


async def look(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    return dict((await client.get(path)).raise_for_status().json())


def why(error: dict[str, Any] | None) -> str:
    return str(error and error["code"])


async def test_a_refused_request_is_tried_ever_more_rarely(client: httpx.AsyncClient) -> None:
    """A refused request is retried after 1, 2 and 4 seconds, costs no try, and the task lists each attempt's error."""
    task = {"task_type": "summarization", "prompt": "hello", "model": model("rate_limited")}
    id = (await client.post("/v1/tasks", json=task)).raise_for_status().json()["id"]

    async def attempts() -> dict[str, Any] | None:
        found = await look(client, f"/v1/tasks/{id}")
        return found if len(found["errors"]) >= 4 else None

    found = await eventually(attempts, 60, 0.2)
    assert found
    times = [datetime.fromisoformat(error["at"]) for error in found["errors"]]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert ["rate_limited"] * 4 == [error["code"] for error in found["errors"]]
    assert all(wait >= least for wait, least in zip(waits, (1, 2, 4), strict=False)), waits
    assert "rate_limited" == why(found["last_error"])
    await client.post(f"/v1/requests/{id}/cancel")


async def test_a_stream_sees_why_nothing_comes(client: httpx.AsyncClient) -> None:
    """A stream and a GET show the error as soon as the first attempt has failed, and so does a later stream."""
    asked = body(model("auth"), stream=True)
    async with streaming(client, "POST", "/v1/messages", json=asked) as reader:
        told = await reader.until("restart")
        path = reader.response.headers["location"]

    assert ["pending", "started", "restart"] == [event.name for event in told]
    assert (1, "", "auth") == (told[-1].data["attempt"], told[-1].data["text"], why(told[-1].data["last_error"]))

    async def waiting() -> Any:
        # The event precedes the commit.
        seen = await look(client, path)
        return seen["status"] == "pending" and seen

    found = await eventually(waiting)
    assert ("pending", None, told[-1].data["last_error"]) == (found["status"], found["error"], found["last_error"])
    (listed,) = (await look(client, f"/v1/requests?conversation_id={found['conversation_id']}"))["data"]
    assert found == {**found, **listed}
    for place in ({}, {"Last-Event-ID": "1.0"}):
        async with streaming(client, "GET", f"{path}/events", headers=place) as reader:
            assert told[-1] == (await reader.until("restart"))[-1]
    await client.post(f"{path}/cancel")


async def test_who_comes_while_a_model_is_held_back_is_told(client: httpx.AsyncClient) -> None:
    """While a model is held back, a waiting POST fails with the reason; a stream and GET show it meanwhile."""
    wrong = model("quota_exhausted")
    first = (await client.post("/v1/messages", json=body(wrong), headers=LATER)).headers["location"]
    await eventually(lambda: _attempted(client, first))

    waiting = await client.post("/v1/messages", json=body(wrong))
    assert (502, "quota_exhausted") == (waiting.status_code, waiting.json()["code"])
    refused = await look(client, f"/v1/requests/{waiting.json()['request_id']}")
    assert ("failed", 0, "quota_exhausted") == (refused["status"], refused["attempts"], why(refused["error"]))

    async with streaming(client, "POST", "/v1/messages", json=body(wrong, stream=True)) as reader:
        pending, told = await reader.until("restart")
        path = reader.response.headers["location"]
    assert pending.name == "pending"
    assert Sse("restart", {"attempt": 0, "text": "", "last_error": told.data["last_error"]}) == told
    found = await look(client, path)
    assert ("pending", 0, told.data["last_error"]) == (found["status"], found["attempts"], found["last_error"])
    for each in (first, path):
        await client.post(f"{each}/cancel")


async def _attempted(client: httpx.AsyncClient, path: str) -> bool:
    return (await look(client, path))["last_error"] is not None


@pytest.mark.parametrize(("fail", "options"), [("auth", {}), ("rate_limited", {"retry_after": 60})])
async def test_a_caller_who_waits_in_vain_is_told_at_once(
    client: httpx.AsyncClient, fail: str, options: dict[str, Any]
) -> None:
    """An error that cannot pass while the caller waits is the response after one attempt, not a 504 after a minute."""
    answer = await client.post("/v1/messages", json=body(model(fail, **options)))

    assert (502, fail) == (answer.status_code, answer.json()["code"])
    assert 1 == (await look(client, f"/v1/requests/{answer.json()['request_id']}"))["attempts"]


async def test_an_empty_answer_is_asked_for_once_more(client: httpx.AsyncClient) -> None:
    """An empty answer is retried once and then fails with the reason, whether a caller waits or not."""
    sent = await client.post("/v1/messages", json=body(model("empty_reply")), headers=LATER)
    path = sent.headers["location"]

    ended = await client.get(path, headers={"Prefer": "wait=60"})

    found = ended.json()
    assert ("failed", 2, "empty_reply") == (found["status"], found["attempts"], why(found["error"]))


async def test_a_model_with_few_slots_is_not_held_back(client: httpx.AsyncClient) -> None:
    """A model with two slots and a queue of two completes all of forty requests, in few attempts."""
    sent = await asyncio.gather(*(client.post("/v1/messages", json=body("narrow"), headers=LATER) for _ in range(40)))

    paths = [each.headers["location"] for each in sent]
    ended = await asyncio.gather(*(client.get(path, headers={"Prefer": "wait=60"}) for path in paths))

    assert {"completed"} == {each.json()["status"] for each in ended}
    assert sum(each.json()["attempts"] for each in ended) <= 3 * len(ended)


async def test_a_cut_answer_says_so_everywhere(client: httpx.AsyncClient) -> None:
    """A cut-off answer has its finish reason in reply, request, stream and history, and its metadata everywhere."""
    asked = body("simulated:tokens=50", max_tokens=3, metadata={"order": "7"})
    reply = (await client.post("/v1/messages", json=asked)).json()
    found = await look(client, f"/v1/requests/{reply['request_id']}")
    said = (await look(client, f"/v1/conversations/{reply['conversation_id']}/messages"))["data"]
    async with streaming(client, "GET", f"/v1/requests/{reply['request_id']}/events") as reader:
        end = (await reader.rest())[-1]
    later = (await client.post("/v1/messages", json={**asked, "stream": False}, headers=LATER)).json()
    task = {"task_type": "summarization", "prompt": "x", "model": "simulated:tokens=50", "max_tokens": 3}
    made = (await client.post("/v1/tasks", json={**task, "metadata": {"order": "8"}})).json()

    async def done() -> dict[str, Any] | None:
        shown = await look(client, f"/v1/tasks/{made['id']}")
        return shown if shown["status"] == "completed" else None

    assert ("length", {"order": "7"}) == (reply["finish_reason"], reply["metadata"])
    assert ("length", {"order": "7"}) == (found["finish_reason"], found["metadata"])
    assert [None, "length"] == [each["finish_reason"] for each in said]
    assert "length" == end.data["finish_reason"]
    assert {"order": "7"} == later["metadata"]
    assert {"order": "8"} == made["metadata"]
    finished = await eventually(done)
    assert finished
    assert ("length", {"order": "8"}) == (finished["finish_reason"], finished["metadata"])
