"""A scripted model server that speaks three APIs: the model's name says how it behaves."""

import asyncio
import gzip
import json
import re
import zlib
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
    """The server as tests see it: its address, the calls that it received, and over which connections.

    ``url``: of OpenAI's API, with ``/v1``; ``root``: of the others. ``listing`` makes the response to a request for the
    list of models.
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


def _silent(*parts: bytes) -> Script:
    async def script(request: web.Request, response: web.StreamResponse) -> None:
        await _sends(*parts)(request, response)
        await asyncio.Event().wait()

    return script


def _broken(*parts: bytes) -> Script:
    async def script(request: web.Request, response: web.StreamResponse) -> None:
        await _sends(*parts)(request, response)
        assert request.transport
        request.transport.close()

    return script


async def _bomb(_request: web.Request, response: web.StreamResponse) -> None:
    """128 MiB, in a thousandth of that; of a comment, so that nothing of it need be kept."""
    pack = zlib.compressobj(wbits=zlib.MAX_WBITS + 16)
    await response.write(pack.compress(b":"))
    for _ in range(128):
        await response.write(pack.compress(b"x" * 1024 * 1024))
    await response.write(pack.flush())


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
        "halves": _sends(wire.begin + wire.piece("a\ud83d"), wire.piece("\ude00b\ud83d"), wire.end("stop")),
        "uncounted": _sends(_uncounted(wire.begin + wire.piece("abcdefg") + wire.end("stop"))),
        "separators": _sends(wire.begin + _raw(wire.piece("a\u2028b\u2029c\x85d")), wire.end("stop")),
        "bom": _sends(b"\xef\xbb\xbf" + wire.begin + wire.piece("ok"), wire.end("stop")),
        "carriage_returns": _sends(*(_bytes((wire.begin + wire.piece("ok") + wire.end("stop")), b"\r"))),
        "long_comment": _sends(wire.begin, b":" + b"x" * 2_000_000, b"\n\n", wire.piece("ok"), wire.end("stop")),
        "created": _sends(wire.begin + wire.piece("ok") + wire.end("stop")),
        "gzip": _sends(_gzip(wire.begin + wire.piece("ok")), _gzip(wire.end("stop"))),
        "deflate": _sends(zlib.compress(wire.begin + wire.piece("ok") + wire.end("stop"))),
        "gzip_broken": _sends(_gzip(wire.begin + wire.piece("ok") + wire.end("stop"))[:-20] + b"x" * 20),
        "gzip_bomb": _bomb,
        "br": _sends(wire.begin + wire.piece("ok") + wire.end("stop")),
        "whole_document": _sends(json.dumps(wire.document("ok")).encode()),
        "byte_by_byte": _sends(*(_bytes((wire.begin + wire.piece("ok") + wire.end("stop")), b"\r\n"))),
        "unfinished": _sends(wire.begin + wire.piece("ok") + wire.end("stop").rstrip()),
        "nothing": _sends(wire.begin, wire.end("stop")),
        "nothing_but_length": _sends(wire.begin, wire.end("length")),
        "tool": _sends(wire.begin + wire.tool, wire.end("stop")),
        "items": _sends(wire.items),
        "items_document": _sends(json.dumps(wire.items_document).encode()),
        "bare_error": _sends(json.dumps(wire.error(400, wire.too_long)).encode()),
    }


def _gzip(stream: bytes) -> bytes:
    return gzip.compress(stream, mtime=0)


def _uncounted(stream: bytes) -> bytes:
    """The stream of a server that counts no tokens, and tells zeros."""
    return re.sub(rb'(_tokens|TokenCount)": [0-9]+', rb'\1": 0', stream)


def _raw(event: bytes) -> bytes:
    """The event with the characters themselves in place of their escapes."""
    return (
        event.replace(b"\\u2028", b"\xe2\x80\xa8").replace(b"\\u2029", b"\xe2\x80\xa9").replace(b"\\u0085", b"\xc2\x85")
    )


def _bytes(stream: bytes, end: bytes) -> list[bytes]:
    """The stream with these line ends, byte by byte."""
    other = stream.replace(b"\r\n", b"\n").replace(b"\n", end)
    return [other[at : at + 1] for at in range(len(other))]


def _document(*choices: object, **more: object) -> bytes:
    return json.dumps({"choices": choices, **more}).encode()


def _chunk(**choice: object) -> bytes:
    return b"data: " + _document({"index": 0, **choice}) + b"\n\n"


_USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
_SAID = {"role": "assistant", "content": "ok"}
_THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
_CALL = [{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
# Answers with their text in odd places, or with none.
ODD_SCRIPTS = {
    "in_message": _sends(_chunk(message=_SAID, finish_reason="stop"), OPENAI_USAGE),
    "in_messages": _sends(_chunk(message={"content": "o"}), _chunk(message={"content": "k"}, finish_reason="stop")),
    "told_twice": _sends(
        openai_event("o"), openai_event("k"), _chunk(message=_SAID, finish_reason="stop"), OPENAI_DONE
    ),
    "in_text": _sends(_chunk(text="o"), _chunk(text="k", finish_reason="stop"), OPENAI_DONE),
    "as_document": _sends(_document({"index": 0, "message": _SAID, "finish_reason": "stop"}, usage=_USAGE)),
    "as_document_of_text": _sends(_document({"index": 0, "text": "ok"}, usage=_USAGE)),
    "as_document_after_blanks": _sends(b"\n", b" \r\n", _document({"message": _SAID})),
    "in_refusal": _sends(
        _chunk(delta={"refusal": "o"}), _chunk(delta={"refusal": "k"}, finish_reason="stop"), OPENAI_DONE
    ),
    "in_parts": _sends(
        _chunk(delta={"content": [_THOUGHT]}),
        _chunk(delta={"content": [{"type": "text", "text": "o"}]}),
        _chunk(delta={"content": "k"}, finish_reason="stop"),
        OPENAI_DONE,
    ),
    "silent_after_its_end": _silent(openai_event("ok"), openai_event(finish="stop")),
    "reset_after_its_end": _broken(openai_event("ok"), openai_event(finish="stop")),
    "only_done": _sends(openai_event("ok"), OPENAI_DONE),
    "done_unfinished": _sends(openai_event("ok"), OPENAI_DONE.rstrip()),
    "in_last_line": _sends(openai_event("ok", finish="stop").rstrip()),
    "reasoning": _sends(_chunk(delta={"reasoning_content": "hm"}), openai_event(finish="stop"), OPENAI_DONE),
    "reasoning_cut": _sends(_chunk(delta={"reasoning_content": "hm"}), openai_event(finish="length"), OPENAI_DONE),
    "tool_calls": _sends(_chunk(delta={"tool_calls": _CALL}), openai_event(finish="tool_calls"), OPENAI_DONE),
    "tool_calls_cut": _sends(_chunk(delta={"tool_calls": _CALL}), openai_event(finish="length"), OPENAI_DONE),
    "tool_calls_in_document": _sends(_document({"message": {"content": None, "tool_calls": _CALL}})),
    "elsewhere": _sends(_chunk(delta={"output": "hi"}), openai_event(finish="stop"), OPENAI_DONE),
    "elsewhere_cut": _sends(_chunk(delta={"images": [{"url": "x"}]}), openai_event(finish="length"), OPENAI_DONE),
    "done_alone": _sends(OPENAI_DONE),
    "no_choices": _sends(_document(usage=_USAGE)),
    "other_document": _sends(b'{"status": "ok"}'),
    "half_a_document": _sends(_document({"index": 0, "message": _SAID})[:-1]),
    "error_object": _sends(
        b'data: {"object":"error","message":"This model\'s maximum context length is 4096 tokens.","code":400}\n\n',
        OPENAI_DONE,
    ),
    "error_detail": _sends(b'data: {"detail":"Rate limit exceeded"}\n\n'),
    "error_message": _sends(b'data: {"type":"error","message":"The server is overloaded"}\n\n'),
    "error_named": _sends(b'event: error\ndata: {"code":"429"}\n\n'),
    "error_text": _sends(b"event: error\ndata: Model is overloaded\n\n"),
    "error_beside": _sends(b'data: {"error":{"code":502,"message":"gone"},"choices":[{"finish_reason":"error"}]}\n\n'),
    "error_document": _sends(b'{"error":{"code":"insufficient_quota","message":"secret prompt"}}'),
    "error_documents": _sends(b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]'),
    "error_at_last": _sends(openai_event("ok"), openai_event(finish="network_error"), OPENAI_DONE),
}


OPENAI_SCRIPTS = {
    **_scripts(OPENAI),
    "no_usage": _sends(openai_event("abcdefg"), openai_event(finish="stop"), OPENAI_DONE),
    "no_done": _sends(openai_event("ok"), openai_event(finish="stop"), OPENAI_USAGE),
    **ODD_SCRIPTS,
}
ANTHROPIC_SCRIPTS = _scripts(ANTHROPIC)
GEMINI_SCRIPTS = _scripts(GEMINI)


_PICKY = {
    "error": {
        "message": "Unsupported parameter: \x1b[1m" + "secret prompt " * 100,
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
}


def _refusals(wire: Wire, canary: str) -> dict[str, web.Response]:
    def answer(status: int, message: str = "bad", **headers: str) -> web.Response:
        return web.json_response(wire.error(status, f"{message}: {canary}"), status=status, headers=headers)

    too_long = json.dumps(wire.error(400, wire.too_long)).encode()
    return {
        "picky": web.json_response(_PICKY, status=400),
        "rate_limited": answer(429, **({"Retry-After": "7"} if wire.retry_header else {})),
        "server_error": answer(500),
        "overloaded": answer(529),
        "too_long": answer(400, wire.too_long),
        "no_model": answer(404, wire.no_model),
        "unauthorized": answer(401),
        "redirect": web.Response(status=307, headers={"Location": "/elsewhere"}),
        "gzip_error": web.Response(status=400, body=_gzip(too_long), headers={"content-encoding": "gzip"}),
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
    headers = {"content-type": "text/event-stream"}
    if (encoding := model.partition("_")[0]) in ("gzip", "deflate", "br"):
        headers["content-encoding"] = encoding
    response = web.StreamResponse(status=201 if model == "created" else 200, headers=headers)
    await response.prepare(request)
    await scripts[model](request, response)
    await response.write_eof()
    return response
