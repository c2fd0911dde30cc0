"""A scripted model server that speaks three APIs: the model's name says how it behaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from tests.support.llm_wires import ANTHROPIC, GEMINI, OPENAI, OPENAI_DONE, OPENAI_USAGE, Wire, openai_event

PIECES = ["The ", "quick\n", "brown ", "fox \N{FOX FACE}"]
TEXT = "".join(PIECES)


@dataclass
class Call:
    """One call as the server saw it."""

    body: dict[str, object]
    headers: dict[str, str]
    left: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Upstream:
    """What tests look at: where it is, what came, and how many connections it was asked over.

    ``url`` is OpenAI's, with ``/v1``; ``root`` is that of the others. ``listing`` answers who asks for the models.
    """

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    listing: Callable[[], Awaitable[web.Response]] | None = None

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")


Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


async def _slow(wire: Wire, _request: web.Request, response: web.StreamResponse) -> None:
    await response.write(wire.begin)
    for piece in PIECES:
        await asyncio.sleep(0.3)
        await response.write(wire.piece(piece))
    await response.write(wire.end("stop"))


async def _hang(wire: Wire, _request: web.Request, response: web.StreamResponse) -> None:
    await response.write(wire.begin + wire.piece(PIECES[0]))
    await asyncio.Event().wait()


async def _reset(wire: Wire, request: web.Request, response: web.StreamResponse) -> None:
    await response.write(wire.begin + wire.piece(PIECES[0]))
    assert request.transport
    request.transport.abort()


async def _huge(wire: Wire, _request: web.Request, response: web.StreamResponse) -> None:
    await response.write(wire.begin)
    while True:
        await response.write(wire.piece("x" * 10_000))


async def _endless_line(_request: web.Request, response: web.StreamResponse) -> None:
    while True:
        await response.write(b"x" * 10_000)


async def _endless_event(_request: web.Request, response: web.StreamResponse) -> None:
    while True:
        await response.write(b"data: x\n" * 1000)


async def _linger(wire: Wire, _request: web.Request, response: web.StreamResponse) -> None:
    await response.write(wire.begin + b"".join(map(wire.piece, PIECES)) + wire.end("stop"))
    await asyncio.Event().wait()


def _sends(*parts: bytes) -> Script:
    async def script(_request: web.Request, response: web.StreamResponse) -> None:
        for part in parts:
            await response.write(part)

    return script


def _scripts(wire: Wire) -> dict[str, Script]:
    pieces = [wire.begin, *map(wire.piece, PIECES)]
    return {
        "whole": _sends(*pieces, wire.end("stop")),
        "slow": partial(_slow, wire),
        "hang": partial(_hang, wire),
        "half": _sends(*pieces[:3]),
        "reset": partial(_reset, wire),
        "huge": partial(_huge, wire),
        "endless_line": _endless_line,
        "endless_event": _endless_event,
        "linger": partial(_linger, wire),
        "garbage": _sends(wire.begin + wire.piece("ok"), b"event: content_block_delta\ndata: {nonsense\n\n"),
        "html": _sends(b"<html>busy</html>\n"),
        "error_inside": _sends(wire.begin + wire.piece("ok"), wire.error_inside),
        "filtered": _sends(wire.begin + wire.piece("ok"), wire.end("filtered")),
        "cut_short": _sends(wire.begin + wire.piece("ok"), wire.end("length")),
        "unstorable": _sends(wire.begin + wire.piece("a\x00b\ud800c"), wire.end("stop")),
    }


OPENAI_SCRIPTS = {
    **_scripts(OPENAI),
    "no_usage": _sends(openai_event("abcdefg"), openai_event(finish="stop"), OPENAI_DONE),
    "no_done": _sends(openai_event("ok"), openai_event(finish="stop"), OPENAI_USAGE),
    "only_done": _sends(openai_event("ok"), OPENAI_DONE),
}
ANTHROPIC_SCRIPTS = _scripts(ANTHROPIC)
GEMINI_SCRIPTS = _scripts(GEMINI)


def _refusals(wire: Wire, canary: str) -> dict[str, web.Response]:
    def answer(status: int, message: str = "bad", **headers: str) -> web.Response:
        return web.json_response(wire.error(status, f"{message}: {canary}"), status=status, headers=headers)

    return {
        "rate_limited": answer(429, **({"Retry-After": "7"} if wire.retry_header else {})),
        "server_error": answer(500),
        "overloaded": answer(529),
        "too_long": answer(400, wire.too_long),
        "no_model": answer(404, wire.no_model),
        "unauthorized": answer(401),
        "redirect": web.Response(status=307, headers={"Location": "/elsewhere"}),
        "big_error": web.Response(status=500, body=b"x" * 1_000_000),
    }


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """The server, on a free port of 127.0.0.1."""
    seen = Upstream()

    def speaking(wire: Wire, scripts: dict[str, Script]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def complete(request: web.Request) -> web.StreamResponse:
            call = Call(await request.json(), dict(request.headers))
            seen.calls.append(call)
            seen.connections.add(request.transport)
            model = request.match_info.get("model") or str(call.body["model"])
            try:
                return await _answer(request, call, model, wire, scripts)
            except (asyncio.CancelledError, ConnectionError):
                call.left.set()
                raise

        return complete

    async def models(_request: web.Request) -> web.Response:
        if seen.listing:
            return await seen.listing()
        ids = [{"id": "whole", "type": "model", "display_name": "Whole", "created_at": "2026-01-01T00:00:00Z"}]
        return web.json_response({"data": ids, "has_more": False, "models": [{"name": "models/whole"}]})

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", speaking(OPENAI, OPENAI_SCRIPTS))
    app.router.add_post("/v1/messages", speaking(ANTHROPIC, ANTHROPIC_SCRIPTS))
    app.router.add_post("/v1beta/models/{model}:streamGenerateContent", speaking(GEMINI, GEMINI_SCRIPTS))
    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1beta/models", models)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    seen.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield seen
    finally:
        await runner.cleanup()


async def _answer(
    request: web.Request, call: Call, model: str, wire: Wire, scripts: dict[str, Script]
) -> web.StreamResponse:
    if model == "silent":
        await asyncio.Event().wait()
    if refusal := _refusals(wire, json.dumps(call.body)).get(model):
        return refusal
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await scripts[model](request, response)
    await response.write_eof()
    return response
