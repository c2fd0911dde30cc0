"""What every provider is: something that streams the pieces of a text."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, FinishReason, Usage

# More is told by no server that counts; what is far beyond fits no integer of JSON.
_MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Call:
    """What a provider is asked for. ``model`` is its own name for it; what is None it chooses itself.

    ``stream_options``: ask the server to count the tokens of its stream. ``traceparent`` (W3C Trace Context) goes along
    where the connection is ours.
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
class Ending:
    """The last piece of a whole text."""

    usage: Usage
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True, slots=True)
class Garbage:
    """Bytes to send as they are. Only `simulated` makes them, so that callers can be tested against nonsense."""

    line: bytes


Piece = str | Ending | Garbage


class Provider(Protocol):
    """One model server, or a stand-in for one."""

    def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """The text in pieces that are not empty, then one `Ending`. Closing the generator ends the call at once.

        Raises `OrchestraError` with one of the codes of `schemas.generation.GenerationErrorCode`.
        """
        ...

    async def check(self) -> None:
        """Ask the server for something that spends no token. Raises `OrchestraError` when it does not answer so."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def answered(ending: Ending, *, text: bool, tools: bool = False, skipped: bool = False) -> Ending:
    """The ending, where it ends an answer. An end alone does not make one, and is never told as if it did.

    ``text``: whether there was any; ``tools``: whether the model called one; ``skipped``: whether there was something
    else. Raises ``empty_reply``, or ``bad_upstream`` for what cannot be read. A text that is empty because the model
    had thought for all its tokens is an answer: its finish reason says why.
    """
    if text:
        return ending
    if tools:
        raise OrchestraError(
            ErrorCode.EMPTY_REPLY, "The model called a tool in place of an answer; tools are not supported."
        )
    if skipped:
        raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer has no text that can be read.")
    if ending.finish_reason != "length":
        raise OrchestraError(ErrorCode.EMPTY_REPLY)
    return ending


def worth_sending(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """The messages that say something, and the last whatever it says.

    Many APIs refuse a dialogue for one empty message in it. What was asked last is for them to judge.
    """
    *before, last = messages
    return [*(message for message in before if message.content and not message.content.isspace()), last]


def storable(text: str) -> str:
    """The text with U+FFFD for U+0000 and lone surrogates, which Postgres and UTF-8 cannot hold; pairs are joined."""
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def counted(told: object, estimate: int) -> int:
    """Tokens as a server has told them, if they can be believed: servers that do not count tell 0, or nothing."""
    return told if isinstance(told, int) and 0 < told <= _MOST_TOKENS else estimate


def estimate_tokens(text_bytes: int) -> int:
    """Tokens of a text of so many UTF-8 bytes, when nobody counted: 3 bytes each, rounded up."""
    return -(-text_bytes // 3)


def estimate_input(messages: Sequence[ChatMessage]) -> int:
    """Tokens of the messages of a call."""
    return estimate_tokens(sum(len(message.content.encode("utf-8", "replace")) for message in messages))
