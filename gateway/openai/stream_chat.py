"""The events of a chat completion: chunks of one answer, then ``[DONE]``."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import orjson

from gateway.following.cursor import sse_json
from gateway.following.live import Ending, LiveRequest
from gateway.following.waiting import failure
from gateway.http.problems import RequestProblemError
from gateway.openai.answer import DONE, RESTARTED, AnswerCursor
from gateway.openai.errors import shape
from orchestra.transcript import Piece
from schemas.errors import OrchestraError
from schemas.generation import Usage
from schemas.openai.chat import CompletionTokensDetails, CompletionUsage, PromptTokensDetails
from schemas.status import Status

_FIRST = {"role": "assistant", "content": ""}


class ChatEvents:
    """The chunks that one client of a stream still lacks.

    ``head``: what all chunks have. It is serialised once, because a chunk is sent for nearly every token.
    """

    def __init__(self, request_id: UUID, head: dict[str, Any], *, with_usage: bool) -> None:
        self._request_id = request_id
        self._cursor = AnswerCursor()
        self._with_usage = with_usage
        chunk = {**head, "object": "chat.completion.chunk", "system_fingerprint": None}
        self._open = b"data: " + sse_json(chunk)[:-1]
        self._head = self._open + b',"choices":[{"index":0,"delta":'
        self._tail = b',"logprobs":null,"finish_reason":null}]' + (b',"usage":null' if with_usage else b"") + b"}\n\n"

    @property
    def closed(self) -> bool:
        """Whether what was sent became void."""
        return self._cursor.restarted

    def begin(self, _live: LiveRequest) -> list[bytes]:
        """The first chunk, which has the role."""
        return [self._chunk(_FIRST)]

    def catch_up(self, live: LiveRequest) -> list[bytes]:
        """The chunks that bring the client up to the present state."""
        cursor = self._cursor
        if not cursor.follows(live):
            return self._void() if cursor.restarted else []
        if (text := live.window.text_since(cursor.units)) is None:
            return self._pieces(cursor.pieces(live))
        cursor.units += len(text)
        return [b'%b{"content":%b}%b' % (self._head, sse_json(text), self._tail)] if text else []

    def end(self, ending: Ending) -> list[bytes]:
        """The remaining chunks: the last of the answer, its usage, and the end."""
        if ending.status is not Status.COMPLETED:
            return [_failed(failure(ending, self._request_id))]
        told = self._pieces(self._cursor.rest(ending))
        if self._cursor.restarted:
            return self._void()
        reason = orjson.dumps(ending.finish_reason or "stop")
        told.append(self._head + b"{}" + self._tail.replace(b'"finish_reason":null', b'"finish_reason":%b' % reason))
        if self._with_usage:
            usage = usage_of(ending.usage).model_dump_json().encode()
            told.append(b'%b,"choices":[],"usage":%b}\n\n' % (self._open, usage))
        return [*told, DONE]

    def break_off(self, error: OrchestraError) -> list[bytes]:
        """The error with which the stream ends."""
        return [_failed(RequestProblemError(error.code, error.detail, request_id=self._request_id))]

    def _void(self) -> list[bytes]:
        return [_failed(RESTARTED)]

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return self._head + sse_json(delta) + self._tail

    def _pieces(self, pieces: Iterable[Piece]) -> list[bytes]:
        return [self._chunk(_delta(piece)) for piece in pieces]


def usage_of(usage: Usage | None) -> CompletionUsage:
    """The tokens used, in the shape of a chat completion."""
    used = usage or Usage()
    return CompletionUsage(
        prompt_tokens=used.input_tokens,
        completion_tokens=used.output_tokens,
        total_tokens=used.input_tokens + used.output_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=used.cached_tokens or 0),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=used.reasoning_tokens or 0),
    )


def _delta(piece: Piece) -> dict[str, Any]:
    match piece.kind:
        case "text":
            return {"content": piece.text}
        case "refusal":
            return {"refusal": piece.text}
        case "reasoning":
            return {"reasoning_content": piece.text}
        case "tool_call":
            function = {"name": piece.name, "arguments": ""}
            return {
                "tool_calls": [{"index": piece.index, "id": piece.call_id, "type": "function", "function": function}]
            }
    return {"tool_calls": [{"index": piece.index, "function": {"arguments": piece.text}}]}


def _failed(error: OrchestraError) -> bytes:
    return b"data: %b\n\n" % sse_json(shape(error).body)
