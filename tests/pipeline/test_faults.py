"""The whole system while workers, broker or Postgres die: no message is lost, and none is answered twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import httpx
import pytest

from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

ENDINGS = ("completed", "failed", "cancelled", "expired")


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway, with an LLM service behind it; the test starts its own workers."""
    await services.llm()
    gateway = await services.gateway()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90) as opened:
        yield opened


async def accept(client: httpx.AsyncClient, model: str, text: str = "hello", conversation: str | None = None) -> str:
    """Send a message with one key until it is certainly accepted, as a careful client does; its id."""
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": text}]}
    if conversation:
        body["conversation_id"] = conversation
    headers = {"Prefer": "respond-async", "Idempotency-Key": uuid4().hex}

    async def attempt() -> str | None:
        response = await client.post("/v1/messages", content=json.dumps(body), headers=headers)
        assert response.status_code in (202, 200, 503), response.text
        return None if response.status_code == 503 else str(response.json()["request_id"])

    return str(await eventually(attempt, 90, 0.2))


async def look(client: httpx.AsyncClient, id: str, wait: int = 0) -> dict[str, Any]:
    """The request as it is, or as it ends within ``wait`` seconds; {} while Postgres is away."""
    response = await client.get(f"/v1/requests/{id}", headers={"Prefer": f"wait={wait}"} if wait else {})
    assert response.status_code in (200, 503), response.text
    return dict(response.json()) if response.status_code == 200 else {}


async def ended(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    """The request once it has ended."""

    async def attempt() -> dict[str, Any] | None:
        seen = await look(client, id, wait=20)
        return seen if seen.get("status") in ENDINGS else None

    return dict(await eventually(attempt, 90, 0.2) or {})


async def running(client: httpx.AsyncClient, id: str) -> None:
    """Return once a worker has the request."""

    async def attempt() -> bool:
        return (await look(client, id)).get("status") == "in_progress"

    await eventually(attempt)


async def said(client: httpx.AsyncClient, conversation: str) -> list[tuple[str, str]]:
    """Role and content of the messages stored in a conversation."""
    response = await client.get(f"/v1/conversations/{conversation}/messages", params={"limit": 100})
    return [(each["role"], each["content"]) for each in response.raise_for_status().json()["data"]]


async def burst(client: httpx.AsyncClient, conversations: Sequence[str], turns: int, model: str) -> list[str]:
    """Messages to many conversations at once, one after the other within each."""

    async def one(conversation: str) -> list[str]:
        return [await accept(client, model, f"turn {turn}", conversation) for turn in range(turns)]

    return [id for ids in await asyncio.gather(*map(one, conversations)) for id in ids]


def chain(turns: int) -> list[tuple[str, str]]:
    """The messages of a conversation in which each answer is the hash of all messages before it."""
    history: list[ChatMessage] = []
    for turn in range(turns):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [(message.role, message.content) for message in history]


async def all_in_order(client: httpx.AsyncClient, conversations: Sequence[str], ids: Sequence[str], turns: int) -> None:
    """Check that every request completed and every conversation is the expected chain."""
    endings = await asyncio.gather(*(ended(client, id) for id in ids))
    assert {"completed"} == {ending["status"] for ending in endings}
    for conversation in conversations:
        assert chain(turns) == await said(client, conversation)


@pytest.mark.parametrize("part", ["kafka", "postgres"])
async def test_broker_or_database_away(services: Services, client: httpx.AsyncClient, stack: Stack, part: str) -> None:
    """Broker or Postgres killed and restarted during a burst: accepted messages are answered once, in order."""
    await services.worker()
    await services.worker()
    conversations = [str(uuid4()) for _ in range(20)]
    sending = asyncio.create_task(burst(client, conversations, 5, "simulated:reply=hash,latency_ms=100"))
    await running(client, await accept(client, "simulated:latency_ms=1000"))
    if part == "kafka":
        await stack.kill_kafka()
        await stack.start_kafka()
    else:
        await stack.kill_postgres()
        await stack.start_postgres()

    await all_in_order(client, conversations, await sending, 5)
