"""A gateway that answers the calls of a command as a test says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from schemas.errors import ERRORS, OrchestraError
from tests.support.command_line import Done, orchestra


@dataclass
class ScriptedGateway:
    """What it was asked, with what it was sent, and what it answers: by method and path below ``root``.

    A list gives its items in turn; a function gets what was sent. Then a text is a problem of that code, a number one
    of that status, an error a problem as a gateway words it, None an empty answer, bytes are a file, a queue has the
    pieces of an event stream and None at its end, and all else is JSON. ``words``: the first ones of the command.
    """

    url: str
    words: tuple[str, ...] = ()
    root: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def of(self, *words: str, root: str) -> "ScriptedGateway":
        """Itself, for one group of commands."""
        self.words, self.root = words, root
        return self

    async def orchestra(self, *words: str, said: bytes = b"", folder: Any = None, **env: str) -> Done:
        """Run the command against this gateway."""
        env = {"ORCHESTRA_GATEWAY": self.url, "ORCHESTRA_API_KEY": "orc_a_b", "TZ": "UTC", **env}
        return await orchestra(*self.words, *words, said=said, folder=folder, **env)

    async def answer(self, call: web.Request) -> web.StreamResponse:
        """Answer one call."""
        name = f"{call.method} {call.path.removeprefix(self.root)}"
        self.keys.add(call.headers.get("authorization", ""))
        sent = await _sent(call)
        self.asked.append((name, sent))
        found = self.answers.get(name, "not_found")
        found = found.pop(0) if isinstance(found, list) else found
        found = found(sent) if callable(found) else found
        match found:
            case None:
                return web.Response(status=204)
            case int():
                return web.json_response({"code": "because", "detail": "of this"}, status=found)
            case str():
                return web.json_response({"code": found, "detail": "because"}, status=404)
            case OrchestraError():
                status = ERRORS[found.code].status
                return web.json_response({"code": found.code, "detail": found.detail}, status=status)
            case bytes():
                return web.Response(body=found)
            case asyncio.Queue():
                return await _stream(call, found)
        return web.json_response(found)


async def _stream(call: web.Request, pieces: "asyncio.Queue[str | None]") -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(call)
    while (piece := await pieces.get()) is not None:
        await response.write(piece.encode())
    return response


async def _sent(call: web.Request) -> Any:
    if call.content_type == "multipart/form-data":
        form = await call.post()
        return {key: each.file.read() if isinstance(each, web.FileField) else each for key, each in form.items()}
    return await call.json() if call.can_read_body else dict(call.query)


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """A running one."""
    app = web.Application(client_max_size=2**21)
    runner = web.AppRunner(app, handler_cancellation=True)
    gateway = ScriptedGateway("")
    app.router.add_route("*", "/{tail:.*}", gateway.answer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield gateway
    finally:
        await runner.cleanup()
