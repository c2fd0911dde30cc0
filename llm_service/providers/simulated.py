"""A fake model for tests and benchmarks: deterministic, with configurable delays, lengths and faults.

``simulated`` answers ``echo: <last user message>``. Options follow the name, as in
``simulated:latency_ms=50,tokens=33,gap_ms=20``:

| option | what it does |
|---|---|
| ``latency_ms`` | waits before the first token |
| ``gap_ms`` | waits before every further token |
| ``tokens`` | answers with this many words instead of the echo; 0 is ``empty_reply`` |
| ``reply=hash`` | answers with `conversation_hash` of what it was sent |
| ``fail`` | ends with this error code (any of ``schemas.generation.GenerationErrorCode``) |
| ``fail_after`` | the error is sent after this many tokens, within the stream; by default before the first byte |
| ``fail_times`` | only this many calls with the same options and messages fail (with ``fail`` or ``overloaded``) |
| ``retry_after`` | seconds to wait, sent with the error |
| ``cut_after`` | the stream ends after this many tokens, without an end mark |
| ``hang_after`` | nothing more is sent after this many tokens |
| ``garbage=1`` | a line that is not JSON replaces the end mark |

An invalid option is ``invalid_request``.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from functools import lru_cache
from typing import Annotated, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_service.providers.base import Call, EndOfText, Garbage, Piece, answered, estimate_input, storable
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerationErrorCode, Usage

_WORDS = re.compile(r"\S+\s*|\s+")
_REMEMBERED = 10_000

_Millis = Annotated[float, Field(ge=0, le=600_000)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class SimulatedOptions(BaseModel):
    """The options after ``simulated:``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency_ms: _Millis = 0
    gap_ms: _Millis = 0
    tokens: _Count | None = None
    reply: Literal["echo", "hash"] = "echo"
    fail: GenerationErrorCode | None = None
    fail_after: _Count | None = None
    fail_times: _Count | None = None
    retry_after: Annotated[float, Field(ge=0, le=86_400)] | None = None
    cut_after: _Count | None = None
    hang_after: _Count | None = None
    garbage: bool = False


@lru_cache(maxsize=1024)
def parse_options(model: str) -> SimulatedOptions:
    """The options of a model name. Raises ``invalid_request``."""
    text = model.partition(":")[2]
    pairs = [option.partition("=")[::2] for option in text.split(",")] if text else []
    try:
        return SimulatedOptions.model_validate(dict(pairs))
    except ValidationError as error:
        wrong = {
            str(each["loc"][0]) for each in error.errors(include_input=False, include_context=False, include_url=False)
        }
    # Only our own names are repeated, never other input.
    known = [name for name in SimulatedOptions.model_fields if name in wrong]
    told = f"{known[0]} has a wrong value" if known else f"there are only {', '.join(SimulatedOptions.model_fields)}"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, f"The options of the simulated model are invalid: {told}.")


def conversation_hash(messages: Sequence[ChatMessage]) -> str:
    """SHA-256, in hex, of the messages as a JSON array of ``[role, content]`` pairs, UTF-8 without spaces."""
    pairs = [[message.role, message.content] for message in messages]
    return hashlib.sha256(orjson.dumps(pairs)).hexdigest()


class Simulated:
    """All simulated models. The only state is how often a call with ``fail_times`` has failed."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, int] = OrderedDict()

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        options = parse_options(call.model)
        error = self._error(options, call)
        words = _words(options, call)
        await _pause(options.latency_ms)
        for place in range(len(words) + 1):
            if place == options.cut_after:
                return
            if place == options.hang_after:
                await asyncio.Event().wait()
            if error and place == (options.fail_after or 0):
                raise error
            if place < len(words):
                if place:
                    await _pause(options.gap_ms)
                yield words[place]
        if options.garbage:
            yield Garbage(b"\x00<html>not json\n")
            return
        usage = Usage(input_tokens=estimate_input(call.messages), output_tokens=len(words))
        yield answered(EndOfText(usage, "length" if (options.tokens or 0) > len(words) else "stop"), text=bool(words))

    async def check(self) -> None:
        """It is always reachable."""

    async def aclose(self) -> None:
        """It has no connections."""

    def _error(self, options: SimulatedOptions, call: Call) -> OrchestraError | None:
        if options.fail is None and options.fail_times is None:
            return None
        if options.fail_times is not None and self._failed(call) > options.fail_times:
            return None
        return OrchestraError(options.fail or ErrorCode.OVERLOADED, retry_after=options.retry_after)

    def _failed(self, call: Call) -> int:
        key = f"{call.model} {conversation_hash(call.messages)}"
        self._failures[key] = times = self._failures.pop(key, 0) + 1
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        return times


async def _pause(millis: float) -> None:
    if millis:
        await asyncio.sleep(millis / 1000)


def _words(options: SimulatedOptions, call: Call) -> list[str]:
    if options.tokens is not None:
        return _numbered(min(options.tokens, call.max_tokens or options.tokens))
    if options.reply == "hash":
        digest = conversation_hash(call.messages)
        return [digest[at : at + 8] for at in range(0, len(digest), 8)]
    said = next((message.content for message in reversed(call.messages) if message.role == "user"), "")
    return _WORDS.findall(storable(f"echo: {said}"))


def _numbered(count: int) -> list[str]:
    return [f"word{place}{' ' if place < count else ''}" for place in range(1, count + 1)]
