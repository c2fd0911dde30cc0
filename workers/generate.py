"""⑤ HTTP client of the LLM service: streams one answer piece by piece."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple, get_args

import aiohttp
import orjson
from pydantic import TypeAdapter

from orchestra.failpoints import reach
from orchestra.http.calls import Address, KeepAlive, Timeouts
from orchestra.transcript import Piece, PieceKind
from schemas.content import MAX_CALLS, MAX_DEPTH, ToolCall
from schemas.envelope import TRACEPARENT
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import (
    REQUEST_ID,
    DoneLine,
    FinishReason,
    GenerateRequest,
    GenerationErrorCode,
    ModelList,
    RestartLine,
    StateLine,
    ToolDeltaLine,
    ToolLine,
    Usage,
)
from workers.settings import WorkerSettings
from workers.timings import TIMINGS, Timings

MAX_LINE_BYTES = 4 * 1024 * 1024
MAX_REPLY_CHARACTERS = 4 * 1024 * 1024
MAX_PROBLEM_BYTES = 64 * 1024
_KEEP_ALIVE = KeepAlive(seconds=30.0)
_BODY = TypeAdapter(GenerateRequest).serializer


@dataclass(frozen=True)
class FallbackRestart:
    """All pieces before this one are void: another model starts its own answer."""


class State(NamedTuple):
    """The provider's data, to be returned to it with this answer."""

    value: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The end mark of a complete stream."""

    usage: Usage
    finish_reason: FinishReason = "stop"


Answered = str | Piece | State | FallbackRestart | Done
"""One element of a streamed answer; a ``str`` is a piece of text."""


class LlmService:
    """A client of the LLM service."""

    def __init__(self, address: Address, timings: Timings = TIMINGS) -> None:
        self._address = address
        self._silence = timings.silence

    async def generate(
        self, request: GenerateRequest, request_id: str | None = None, traceparent: str | None = None
    ) -> AsyncGenerator[Answered, None]:
        """Yield the pieces of the answer as they arrive, then ``Done``; a ``FallbackRestart`` voids all before it.

        A piece of text is a ``str``. Pieces come in the order of the answer's items.
        ``request_id`` and ``traceparent`` are sent as headers, so that the service's logs and traces name the request.
        Raises ``OrchestraError`` with a code of ``GenerationErrorCode``; a stream without its end mark is
        ``BAD_UPSTREAM``. Closing the iterator closes the call.
        """
        payload = _BODY.to_json(request, exclude_none=True)
        del request  # Both may be large.
        headers = {REQUEST_ID: request_id} if request_id else {}
        if traceparent:
            headers[TRACEPARENT] = traceparent
        reach("run.before_call")
        with _as_orchestra_errors(self._silence):
            async with self._address.call("POST", "/generate", payload, headers) as response:
                del payload
                if response.status != HTTPStatus.OK:
                    raise await _refusal(response)
                done: Done | None = None
                calls = _Calls()
                async for line in _lines(response):  # Read to the very end, so that the connection can be reused.
                    piece = _piece(line)
                    if type(piece) is str:
                        calls.open = False
                    elif isinstance(piece, Piece):
                        calls.take(piece)
                    elif isinstance(piece, FallbackRestart):
                        calls = _Calls()
                    elif isinstance(piece, Done):
                        done = piece
                        continue
                    reach("run.mid_stream")
                    yield piece
        if done is None:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "the stream ended without its end mark")
        reach("run.after_end_mark")
        yield done

    async def models(self) -> ModelList:
        """The models that the service offers. Raises ``OrchestraError``."""
        with _as_orchestra_errors(self._silence):
            async with self._address.call("GET", "/models") as response:
                if response.status != HTTPStatus.OK:
                    raise await _refusal(response)
                content = await response.read()
            try:
                return ModelList.model_validate_json(content)
            except ValueError:
                raise OrchestraError(ErrorCode.BAD_UPSTREAM, "the list of models cannot be read") from None


@asynccontextmanager
async def connect(settings: WorkerSettings, timings: Timings = TIMINGS) -> AsyncIterator[LlmService]:
    """A client over any number of pooled aiohttp connections: the worker's slots are the limit."""
    token, headers = settings.llm_service_token, {"content-type": "application/json"}
    if token:
        headers["authorization"] = f"Bearer {token.get_secret_value()}"
    timeouts = Timeouts(timings.connect, timings.silence)
    address = Address(settings.llm_service_url, headers, timeouts, _KEEP_ALIVE)
    try:
        yield LlmService(address, timings)
    finally:
        await address.aclose()


class _as_orchestra_errors:  # noqa: N801  reads like a statement
    def __init__(self, silence: float) -> None:
        self._silence = silence

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        match error:
            case None:
                return
            case aiohttp.ConnectionTimeoutError() | aiohttp.ClientConnectorError():
                raise OrchestraError(ErrorCode.UNAVAILABLE, "the LLM service cannot be reached") from error
            case aiohttp.ServerTimeoutError():
                raise OrchestraError(ErrorCode.TIMEOUT, f"no data came for {self._silence:.0f} s") from error
            case aiohttp.ClientError() | OSError():
                raise OrchestraError(ErrorCode.BAD_UPSTREAM, "the connection to the LLM service broke") from error


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    begun = bytearray()  # Each byte is searched once, however small the chunks are.
    while chunk := await response.content.readany():
        *lines, rest = chunk.split(b"\n")
        if begun and lines:
            lines[0] = bytes(begun + lines[0])
            begun.clear()
        for line in lines:
            if line:
                yield line
        if rest:
            begun += rest
            if len(begun) > MAX_LINE_BYTES:
                raise OrchestraError(ErrorCode.BAD_UPSTREAM, "a line of the stream is too long")
    if begun:
        yield bytes(begun)


class _Calls:
    """Checks the order of the pieces of tool calls. ``open``: the last call may get more arguments."""

    def __init__(self) -> None:
        self.open = False
        self._begun = 0

    def take(self, piece: Piece) -> None:
        """Take the next piece that is not text. Raises ``BAD_UPSTREAM`` if it must not follow the pieces before it."""
        match piece.kind:
            case "tool_call":
                possible = piece.index == self._begun < MAX_CALLS
                self._begun += 1
            case "tool_arguments":
                possible = self.open and piece.index == self._begun - 1
            case _:
                possible = True
        self.open = piece.kind in ("tool_call", "tool_arguments")
        if not possible:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "the pieces of the answer came in the wrong order")


def _piece(line: bytes) -> Answered:
    try:
        fields = orjson.loads(line)
        if "delta" in fields:
            delta = fields["delta"]
            if isinstance(delta, str):
                return _storable(delta)
        elif "error" in fields:
            raise _error(fields["error"])
        elif "restart" in fields:
            RestartLine.model_validate(fields)
            return FallbackRestart()
        elif fields.get("done") is True:
            done = DoneLine.model_validate(fields)
            return Done(done.usage, done.finish_reason)
        else:
            return _other_piece(fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise OrchestraError(ErrorCode.BAD_UPSTREAM, "a line of the stream cannot be read")


def _other_piece(fields: dict[str, Any]) -> Piece | State:
    """A piece that is not text. Raises ``ValueError``."""
    kind: PieceKind
    for kind in ("reasoning", "refusal"):
        if isinstance(text := fields.get(kind), str):
            return Piece(kind, _storable(text))
    if "tool" in fields:
        head = ToolLine.model_validate(fields).tool
        call_id, name = _storable(head.id), head.name
        # It must be possible to send the call back in a later prompt.
        _CALL.validate_python({"id": call_id, "type": "function", "function": {"name": name, "arguments": ""}})
        return Piece("tool_call", "", head.index, call_id, name)
    if "tool_delta" in fields:
        piece = ToolDeltaLine.model_validate(fields).tool_delta
        return Piece("tool_arguments", _storable(piece.text), piece.index)
    return State(_all_storable(StateLine.model_validate(fields).state))


_CALL: TypeAdapter[ToolCall] = TypeAdapter(ToolCall)


def _storable(text: str) -> str:
    # Postgres cannot store U+0000, so it is replaced before the text is published.
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _all_storable(value: Any, levels: int = MAX_DEPTH) -> Any:
    if levels < 0:
        raise ValueError("too deep to be stored")
    match value:
        case str():
            return _storable(value)
        case list():
            return [_all_storable(each, levels - 1) for each in value]
        case dict():
            return {_storable(name): _all_storable(each, levels - 1) for name, each in value.items()}
        case _:
            return value


async def _refusal(response: aiohttp.ClientResponse) -> OrchestraError:
    """The error of a problem document, or of the HTTP status if there is no such document."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_PROBLEM_BYTES:
            break
    try:
        fields = {**orjson.loads(bytes(body)), "retry_after": _seconds(response.headers.get("retry-after"))}
        return _error(fields)
    except (ValueError, TypeError):
        code = _BY_STATUS.get(response.status, ErrorCode.BAD_UPSTREAM)
        detail = f"the LLM service answered {response.status}"
        return OrchestraError(code, detail, retry_after=_seconds(response.headers.get("retry-after")))


# A proxy in front of the service sends no problem document, only a status.
_BY_STATUS: dict[int, ErrorCode] = {
    HTTPStatus.TOO_MANY_REQUESTS: ErrorCode.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorCode.UNAVAILABLE,
}
_CODES: frozenset[str] = frozenset(get_args(GenerationErrorCode))


def _error(fields: dict[str, Any]) -> OrchestraError:
    code = fields.get("code")
    if code == ErrorCode.UNAUTHORIZED:
        return OrchestraError(ErrorCode.AUTH, "the LLM service refused this worker's token")
    if not isinstance(code, str) or code not in _CODES:
        return OrchestraError(ErrorCode.BAD_UPSTREAM, "the LLM service failed without a known error code")
    retry_after = fields.get("retry_after")
    return OrchestraError(
        ErrorCode(code),
        str(fields.get("detail", ""))[:500].replace("\0", "\ufffd"),
        retry_after=max(0.0, float(retry_after)) if isinstance(retry_after, int | float) else None,
    )


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None
