"""The interface of providers: they stream the pieces of an answer."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from orchestra import transcript
from schemas.content import Tool, storable_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, FinishReason, Options, Usage

# No real server reports more, and far larger numbers are not safe integers in JSON.
MAX_TOKENS = 2**31 - 1
# Providers count an image by its size in pixels, which is not known here.
_TOKENS_OF_A_PART = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a provider. ``model`` is the provider's name for it; None values leave the choice to the provider.

    ``max_tokens`` holds in place of that of the ``options``. ``text_only``: the answer is one text, and all its pieces
    are. ``provider``: to whom the state of messages belongs. ``stream_options``: ask the server to count the tokens of
    its stream. ``traceparent`` (W3C Trace Context) is sent if the connection is ours.
    """

    model: str
    messages: Sequence[ChatMessage]
    max_tokens: int | None
    options: Options = field(default_factory=Options)
    text_only: bool = True
    provider: str = ""
    stream_options: bool = True
    traceparent: str | None = None

    def state_of(self, message: ChatMessage) -> dict[str, Any]:
        """What this provider sent to get it back with the message; empty if there is nothing."""
        state = message.state
        return state if state and state.get("provider") == self.provider else {}

    def state(self, kept: dict[str, Any]) -> "State | None":
        """The state of this call's answer; None if there is nothing to keep, or nothing that can be stored."""
        try:
            return State({"provider": self.provider, **storable_json(kept)}) if kept else None
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class State:
    """What the provider wants back with this answer in later calls. Only answers with tool calls have it."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndOfText:
    """The last piece of a complete answer."""

    usage: Usage
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes to send unchanged. Only `simulated` produces them, to test clients against invalid data."""

    line: bytes


Piece = str | transcript.Piece | State | EndOfText | Garbage
"""A ``str`` is a piece of text. ``transcript.Piece`` is one of anything else, if the call is not ``text_only``."""


class Provider(Protocol):
    """One model server, or a simulation of one."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """The answer in non-empty pieces, in the order of its items, then one `EndOfText`.

        Closing the generator ends the call at once. Raises `OrchestraError` with one of the codes of
        `schemas.generation.GenerationErrorCode`.
        """
        ...

    async def check(self) -> None:
        """Make a call that costs no tokens. Raises `OrchestraError` if the server does not respond as expected."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def answered(ending: EndOfText, *, text: bool, tools: bool = False, skipped: bool = False) -> EndOfText:
    """The ending, if there was an answer: an end mark without one is an error, never an empty success.

    ``text``: whether there was any, or another answer that was asked for; ``tools``: whether the model called a tool
    though only a text was asked for; ``skipped``: whether there was other content. Raises ``empty_reply``, or
    ``bad_upstream`` for content that cannot be read. A text that is empty because reasoning used all its tokens is an
    answer: its finish reason says why.
    """
    if text:
        return ending
    if tools:
        raise OrchestraError(
            ErrorCode.EMPTY_REPLY, "The model called a tool instead of answering; tools are not supported."
        )
    if skipped:
        raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer contains no readable text.")
    if ending.finish_reason != "length":
        raise OrchestraError(ErrorCode.EMPTY_REPLY)
    return ending


def worth_sending(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages that are not empty, and the last one in any case.

    Many APIs reject a dialogue with an empty message in it. Whether the last one is valid is for them to decide. A
    message with more than a text is not empty: it calls a tool, or is the result of a call.
    """
    *before, last = messages
    return [*filter(_not_empty, before), last]


def _not_empty(message: ChatMessage) -> bool:
    content = message.content
    return bool(isinstance(content, str) and content and not content.isspace()) or not message.plain


def arguments_to_send(arguments: str) -> str:
    """The arguments of an earlier call as a JSON object, which servers require.

    An answer that was cut off may have ended inside of them.
    """
    try:
        if isinstance(orjson.loads(arguments), dict):
            return arguments
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"unreadable": arguments}).decode() if arguments.strip() else "{}"


def storable(text: str) -> str:
    """The text with U+FFFD for U+0000 and lone surrogates, which Postgres and UTF-8 cannot hold; pairs are joined."""
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def counted(told: object) -> int:
    """Tokens reported by a server, if plausible; 0 if not. Servers that do not count report 0 or nothing."""
    return told if isinstance(told, int) and 0 < told <= MAX_TOKENS else 0


def estimate_tokens(text_bytes: int) -> int:
    """Estimated tokens of a text of ``text_bytes`` bytes in UTF-8: 3 bytes each, rounded up."""
    return -(-text_bytes // 3)


def estimate_input(messages: Sequence[ChatMessage], tools: Sequence[Tool] | None = None) -> int:
    """Tokens of the messages of a call, and of the tools that it offers."""
    tokens = estimate_tokens(sum(map(_bytes, messages)))
    return tokens + estimate_tokens(len(orjson.dumps(tools))) if tools else tokens


def _bytes(message: ChatMessage) -> int:
    if isinstance(message.content, str) and message.tool_calls is None:
        return len(message.content.encode("utf-8", "replace"))
    texts = [message.text, message.refusal or ""]
    for call in message.tool_calls or ():
        texts += [call["function"]["name"], call["function"]["arguments"]]
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    return size + 3 * _TOKENS_OF_A_PART * [part["type"] != "text" for part in message.parts].count(True)
