"""The bytes of an OpenAI-compatible stream (server-sent events) → the text in them, the usage, the end."""

import json
from collections.abc import Mapping

import orjson

from llm_service.providers.base import Ending, estimate_tokens, storable
from llm_service.providers.refusals import stated
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage

MAX_LINE_BYTES = 1024 * 1024
# Around a token of text lie some 250 bytes of JSON.
_MAX_WIRE_FACTOR = 512


class ReplyParser:
    """One answer. Feed it what comes; ask for the `ending` when no more comes."""

    def __init__(self, *, input_estimate: int, reply_bytes: int) -> None:
        self.done = False
        self._input_estimate = input_estimate
        self._reply_bytes = reply_bytes
        self._rest = b""
        self._received = 0
        self._text_bytes = 0
        self._usage: Mapping[str, object] = {}
        self._finish: FinishReason | None = None

    def feed(self, chunk: bytes) -> str:
        """The text that these bytes complete, perhaps none. Raises `OrchestraError`."""
        self._received += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        text = storable("".join([self._text(line) for line in lines if line.startswith(b"data:")]))
        self._text_bytes += len(text.encode())
        if self._text_bytes > self._reply_bytes or self._received > self._reply_bytes * _MAX_WIRE_FACTOR:
            raise _nonsense("The model's answer is longer than it may be.")
        if len(self._rest) > MAX_LINE_BYTES:
            raise _nonsense("The model's provider sent an endless line.")
        return text

    def ending(self) -> Ending:
        """How the whole answer ended. Raises ``bad_upstream`` when it broke off."""
        if self._finish is None:
            raise _nonsense("The model's answer broke off.")
        return Ending(
            Usage(
                input_tokens=self._count("prompt_tokens", self._input_estimate),
                output_tokens=self._count("completion_tokens", estimate_tokens(self._text_bytes)),
            ),
            self._finish,
        )

    def _text(self, line: bytes) -> str:
        data = line[5:].strip()
        if self.done or not data:
            return ""
        if data == b"[DONE]":
            self.done = True
            return ""
        try:
            return self._event(_json(data))
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            raise _nonsense("The model's provider sent something that is no answer.") from None

    def _event(self, event: dict[str, object]) -> str:
        if error := event.get("error"):
            raise stated(error)
        if isinstance(usage := event.get("usage"), dict):
            self._usage = usage
        choices = event.get("choices")
        return self._choice(choices[0]) if isinstance(choices, list) and choices else ""

    def _choice(self, choice: dict[str, object]) -> str:
        if reason := choice.get("finish_reason"):
            self._finish = _finish(reason)
        delta = choice.get("delta") or {}
        content = delta.get("content") if isinstance(delta, dict) else delta
        if content is None:
            return ""
        if not isinstance(content, str):
            raise TypeError
        return content

    def _count(self, name: str, estimate: int) -> int:
        count = self._usage.get(name)
        return count if isinstance(count, int) and count >= 0 else estimate


def _json(data: bytes) -> dict[str, object]:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        # Some servers write NaN, half of a surrogate pair, or cut a character in two.
        event = json.loads(data.decode("utf-8", "replace"))
    if not isinstance(event, dict):
        raise TypeError
    return event


def _finish(reason: object) -> FinishReason:
    match reason:
        case "content_filter":
            raise OrchestraError(ErrorCode.CONTENT_FILTER)
        case "error":
            raise _nonsense("The model's provider ended the answer with an error.")
        case "length":
            return "length"
    return "stop"


def _nonsense(detail: str) -> OrchestraError:
    return OrchestraError(ErrorCode.BAD_UPSTREAM, detail)
