"""What a message does in a conversation with open turns, as its caller sees it, on real services."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.support.models_file import serving
from tests.support.stack import Stack
from tests.support.waiting import eventually

ENDLESS = "simulated:tokens=600,gap_ms=100"
QUICK = "simulated"


@pytest.fixture(scope="module")
async def client(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of a gateway with one worker behind it."""
    async with serving(stack, tmp_path_factory.mktemp("busy")) as opened:
        yield opened


def message(conversation: str, model: str, **more: Any) -> dict[str, Any]:
    return {"conversation_id": conversation, "model": model, "messages": [{"role": "user", "content": "hi"}], **more}


async def begun(client: httpx.AsyncClient, conversation: str) -> str:
    """The id of a turn that is running, and would run for a minute."""
    body = message(conversation, ENDLESS)
    id = (await client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})).json()["id"]

    async def running() -> bool:
        return bool((await client.get(f"/v1/requests/{id}")).json()["status"] == "in_progress")

    await eventually(running)
    return str(id)


async def test_reject(client: httpx.AsyncClient) -> None:
    """With `reject` the caller learns at once that the conversation is busy; the open turn goes on."""
    conversation = str(uuid4())
    open_turn = await begun(client, conversation)

    refused = await client.post("/v1/messages", json=message(conversation, QUICK, on_busy="reject"))

    assert (refused.status_code, refused.json()["code"]) == (409, "conversation_busy")
    assert (await client.get(f"/v1/requests/{open_turn}")).json()["status"] == "in_progress"


async def test_reject_in_a_free_conversation(client: httpx.AsyncClient) -> None:
    """With `reject` and no open turn the message is answered like any other."""
    answered = await client.post("/v1/messages", json=message(str(uuid4()), QUICK, on_busy="reject"))

    assert (answered.status_code, answered.json()["reply"]) == (200, "echo: hi")


async def test_interrupt(client: httpx.AsyncClient) -> None:
    """With `interrupt` the running turn is cancelled, its caller learns that, and the new one has none of its text."""
    conversation = str(uuid4())
    open_turn = await begun(client, conversation)
    waiting = asyncio.create_task(client.get(f"/v1/requests/{open_turn}", headers={"Prefer": "wait=60"}))

    answered = await client.post("/v1/messages", json=message(conversation, QUICK, on_busy="interrupt"))

    assert (answered.status_code, answered.json()["reply"]) == (200, "echo: hi")
    assert (await waiting).json()["status"] == "cancelled"
    history = (await client.get(f"/v1/conversations/{conversation}/messages")).json()["data"]
    assert [("user", "hi"), ("assistant", "echo: hi")] == [(each["role"], each["content"]) for each in history]


async def test_enqueue(client: httpx.AsyncClient) -> None:
    """With `enqueue`, or by default, a turn waits for those before it."""
    conversation = str(uuid4())
    open_turn = await begun(client, conversation)
    body = message(conversation, QUICK, on_busy="enqueue")
    id = (await client.post("/v1/messages", json=body, headers={"Prefer": "respond-async"})).json()["id"]
    assert (await client.get(f"/v1/requests/{id}")).json()["status"] == "pending"

    await client.post(f"/v1/requests/{open_turn}/cancel")

    ended = (await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=60"})).json()
    assert (ended["status"], ended["reply"]) == ("completed", "echo: hi")
