"""A model that answers with a hash of exactly what it received, fails on demand, and logs every call.

``python -m faults.oracle --port N --log FILE --faults rate_limited=0.2,error=0.1,hang=0.05,reset=0.05,cut=0.05``

An OpenAI-compatible server on 127.0.0.1: ``POST /v1/chat/completions`` (always streams), ``GET /v1/models``.
``PUT /faults`` with a spec as its body changes the rates while it runs; ``GET /stats`` counts calls by how they ended.
A spec may also contain ``garbage`` (a rate), ``latency_ms`` (before the first piece), ``gap_ms`` (before each further
one), ``slow_ms`` (latency of a question that asks to be slow; 60 s), ``drip_ms`` (its answer comes character by
character, with this pause; the rest comes at the next change), ``retry_after`` (seconds in a 429; 1).
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from aiohttp import web

from faults.evidence import Call
from faults.question import FAIL, SLOW, TOOL, TOOL_NAME, Question, Said, arguments, call_id, history_hash, read, said

HOST = "127.0.0.1"
PIECES = 8
KINDS = ("rate_limited", "error", "hang", "reset", "cut", "garbage")
_NOBODYS = Question(UUID(int=0), 0, "")
_ERROR = {"error": {"message": "as asked", "type": "as_asked"}}
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Spec:
    """Rates of faults (shares of all calls), and times."""

    rate_limited: float = 0.0
    error: float = 0.0
    hang: float = 0.0
    reset: float = 0.0
    cut: float = 0.0
    garbage: float = 0.0
    latency_ms: float = 0.0
    gap_ms: float = 0.0
    slow_ms: float = 60_000.0
    drip_ms: float = 0.0
    retry_after: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "Spec":
        """The spec in ``name=number,…``. Raises ``ValueError``."""
        pairs = [pair.partition("=")[::2] for pair in text.split(",") if pair]
        known = {field.name for field in fields(cls)}
        if strange := {name for name, _ in pairs} - known:
            raise ValueError(f"unknown: {', '.join(sorted(strange))}")
        return cls(**{name: float(number) for name, number in pairs})

    def choose(self, draw: float) -> str:
        """The fault for a number between 0 and 1; empty for none."""
        for kind in KINDS:
            draw -= getattr(self, kind)
            if draw < 0:
                return kind
        return ""


class Oracle:
    """The server's logic. ``log`` gets one JSON line (``faults.evidence.Call``) when a call is over."""

    def __init__(self, spec: Spec, log: IO[str], seed: int = 0) -> None:
        self._spec = spec
        self._log = log
        self._random = random.Random(seed)
        self._ended: Counter[str] = Counter()
        self._changed = asyncio.Event()

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.post("/v1/chat/completions", self.complete),
                web.get("/v1/models", self.models),
                web.put("/faults", self.change),
                web.get("/stats", self.stats),
            ]
        )
        return app

    async def models(self, _request: web.Request) -> web.Response:
        """One model; its name does not matter."""
        return web.json_response({"object": "list", "data": [{"id": "oracle", "object": "model"}]})

    async def change(self, request: web.Request) -> web.Response:
        """Change rates and times from now on."""
        try:
            self._spec = Spec.parse(await request.text())
        except ValueError as error:
            return web.Response(status=422, text=str(error))
        self._changed.set()
        self._changed = asyncio.Event()
        return web.json_response(asdict(self._spec))

    async def stats(self, _request: web.Request) -> web.Response:
        """Number of calls so far, by how they ended and by fault."""
        return web.json_response(self._ended)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """Answer one call, or fail it; it is logged either way, also if the caller leaves."""
        asked = await request.json()
        call = _begun([said(each) for each in asked["messages"]])
        calls_a_tool = call.note == TOOL and asked["messages"][-1]["role"] == "user"
        fault = "error" if call.note == FAIL else self._spec.choose(self._random.random())
        over = _Over()
        try:
            return await self._answer(request, replace(call, fault=fault), over, calls_a_tool=calls_a_tool)
        finally:
            self._note(replace(call, fault=fault, ended=over.how, end=over.at or time.time()))

    async def _answer(
        self, request: web.Request, call: Call, over: "_Over", *, calls_a_tool: bool
    ) -> web.StreamResponse:
        spec = self._spec
        await asyncio.sleep((spec.slow_ms if call.note == SLOW else spec.latency_ms) / 1000)
        if call.fault in ("rate_limited", "error"):
            over.now("error")
            return _refusal(spec) if call.fault == "rate_limited" else _failure()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        drips = call.note == SLOW and spec.drip_ms > 0
        answer = arguments(call.hash) if calls_a_tool else call.hash
        pieces = list(answer) if drips else _pieces(answer)
        if calls_a_tool:
            await response.write(_chunk({"tool_calls": [_head(call)]}))
        changed = self._changed
        for place, piece in enumerate(pieces[: len(pieces) // 2] if call.fault else pieces):
            if place:
                await (_drip(changed, spec) if drips else asyncio.sleep(spec.gap_ms / 1000))
            await response.write(_chunk(_of_call(piece) if calls_a_tool else {"content": piece}))
        await _end(request, response, call.fault, over, "tool_calls" if calls_a_tool else "stop")
        return response

    def _note(self, call: Call) -> None:
        self._ended[call.ended] += 1
        if call.fault:
            self._ended[f"fault_{call.fault}"] += 1
        self._log.write(json.dumps(asdict(call), default=str) + "\n")
        self._log.flush()


@dataclass
class _Over:
    """How and when a call ended; until then the caller may leave."""

    how: str = "client_left"
    at: float = 0.0

    def now(self, how: str) -> None:
        self.how, self.at = how, time.time()


async def _drip(changed: asyncio.Event, spec: Spec) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(spec.drip_ms / 1000):
            await changed.wait()


async def _end(request: web.Request, response: web.StreamResponse, fault: str, over: _Over, finish: str) -> None:
    match fault:
        case "hang":
            over.how = "hang"
            await asyncio.Event().wait()
        case "reset":
            over.now("cut")
            assert request.transport
            request.transport.abort()
        case "cut":
            over.now("cut")
        case "garbage":
            over.now("error")
            await response.write(b"data: {nonsense\n\n" + _DONE)
        case _:
            # Over before its end mark goes out: anything caused by it starts later.
            over.now("whole")
            await response.write(_chunk({}, finish=finish) + _usage() + _DONE)


def _begun(messages: list[Said]) -> Call:
    questions = [question for role, text, *_ in messages if role in ("user", "tool") and (question := read(text))]
    own = questions[-1] if questions else _NOBODYS
    return Call(
        start=time.time(),
        end=0.0,
        ended="",
        conversation=own.conversation,
        ordinal=own.ordinal,
        key=own.key,
        hash=history_hash(messages),
        note=own.note,
        seen=tuple(question.key for question in questions),
    )


def _pieces(text: str) -> list[str]:
    size = len(text) // PIECES
    return [text[at : at + size] for at in range(0, len(text), size)]


def _head(call: Call) -> dict[str, Any]:
    function = {"name": TOOL_NAME, "arguments": ""}
    return {"index": 0, "id": call_id(call.key), "type": "function", "function": function}


def _of_call(piece: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _data({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _usage() -> bytes:
    return _data({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": PIECES}})


def _data(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def _refusal(spec: Spec) -> web.Response:
    return web.json_response(_ERROR, status=429, headers={"Retry-After": f"{spec.retry_after:g}"})


def _failure() -> web.Response:
    return web.json_response(_ERROR, status=500)


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(prog="python -m faults.oracle")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--faults", type=Spec.parse, default=Spec())
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    with told.log.open("a", encoding="utf-8") as log:
        app = Oracle(told.faults, log, told.seed).app()
        web.run_app(app, host=HOST, port=told.port, print=None, handler_cancellation=True, shutdown_timeout=1)


if __name__ == "__main__":
    main()
