"""Conversations over HTTP whose every answer depends on all that was said before it."""

import asyncio
from uuid import uuid4

import httpx

from llm_service.providers.simulated import conversation_hash
from orchestra.client import AsyncClient
from schemas.api.requests import RequestResource
from schemas.generation import ChatMessage


async def send_turns(client: httpx.AsyncClient, conversations: int, turns: int, model: str) -> dict[str, list[str]]:
    """Send this many turns in each of this many conversations, without waiting for answers; request ids of each."""
    ids = [str(uuid4()) for _ in range(conversations)]
    accepted = await asyncio.gather(*(_send(_on(client), conversation, turns, model) for conversation in ids))
    return dict(zip(ids, accepted, strict=True))


async def endings(client: httpx.AsyncClient, accepted: dict[str, list[str]]) -> list[RequestResource]:
    """Every request that was accepted, as it is once it has ended."""
    return await asyncio.gather(*(_on(client).requests.wait(id) for ids in accepted.values() for id in ids))


async def histories(client: httpx.AsyncClient, accepted: dict[str, list[str]]) -> list[list[tuple[str, str]]]:
    """What each conversation has stored: role and content."""
    return await asyncio.gather(*(_history(_on(client), conversation) for conversation in accepted))


def expected_history(turns: int) -> list[tuple[str, str]]:
    """Each answer is the hash of all that was said before it: one lost, doubled or misplaced turn changes the rest."""
    history: list[ChatMessage] = []
    for turn in range(turns):
        history.append(ChatMessage(role="user", content=f"turn {turn}"))
        history.append(ChatMessage(role="assistant", content=conversation_hash(history)))
    return [(message.role, message.content) for message in history]


def _on(client: httpx.AsyncClient) -> AsyncClient:
    """Our own client over the connections, and with the credentials, of this one."""
    return AsyncClient(str(client.base_url), "", http_client=client)


async def _send(client: AsyncClient, conversation: str, turns: int, model: str) -> list[str]:
    sent = [
        await client.messages.submit(f"turn {turn}", conversation_id=conversation, model=model) for turn in range(turns)
    ]
    return [str(request.id) for request in sent]


async def _history(client: AsyncClient, conversation: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) async for message in client.conversations.messages(conversation)]
