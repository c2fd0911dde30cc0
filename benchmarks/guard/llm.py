"""The LLM service's hot paths, called as uvicorn calls it, with an OpenAI-compatible server behind it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from starlette.types import Message

from benchmarks.guard.ends import Settle
from benchmarks.guard.gateway import QUESTION
from benchmarks.guard.model_server import ModelServer, model_server
from benchmarks.guard.path import Run, Tally, one_by_one
from llm_service.app import create_app
from llm_service.settings import LlmServiceSettings

_BODY = orjson.dumps(
    {"model": "some", "messages": [{"role": "user", "content": QUESTION}], "stream": True, "max_tokens": 1024}
)
_SCOPE = {
    "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
    "scheme": "http", "path": "/generate", "raw_path": b"/generate", "query_string": b"", "root_path": "",
    "headers": [(b"host", b"127.0.0.1:8082"), (b"content-type", b"application/json"), (b"accept-encoding", b"identity"),
                (b"content-length", b"%d" % len(_BODY)), (b"x-request-id", b"0b7b3e1c-5a0f-4d55-9c2d-6f0c5a1d2e3f"),
                (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
    "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8082), "state": {},
}  # fmt: skip


class _Call:
    """One call; each line that is sent lets the model send the next piece."""

    def __init__(self, server: ModelServer) -> None:
        self.lines = 0
        self._server = server
        self._body = [_BODY]

    async def receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        leaving: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await leaving  # The caller never leaves.

    async def send(self, message: Message) -> None:
        if message.get("more_body"):
            self.lines += 1
            await Settle()
            self._server.go_on()


@asynccontextmanager
async def _running() -> AsyncIterator[Any]:
    with model_server() as server:
        settings = {"llm_provider": "openai", "openai_base_url": f"{server.url}/v1", "ollama_discovery": False}
        app = create_app(LlmServiceSettings.model_validate(settings))
        async with app.router.lifespan_context(app):

            async def ask(pieces: int) -> None:
                server.answer_with(pieces)
                call = _Call(server)
                await app(dict(_SCOPE), call.receive, call.send)
                assert call.lines == pieces + 1, f"{call.lines} lines"

            yield ask


@asynccontextmanager
async def request(_tally: Tally) -> AsyncIterator[Run]:
    """A call by the worker, from its body to the end mark, with one piece of text."""
    async with _running() as ask:
        yield one_by_one(partial(ask, 1))


@asynccontextmanager
async def delta(_tally: Tally) -> AsyncIterator[Run]:
    """A piece of text from the model, from its socket to the line for the worker."""
    async with _running() as ask:
        yield ask
