"""A generation → one JSON document, or a stream of NDJSON lines. Either ends at once when the client disconnects."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from llm_service.generation import FallbackRestart, Generation
from llm_service.providers.base import EndOfText, Garbage, Piece, State
from orchestra import transcript
from orchestra.http.disconnect import unless_gone
from orchestra.http.hot_routes import NOT_KEPT
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import REQUEST_ID

_LAST_WORDS_SECONDS = 5.0
_REQUEST_ID = REQUEST_ID.encode()
_JSON = [(b"content-type", b"application/json")]
_NDJSON = [(b"content-type", b"application/x-ndjson"), *NOT_KEPT, (b"x-accel-buffering", b"no")]


class GenerationAnswer(Response):
    """Runs the generation while the response is sent, so that an error before the first byte is still an HTTP status.

    ``request_id`` is in every log line of it, and in a header of the response.
    """

    def __init__(self, generation: Generation, *, stream: bool, request_id: str | None = None) -> None:
        super().__init__()
        self._generation = generation
        self._stream = stream
        self._request_id = request_id

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, unless the client disconnects first."""
        context = copy_context()
        if self._request_id:
            context.run(bind_contextvars, request_id=self._request_id)
        answer = self._send_lines(send) if self._stream else self._send_whole(send)
        # A separate task, so that pieces do not pass through every layer around them.
        answering = asyncio.create_task(answer, context=context)
        with suppress(ClientDisconnect):
            # A client that no longer reads would block this forever.
            await unless_gone(receive, answering, within=self._generation.seconds + _LAST_WORDS_SECONDS)

    async def _send_whole(self, send: Send) -> None:
        parts: list[str | transcript.Piece] = []
        ending: EndOfText | None = None
        async with self._generation.open() as pieces:
            async for piece in pieces:
                if isinstance(piece, str | transcript.Piece):
                    parts.append(piece)
                elif isinstance(piece, FallbackRestart):
                    parts.clear()
                elif isinstance(piece, EndOfText):
                    ending = piece
            if ending is None:
                raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
        texts = [part for part in parts if isinstance(part, str)]
        answer = {"content": "".join(texts), **_end_of(ending)}
        if len(texts) < len(parts):
            answer["output"] = transcript.items_of(map(transcript.as_piece, parts))
        body = orjson.dumps(answer)
        await self._start(send, [*_JSON, (b"content-length", b"%d" % len(body))])
        await send({"type": "http.response.body", "body": body})

    async def _send_lines(self, send: Send) -> None:
        started = False
        try:
            async with self._generation.open() as pieces:
                async for piece in pieces:
                    if not started:
                        started = True
                        await self._start(send, [*_NDJSON])
                    await send({"type": "http.response.body", "body": _line(piece), "more_body": True})
        except OrchestraError as error:
            if not started:
                raise
            await send({"type": "http.response.body", "body": _error_line(error), "more_body": True})
        if not started:
            await self._start(send, [*_NDJSON])
        await send({"type": "http.response.body", "body": b""})

    def _start(self, send: Send, headers: list[tuple[bytes, bytes]]) -> Awaitable[None]:
        if self._request_id:
            headers.append((_REQUEST_ID, self._request_id.encode()))
        return send({"type": "http.response.start", "status": 200, "headers": headers})


def _line(piece: Piece | FallbackRestart) -> bytes:
    if isinstance(piece, str):
        return b'{"delta":%b}\n' % orjson.dumps(piece)
    if isinstance(piece, Garbage):
        return piece.line
    return orjson.dumps(_fields(piece), option=orjson.OPT_APPEND_NEWLINE)


def _fields(piece: transcript.Piece | State | EndOfText | FallbackRestart) -> dict[str, object]:
    if isinstance(piece, transcript.Piece):
        match piece.kind:
            case "tool_call":
                return {"tool": {"index": piece.index, "id": piece.call_id, "name": piece.name}}
            case "tool_arguments":
                return {"tool_delta": {"index": piece.index, "text": piece.text}}
            case kind:
                return {kind: piece.text}
    if isinstance(piece, State):
        return {"state": piece.data}
    if isinstance(piece, FallbackRestart):
        return {"restart": {"model": piece.model}}
    return {"done": True, **_end_of(piece)}


def _end_of(ending: EndOfText) -> dict[str, object]:
    return {"usage": ending.usage.model_dump(), "finish_reason": ending.finish_reason}


def _error_line(error: OrchestraError) -> bytes:
    fields = {"code": error.code, "detail": error.detail, "retry_after": error.retry_after}
    return orjson.dumps({"error": fields}, option=orjson.OPT_APPEND_NEWLINE)
