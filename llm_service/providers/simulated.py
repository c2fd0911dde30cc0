"""A fake model for tests and benchmarks: deterministic, with configurable delays, lengths and faults.

``simulated`` answers ``echo: <last user message>``. Beyond text it does what a client asks for:

- It calls the tool that ``tool_choice`` names, or the first one if it is ``required``. Otherwise it calls each offered
  tool for which the last user message has ``call NAME``, unless it has called that tool since; with
  ``parallel_tool_calls: false`` one at a time. Behind the results it answers ``NAME: <result>``.
- With a ``json_schema``, for an answer or for arguments, it sends the smallest JSON that fits; with ``json_object`` an
  object with the echo.
- With ``reasoning: include`` it reasons before it answers.
- ``max_tokens`` cuts it off.

Options follow the name, as in ``simulated:latency_ms=50,tokens=33,gap_ms=20``. A token is a word, or a piece of a call:

| option | what it does |
|---|---|
| ``latency_ms`` | waits before the first token |
| ``gap_ms`` | waits before every further token |
| ``tokens`` | answers with this many words instead of the echo; 0 is ``empty_reply`` |
| ``reasoning`` | reasons with this many words before it answers |
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
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator
from functools import lru_cache
from itertools import chain, islice
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_service.providers.base import Call, EndOfText, Garbage, Piece, answered, estimate_input
from llm_service.providers.simulated_answer import answer, conversation_hash
from orchestra import transcript
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, GenerationErrorCode, Usage
from schemas.invalid import problems_of

_REMEMBERED = 10_000

_Millis = Annotated[float, Field(ge=0, le=600_000)]
_Count = Annotated[int, Field(ge=0, le=1_000_000)]


class SimulatedOptions(BaseModel):
    """The options after ``simulated:``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency_ms: _Millis = 0
    gap_ms: _Millis = 0
    tokens: _Count | None = None
    reasoning: _Count | None = None
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
        wrong = {str(each["loc"][0]) for each in problems_of(error)}
    # Only our own names are repeated, never other input.
    known = [name for name in SimulatedOptions.model_fields if name in wrong]
    told = f"{known[0]} has a wrong value" if known else f"there are only {', '.join(SimulatedOptions.model_fields)}"
    raise OrchestraError(ErrorCode.INVALID_REQUEST, f"The options of the simulated model are invalid: {told}.")


class Simulated:
    """All simulated models. The only state is how often a call with ``fail_times`` has failed."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, int] = OrderedDict()

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        options = parse_options(call.model)
        error = self._error(options, call)
        hashed, asked = options.reply == "hash", options.tokens
        words = min(asked, call.max_tokens) if asked is not None and call.max_tokens else asked
        # Each token is made when it is due: thousands at once would delay every other call, and be kept with this one.
        pieces = answer(call, words=words, hashed=hashed, reasoning=options.reasoning)
        # A hash is no use if it is cut.
        tokens = islice(pieces, None if hashed and call.text_only else call.max_tokens)
        told = Counter[transcript.PieceKind]()
        await _pause(options.latency_ms)
        for place, token in enumerate(chain(tokens, [None])):
            if place == options.cut_after:
                return
            if place == options.hang_after:
                await asyncio.Event().wait()
            if error and place == (options.fail_after or 0):
                raise error
            if token:
                if place:
                    await _pause(options.gap_ms)
                told[token.kind] += 1
                if (piece := _shown(token, call)) is not None:
                    yield piece
        if options.garbage:
            yield Garbage(b"\x00<html>not json\n")
            return
        fewer = words != asked and told["text"] > 0
        yield _ending(call, told, cut=fewer or next(pieces, None) is not None)

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


def _shown(token: transcript.Piece, call: Call) -> Piece | None:
    if token.kind == "text":
        return token.text
    return None if token.kind == "reasoning" and call.options.reasoning is None else token


def _ending(call: Call, told: Counter[transcript.PieceKind], *, cut: bool) -> EndOfText:
    """The ending of an answer with these counts of tokens by kind. ``cut``: there would be more without the limit."""
    usage = Usage(input_tokens=estimate_input(call.messages, call.options.tools), output_tokens=told.total())
    if not call.text_only and "reasoning" in told:
        usage.reasoning_tokens = told["reasoning"]
    finish: FinishReason = "length" if cut else "tool_calls" if "tool_call" in told else "stop"
    return answered(EndOfText(usage, finish), text=bool({"text", "tool_call"} & told.keys()))
