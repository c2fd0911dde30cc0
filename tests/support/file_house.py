"""A gateway that keeps files, a worker, and a scripted LLM service that shows what arrives."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import httpx
from aiohttp import web
from aiokafka import AIOKafkaProducer

from orchestra.kafka.clients import make_producer
from orchestra.store.database import Database
from schemas.topics import REQUESTS
from tests.support import llm_script as scripts
from tests.support.gateway import own_env, running_gateway
from tests.support.llm_script import END, LlmScript, line, llm_script, sends
from tests.support.stack import Stack
from tests.support.store import connect
from tests.support.waiting import eventually
from workers import app
from workers.metrics import Metrics
from workers.settings import WorkerSettings

MODELS = {"data": [{"name": "looks", "provider": "p", "context_tokens": 100_000, "max_output_tokens": 1000}]}
TEXT = {"type": "text", "text": "What is this?"}


@dataclass
class House:
    """A gateway that keeps files in a folder, a worker, and the LLM service that the worker calls."""

    client: httpx.AsyncClient
    database: Database
    llm: LlmScript
    producer: AIOKafkaProducer
    folder: Path

    async def upload(self, data: bytes, name: str, user: str | None = None) -> str:
        """The id of a new file."""
        form = {"data": {"purpose": "user_data"}, "files": {"file": (name, data)}}
        made = await self.client.post("/v1/files", headers=_as(user), **form)
        return str(made.raise_for_status().json()["id"])

    async def post(self, *content: Any, user: str | None = None, wait: bool = True, **more: Any) -> httpx.Response:
        """The answer to a message with this content."""
        body = {"model": "looks", "messages": [{"role": "user", "content": list(content)}], **more}
        headers = {**_as(user), **({} if wait else {"Prefer": "respond-async"})}
        return await self.client.post("/v1/messages", json=body, headers=headers)

    async def produce(self, *content: Any, **more: Any) -> UUID:
        """Write an unsigned record; its id."""
        id, value = uuid4(), {"model": "looks", "messages": [{"role": "user", "content": list(content)}], **more}
        headers = [("ce_id", str(id).encode())]
        await self.producer.send_and_wait(REQUESTS.name, json.dumps(value).encode(), key=id.bytes, headers=headers)
        return id

    async def ended(self, id: UUID | str) -> dict[str, Any]:
        """A request, once it has ended."""

        async def over() -> dict[str, Any] | None:
            found = (await self.client.get(f"/v1/requests/{id}")).json()
            return found if found.get("status") in ("completed", "failed") else None

        found = await eventually(over, seconds=60)
        assert found
        return found

    async def waits_for(self, id: UUID | str) -> dict[str, Any]:
        """The error for which a request waits, once an attempt has failed."""

        async def told() -> Any:
            found = (await self.client.get(f"/v1/requests/{id}")).json()
            return found["status"] == "pending" and found.get("last_error")

        error: dict[str, Any] = await eventually(told, seconds=30)
        return error

    def seen(self) -> list[Any]:
        """The contents of the messages of the last call."""
        return [each["content"] for each in self.llm.calls[-1].body["messages"]]


def _as(user: str | None) -> dict[str, str]:
    return {"X-User-ID": user} if user else {}


async def looks(request: web.Request, response: web.StreamResponse) -> None:
    """Say how many parts came last."""
    content = (await request.json())["messages"][-1]["content"]
    await sends(line(delta=f"{len(content)} parts"), END)(request, response)


@asynccontextmanager
async def working(env: dict[str, str], llm: LlmScript) -> AsyncIterator[None]:
    """A worker in this process."""
    named = {name.lower(): value for name, value in env.items()}
    settings = WorkerSettings.model_validate({**named, "llm_service_url": llm.url, "drain_seconds": 0})
    async with app.worker(settings, Metrics()) as made:
        run = asyncio.create_task(made.run())
        try:
            yield
        finally:
            made.stop()
            await run


@asynccontextmanager
async def open_house(stack: Stack, folder: Path, **more: str) -> AsyncIterator[House]:
    """A house with a database of its own, and its files in this folder. ``more``: environment of all its services."""
    env = {**await own_env(stack), "FILES_URL": folder.as_uri(), **more}
    with patch.object(scripts, "MODELS", MODELS):
        async with llm_script(looks=looks) as llm, running_gateway(env) as gateway:
            producer = make_producer(stack.kafka_settings, "test")
            await producer.start()
            database = connect(env["DATABASE_URL"])
            try:
                async with working(env, llm):
                    yield House(gateway.client, database, llm, producer, folder)
            finally:
                await database.close()
                await producer.stop()
