"""An OpenAI-compatible model that costs next to nothing: silent for a while, then tokens at a fixed interval.

``python -m benchmarks.fake_model PORT``: ``POST /v1/chat/completions`` (JSON, or a stream), ``GET /v1/models``;
``PUT /settings`` with the fields of ``Settings`` changes it while it runs; ``GET /stats`` returns ``Stats`` since then.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import uvicorn

from benchmarks.question import MODEL, PIECE, SLOW, answer, pieces
from orchestra.process import allow_many_connections

HOST = "127.0.0.1"
_BACKLOG = 4096
_JSON, _SSE = [(b"content-type", b"application/json")], [(b"content-type", b"text/event-stream")]
_DONE = b"data: [DONE]\n\n"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True)
class Settings:
    """Times in milliseconds. ``wrong_every``: every n-th answer is one to another caller's question; 0: none.

    ``slow_gap_ms``: between the tokens of a streamed answer to a slow question. It has no end: the caller leaves.
    """

    llm_ms: float = 0.0
    tokens: int = 1
    gap_ms: float = 0.0
    wrong_every: int = 0
    slow_gap_ms: float = 20_000.0


@dataclass
class Stats:
    """Calls since the settings last changed, and the messages in their prompts."""

    calls: int = 0
    messages: int = 0
    open: int = 0
    most_open: int = 0


class FakeModel:
    """The application, as bare ASGI: a framework would cost more than everything else here."""

    def __init__(self) -> None:
        self._settings = Settings()
        self._stats = Stats()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP call."""
        match scope["method"], scope["path"]:
            case "POST", "/v1/chat/completions":
                await self._complete(orjson.loads(await _body(receive)), receive, send)
            case "PUT", "/settings":
                self._settings = Settings(**orjson.loads(await _body(receive)))
                self._stats = Stats(open=self._stats.open)
                await _json(send, asdict(self._settings))
            case "GET", "/stats":
                await _json(send, asdict(self._stats))
            case "GET", "/v1/models":
                await _json(send, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            case _:
                await _json(send, {"error": {"message": "not here"}}, 404)

    async def _complete(self, body: dict[str, Any], receive: Receive, send: Send) -> None:
        settings, stats = self._settings, self._stats
        stats.calls += 1
        stats.messages += len(body["messages"])
        stats.open += 1
        stats.most_open = max(stats.most_open, stats.open)
        text: str = body["messages"][-1]["content"]
        if settings.wrong_every and stats.calls % settings.wrong_every == 0:
            text = f"somebody-elses-{text}"
        try:
            if settings.llm_ms:
                await asyncio.sleep(settings.llm_ms / 1000)
            if body.get("stream") and text.startswith(SLOW):
                await _drip(receive, send, settings.slow_gap_ms / 1000)
            elif body.get("stream"):
                await _stream(send, pieces(text, settings.tokens), settings.gap_ms / 1000)
            else:
                await _json(send, _completion(answer(text, settings.tokens), settings.tokens))
        finally:
            self._stats.open -= 1


async def _stream(send: Send, texts: list[str], gap: float) -> None:
    """Send each piece at a fixed time after the first: a late one does not delay the others."""
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})
    loop = asyncio.get_running_loop()
    began = loop.time()
    for place, text in enumerate(texts[:-1]):
        await send({"type": "http.response.body", "body": _chunk(text), "more_body": True})
        await asyncio.sleep(began + (place + 1) * gap - loop.time())
    last = _chunk(texts[-1]) + _ending(len(texts)) + _DONE
    await send({"type": "http.response.body", "body": last})


async def _drip(receive: Receive, send: Send, gap: float) -> None:
    """Send one piece after the other until the caller leaves."""
    await send({"type": "http.response.start", "status": 200, "headers": _SSE})
    left = asyncio.ensure_future(receive())
    while not left.done():
        await send({"type": "http.response.body", "body": _chunk(PIECE), "more_body": True})
        await asyncio.wait([left], timeout=gap)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _json(send: Send, value: dict[str, Any], status: int = 200) -> None:
    body = orjson.dumps(value)
    headers = [*_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _completion(text: str, tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "model": MODEL, "usage": _usage(tokens),
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip


def _chunk(text: str) -> bytes:
    return _data({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def _ending(tokens: int) -> bytes:
    finish = _data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return finish + _data({"choices": [], "usage": _usage(tokens)})


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": tokens, "total_tokens": 20 + tokens}


def _data(fields: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"object": "chat.completion.chunk", "model": MODEL, **fields})


def main() -> None:
    """Serve until the process ends."""
    allow_many_connections()
    uvicorn.run(
        FakeModel(), host=HOST, port=int(sys.argv[1]), loop="uvloop", http="httptools", ws="none", lifespan="off",
        log_config=None, access_log=False, server_header=False, date_header=False, backlog=_BACKLOG,
        timeout_graceful_shutdown=1,
    )  # fmt: skip


if __name__ == "__main__":
    main()
