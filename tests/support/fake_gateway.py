"""A gateway that follows a script: each connection to a stream is answered by the next part of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.ports import free_port

REQUEST_ID = "7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"
CONVERSATION_ID = "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90"
REQUEST = {"id": REQUEST_ID, "status": "pending"}
CONVERSATION = {"id": CONVERSATION_ID, "created_at": "2026-01-31T12:00:00Z", "metadata": {}, "open_requests": []}
PENDING = f'event: pending\ndata: {{"request_id": "{REQUEST_ID}", "conversation_id": "{CONVERSATION_ID}"}}\n\n'
COMPLETED = 'event: completed\ndata: {"reply": null, "usage": null}\n\n'

UNTIL_CANCELLED = ": the rest comes after a cancel\n\n"


def delta(text: str, end: int, attempt: int = 1) -> str:
    """A piece of text that ends at this code point."""
    return f'id: {attempt}.{end}\nevent: delta\ndata: {{"text": "{text}"}}\n\n'


@dataclass(frozen=True)
class Break:
    """What is sent before the connection breaks, without an end of the body."""

    text: str


@dataclass(frozen=True)
class Refusal:
    """An error answer."""

    status: int
    code: str
    detail: str = ""


Step = str | Break | Refusal


@dataclass
class FakeGateway:
    """Its address, and what it was sent. A stubborn one takes a cancel and does nothing."""

    url: str
    script: list[Step]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    last_ids: list[str | None] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    stubborn: bool = False
    # What was uploaded, by its id; None: it keeps no files.
    files: dict[str, bytes] | None = None

    async def post(self, request: web.Request) -> web.StreamResponse:
        """A message."""
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Idempotency-Key"))
        if request.headers.get("Prefer") == "respond-async":
            self._note(request)
            return web.json_response({**REQUEST, "request_id": REQUEST_ID}, status=202)
        return await self._stream(request)

    async def upload(self, request: web.Request) -> web.Response:
        """A file."""
        self._note(request)
        file = (await request.post()).get("file")
        if self.files is None or not isinstance(file, web.FileField):
            code = "not_supported" if self.files is None else "invalid_request"
            return web.json_response({"code": code, "detail": "no"}, status=422)
        id = f"file-{len(self.files):032x}"
        self.files[id] = file.file.read()
        about = {"id": id, "bytes": len(self.files[id]), "filename": file.filename, "purpose": "user_data"}
        return web.json_response({**about, "created_at": 1769860800, "expires_at": 1772452800})

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """The events of the request."""
        self.last_ids.append(request.headers.get("Last-Event-ID"))
        return await self._stream(request)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel the request; a script that waits goes on."""
        self._note(request)
        if not self.stubborn:
            self.cancelled.set()
        return web.json_response(REQUEST, status=202)

    async def conversation(self, request: web.Request) -> web.Response:
        """The one conversation that there is."""
        self._note(request)
        known = request.match_info["id"] == CONVERSATION_ID
        return web.json_response(
            CONVERSATION if known else {"code": "not_found", "detail": "nothing here"}, status=200 if known else 404
        )

    def _note(self, request: web.Request) -> None:
        self.calls.append((request.method, request.path))
        self.authorizations.append(request.headers.get("Authorization"))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        step = self.script.pop(0)
        if isinstance(step, Refusal):
            return web.json_response({"code": step.code, "detail": step.detail}, status=step.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        text = step.text if isinstance(step, Break) else step
        at_once, _, after = text.partition(UNTIL_CANCELLED)
        await response.write(at_once.encode())
        if after:
            await self.cancelled.wait()
            await response.write(after.encode())
        if isinstance(step, Break):
            assert request.transport
            request.transport.abort()
        return response


@asynccontextmanager
async def fake_gateway(script: Sequence[Step], port: int | None = None) -> AsyncIterator[FakeGateway]:
    """A running one."""
    port = port or free_port()
    gateway, app = (
        FakeGateway(f"http://127.0.0.1:{port}", list(script)),
        web.Application(client_max_size=64 * 1024 * 1024),
    )
    app.router.add_post("/v1/files", gateway.upload)
    app.router.add_post("/v1/messages", gateway.post)
    app.router.add_get("/v1/requests/{id}/events", gateway.follow)
    app.router.add_post("/v1/requests/{id}/cancel", gateway.cancel)
    app.router.add_get("/v1/conversations/{id}", gateway.conversation)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield gateway
    finally:
        await runner.cleanup()
