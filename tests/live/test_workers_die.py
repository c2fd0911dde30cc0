"""The promise in one line, with workers killed all the while."""

import asyncio
import json
from uuid import uuid4

import httpx

from llm_service.providers.simulated import conversation_hash
from schemas.generation import ChatMessage
from tests.support.faults import kill_in_turn
from tests.support.services import Services

CONVERSATIONS = 200
TURNS = 5
KILL_EVERY_SECONDS = 3.0
MODEL = "simulated:reply=hash,latency_ms=300"


async def test_every_message_is_answered_once_and_in_order_while_workers_are_killed(services: Services) -> None:
    """1,000 messages in 200 conversations, a worker of three killed every few seconds: each answered once, in order."""
    await services.llm()
    workers = [await services.worker() for _ in range(3)]
    gateway = await services.gateway()
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90, limits=limits) as client:
        killing = asyncio.create_task(kill_in_turn(workers, KILL_EVERY_SECONDS))
        conversations = [str(uuid4()) for _ in range(CONVERSATIONS)]
        accepted = await asyncio.gather(*(_send(client, conversation) for conversation in conversations))
        statuses = await asyncio.gather(*(_ending(client, id) for ids in accepted for id in ids))
        killing.cancel()
        histories = await asyncio.gather(*(_history(client, conversation) for conversation in conversations))

    assert ["completed"] * (CONVERSATIONS * TURNS) == statuses
    for history in histories:
        assert _expected() == [(message["role"], message["content"]) for message in history]
    assert any(worker.log.count("worker_ready") > 1 for worker in workers), "no worker was killed"


async def _send(client: httpx.AsyncClient, conversation: str) -> list[str]:
    return [await _post(client, conversation, turn) for turn in range(TURNS)]


async def _post(client: httpx.AsyncClient, conversation: str, turn: int) -> str:
    body = {
        "conversation_id": conversation,
        "model": MODEL,
        "messages": [{"role": "user", "content": f"turn {turn}"}],
    }
    response = await client.post("/v1/messages", content=json.dumps(body), headers={"Prefer": "respond-async"})
    assert response.status_code == 202, response.text
    return str(response.json()["request_id"])


async def _ending(client: httpx.AsyncClient, id: str) -> str:
    while True:
        response = await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=60"})
        status = str(response.raise_for_status().json()["status"])
        if status not in ("pending", "in_progress"):
            return status


async def _history(client: httpx.AsyncClient, conversation: str) -> list[dict[str, str]]:
    response = await client.get(f"/v1/conversations/{conversation}/messages", params={"limit": 100})
    data: list[dict[str, str]] = response.raise_for_status().json()["data"]
    return data


def _expected() -> list[tuple[str, str]]:
    """Each answer is the hash of all that was said before it: one lost, doubled or misplaced turn changes the rest."""
    history: list[ChatMessage] = []
    for turn in range(TURNS):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [(message.role, message.content) for message in history]
