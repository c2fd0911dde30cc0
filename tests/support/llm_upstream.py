"""A scripted OpenAI-compatible server: the model's name says how it behaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

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
    """What tests look at: where it is, what came, and how many connections it was asked over."""

    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)


Script = Callable[[web.Request, web.StreamResponse], Awaitable[None]]


def event(content: str | None = None, finish: str | None = None, **more: object) -> bytes:
    """One server-sent event of a chat completion."""
    delta = {} if content is None else {"content": content}
    chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
    return f"data: {json.dumps(chunk)}\n\n".encode()


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}\n\n'
DONE = b"data: [DONE]\n\n"


async def _whole(_request: web.Request, response: web.StreamResponse) -> None:
    for piece in PIECES:
        await response.write(event(piece))
    await response.write(event(finish="stop") + USAGE + DONE)


async def _slow(request: web.Request, response: web.StreamResponse) -> None:
    for piece in PIECES:
        await asyncio.sleep(0.3)
        await response.write(event(piece))
    await response.write(event(finish="stop") + USAGE + DONE)


async def _hang(_request: web.Request, response: web.StreamResponse) -> None:
    await response.write(event(PIECES[0]))
    await asyncio.Event().wait()


async def _half(_request: web.Request, response: web.StreamResponse) -> None:
    await response.write(event(PIECES[0]) + event(PIECES[1]))


async def _reset(request: web.Request, response: web.StreamResponse) -> None:
    await response.write(event(PIECES[0]))
    assert request.transport
    request.transport.abort()


async def _huge(_request: web.Request, response: web.StreamResponse) -> None:
    while True:
        await response.write(event("x" * 10_000))


async def _endless_line(_request: web.Request, response: web.StreamResponse) -> None:
    while True:
        await response.write(b"x" * 10_000)


async def _linger(_request: web.Request, response: web.StreamResponse) -> None:
    await _whole(_request, response)
    await asyncio.Event().wait()


def _sends(*parts: bytes) -> Script:
    async def script(_request: web.Request, response: web.StreamResponse) -> None:
        for part in parts:
            await response.write(part)

    return script


SCRIPTS: dict[str, Script] = {
    "whole": _whole,
    "slow": _slow,
    "hang": _hang,
    "half": _half,
    "reset": _reset,
    "huge": _huge,
    "endless_line": _endless_line,
    "linger": _linger,
    "garbage": _sends(event("ok"), b"data: {nonsense\n\n"),
    "html": _sends(b"<html>busy</html>\n"),
    "error_inside": _sends(
        event("ok"), b'data: {"error":{"message":"secret prompt","type":"overloaded_error"}}\n\n', DONE
    ),
    "filtered": _sends(event("ok"), event(finish="content_filter"), DONE),
    "cut_short": _sends(event("ok"), event(finish="length"), DONE),
    "no_usage": _sends(event("abcdefg"), event(finish="stop"), DONE),
    "no_done": _sends(event("ok"), event(finish="stop"), USAGE),
    "only_done": _sends(event("ok"), DONE),
    "unstorable": _sends(
        b'data: {"choices":[{"delta":{"content":"a\\u0000b\\ud800c"}}]}\n\n', event(finish="stop"), DONE
    ),
}


def _refusals(canary: str) -> dict[str, web.Response]:
    error = {"error": {"message": f"bad: {canary}", "type": "invalid_request_error"}}
    too_long = {"error": {"message": f"bad: {canary}", "code": "context_length_exceeded"}}
    return {
        "rate_limited": web.json_response(error, status=429, headers={"Retry-After": "7"}),
        "server_error": web.json_response(error, status=500),
        "too_long": web.json_response(too_long, status=400),
        "unauthorized": web.json_response(error, status=401),
        "redirect": web.Response(status=307, headers={"Location": "/elsewhere"}),
        "big_error": web.Response(status=500, body=b"x" * 1_000_000),
    }


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """The server, on a free port of 127.0.0.1."""
    seen = Upstream()

    async def complete(request: web.Request) -> web.StreamResponse:
        call = Call(await request.json(), dict(request.headers))
        seen.calls.append(call)
        seen.connections.add(request.transport)
        try:
            return await _answer(request, call)
        except (asyncio.CancelledError, ConnectionError):
            call.left.set()
            raise

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", complete)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    seen.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield seen
    finally:
        await runner.cleanup()


async def _answer(request: web.Request, call: Call) -> web.StreamResponse:
    model = str(call.body["model"])
    if model == "silent":
        await asyncio.Event().wait()
    if refusal := _refusals(json.dumps(call.body["messages"])).get(model):
        return refusal
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await SCRIPTS[model](request, response)
    await response.write_eof()
    return response
