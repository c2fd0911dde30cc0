"""The interface of providers: they stream the pieces of a text."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, FinishReason, Usage

# No real server reports more, and far larger numbers are not safe integers in JSON.
_MAX_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Call:
    """A call to a provider. ``model`` is the provider's name for it; None values leave the choice to the provider.

    ``stream_options``: ask the server to count the tokens of its stream. ``traceparent`` (W3C Trace Context) is sent if
    the connection is ours.
    """

    model: str
    messages: Sequence[ChatMessage]
    max_tokens: int | None
    temperature: float | None = None
    top_p: float | None = None
    stop: Sequence[str] | None = None
    stream_options: bool = True
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class EndOfText:
    """The last piece of a complete text."""

    usage: Usage
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes to send unchanged. Only `simulated` produces them, to test clients against invalid data."""

    line: bytes


Piece = str | EndOfText | Garbage


class Provider(Protocol):
    """One model server, or a simulation of one."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """The text in non-empty pieces, then one `Ending`. Closing the generator ends the call at once.

        Raises `OrchestraError` with one of the codes of `schemas.generation.GenerationErrorCode`.
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

    ``text``: whether there was any; ``tools``: whether the model called one; ``skipped``: whether there was other
    content. Raises ``empty_reply``, or ``bad_upstream`` for content that cannot be read. A text that is empty because
    reasoning used all its tokens is an answer: its finish reason says why.
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

    Many APIs reject a dialogue with an empty message in it. Whether the last one is valid is for them to decide.
    """
    *before, last = messages
    return [*(message for message in before if message.content and not message.content.isspace()), last]


def storable(text: str) -> str:
    """The text with U+FFFD for U+0000 and lone surrogates, which Postgres and UTF-8 cannot hold; pairs are joined."""
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def counted(told: object, estimate: int) -> int:
    """Tokens reported by a server, if plausible: servers that do not count report 0 or nothing."""
    return told if isinstance(told, int) and 0 < told <= _MAX_TOKENS else estimate


def estimate_tokens(text_bytes: int) -> int:
    """Estimated tokens of a text of ``size`` UTF-8 bytes: 3 bytes each, rounded up."""
    return -(-text_bytes // 3)


def estimate_input(messages: Sequence[ChatMessage]) -> int:
    """Tokens of the messages of a call."""
    return estimate_tokens(sum(len(message.content.encode("utf-8", "replace")) for message in messages))
