"""Conversations over HTTP whose every answer depends on all that was said before it."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx

from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage


async def send_turns(client: httpx.AsyncClient, conversations: int, turns: int, model: str) -> dict[str, list[str]]:
    """Send this many turns in each of this many conversations, without waiting for answers; request ids of each."""
    ids = [str(uuid4()) for _ in range(conversations)]
    accepted = await asyncio.gather(*(_send(client, conversation, turns, model) for conversation in ids))
    return dict(zip(ids, accepted, strict=True))


async def endings(client: httpx.AsyncClient, accepted: dict[str, list[str]]) -> list[dict[str, Any]]:
    """Every request that was accepted, as it is once it has ended."""
    return await asyncio.gather(*(_ending(client, id) for ids in accepted.values() for id in ids))


async def histories(client: httpx.AsyncClient, accepted: dict[str, list[str]]) -> list[list[tuple[str, str]]]:
    """What each conversation has stored: role and content."""
    return await asyncio.gather(*(_history(client, conversation) for conversation in accepted))


def expected_history(turns: int) -> list[tuple[str, str]]:
    """Each answer is the hash of all that was said before it: one lost, doubled or misplaced turn changes the rest."""
    history: list[ChatMessage] = []
    for turn in range(turns):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [(message.role, message.content) for message in history]


async def _send(client: httpx.AsyncClient, conversation: str, turns: int, model: str) -> list[str]:
    return [await _post(client, conversation, turn, model) for turn in range(turns)]


async def _post(client: httpx.AsyncClient, conversation: str, turn: int, model: str) -> str:
    body = {
        "conversation_id": conversation,
        "model": model,
        "messages": [{"role": "user", "content": f"turn {turn}"}],
    }
    response = await client.post("/v1/messages", content=json.dumps(body), headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return str(response.json()["request_id"])


async def _ending(client: httpx.AsyncClient, id: str) -> dict[str, Any]:
    while True:
        response = await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=60"})
        request: dict[str, Any] = response.raise_for_status().json()
        if request["status"] not in ("pending", "in_progress"):
            return request


async def _history(client: httpx.AsyncClient, conversation: str) -> list[tuple[str, str]]:
    response = await client.get(f"/v1/conversations/{conversation}/messages", params={"limit": 100})
    return [(message["role"], message["content"]) for message in response.raise_for_status().json()["data"]]
