"""A scripted LLM service on 127.0.0.1, as a worker meets it: the model's name says how it behaves."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]
DONE = {"done": True, "usage": {"input_tokens": 3, "output_tokens": 2}, "finish_reason": "stop"}
MODELS = {"data": [{"name": "m", "provider": "p", "context_tokens": 100, "max_output_tokens": 10}]}


def line(**fields: Any) -> bytes:
    """One line of the stream."""
    return json.dumps(fields).encode() + b"\n"


END = json.dumps(DONE).encode() + b"\n"


@dataclass
class Call:
    """One call as the service saw it. ``left``: the caller went away before the end."""

    body: dict[str, Any]
    headers: dict[str, str]
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def said(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])


@dataclass
class LlmScript:
    """What tests look at and turn: where it is, what came, over how many connections, and what it does."""

    scripts: dict[str, Script]
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    models: web.Response | None = None
    open_now: int = 0
    most_open: int = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one ``POST /generate``."""
        call = Call(await request.json(), dict(request.headers))
        self.calls.append(call)
        self.connections.add(request.transport)
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            return await self._answer(request, call)
        except (asyncio.CancelledError, ConnectionError):
            call.left.set()
            raise
        finally:
            self.open_now -= 1

    async def _answer(self, request: web.Request, call: Call) -> web.StreamResponse:
        script = self.scripts[call.body["model"].partition(":")[0]]
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await script(request, response)
        except Refused as refused:
            return refused.response
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

    async def list_models(self, _request: web.Request) -> web.Response:
        """Answer one ``GET /models``."""
        return self.models or web.json_response(MODELS)


class Refused(Exception):  # noqa: N818 - a way out, no fault
    """The script answers with this instead of a stream."""

    def __init__(self, status: int, body: bytes = b"", **headers: str) -> None:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = web.Response(status=status, body=body, headers=names)


def sends(*parts: bytes) -> Script:
    """A stream of these bytes."""

    async def script(request: web.Request, response: web.StreamResponse) -> None:
        await response.prepare(request)
        for part in parts:
            await response.write(part)

    return script


def refuses(status: int, body: bytes = b"", **headers: str) -> Script:
    """A refusal before the first byte."""

    async def script(_request: web.Request, _response: web.StreamResponse) -> None:
        raise Refused(status, body, **headers)

    return script


def problem(code: str, detail: str = "why", **more: Any) -> bytes:
    """A problem document."""
    return json.dumps({"code": code, "detail": detail, **more}).encode()


async def echo(request: web.Request, response: web.StreamResponse) -> None:
    """Say what was said last."""
    body = await request.json()
    await sends(line(delta="echo: "), line(delta=body["messages"][-1]["content"]), END)(request, response)


def fails_first(times: int, failure: Script) -> Script:
    """A service that fails ``times`` times for each question, then echoes."""
    seen: Counter[str] = Counter()

    async def script(request: web.Request, response: web.StreamResponse) -> None:
        said = (await request.json())["messages"][-1]["content"]
        seen[said] += 1
        await (failure if seen[said] <= times else sends(line(delta=f"echo: {said}"), END))(request, response)

    return script


async def hang(request: web.Request, response: web.StreamResponse) -> None:
    """A first piece, then nothing more."""
    await sends(line(delta="first "))(request, response)
    await asyncio.Event().wait()


async def mute(_request: web.Request, _response: web.StreamResponse) -> None:
    """Not even a status."""
    await asyncio.Event().wait()


async def reset(request: web.Request, response: web.StreamResponse) -> None:
    """A first piece, then the connection breaks."""
    await sends(line(delta="first "))(request, response)
    assert request.transport
    request.transport.abort()


async def endless_line(request: web.Request, response: web.StreamResponse) -> None:
    """A line that has no end."""
    await response.prepare(request)
    while True:
        await response.write(b"x" * 100_000)


async def compressed(request: web.Request, response: web.StreamResponse) -> None:
    """A compressed answer, as a proxy sends it to a client that accepts compression."""
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        response.headers["Content-Encoding"] = "gzip"
        await sends(gzip.compress(line(delta="text") + END))(request, response)
    else:
        await sends(line(delta="text"), END)(request, response)


class Held:
    """Echoes, ``seconds`` late, and holds back whatever is asked while ``open`` is not set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seconds = 0.0

    async def __call__(self, request: web.Request, response: web.StreamResponse) -> None:
        """Answer one call."""
        said = (await request.json())["messages"][-1]["content"]
        await sends(line(delta="echo: "))(request, response)
        await self.open.wait()
        await asyncio.sleep(self.seconds)
        await response.write(line(delta=said) + END)


@asynccontextmanager
async def llm_script(**scripts: Script) -> AsyncIterator[LlmScript]:
    """The service, on a free port of 127.0.0.1; ``echo`` and ``hang`` are always there."""
    service = LlmScript({"echo": echo, "hang": hang, "mute": mute, **scripts})
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/generate", service.serve)
    app.router.add_get("/models", service.list_models)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
