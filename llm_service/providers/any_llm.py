"""Calls servers with an API of their own through the library any-llm: Anthropic, Gemini, Bedrock and others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx
import orjson

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.any_llm_dialogue import arguments_of, named_option, unsupported_option
from llm_service.providers.assembly import Assembly
from llm_service.providers.base import (
    Call,
    EndOfText,
    Piece,
    answered,
    counted,
    estimate_input,
    estimate_tokens,
    storable,
)
from llm_service.providers.completion import usage_details
from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.guarded_transport import GuardedTransport, one_generation
from llm_service.providers.refusals import stated, understood, unreachable
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage

if TYPE_CHECKING:
    from any_llm import AnyLLM
    from any_llm.types.completion import ChatCompletionChunk, ChoiceDelta, CompletionUsage

# Libraries of some providers accept no HTTP client of ours.
_BY_HTTPX = ("anthropic", "gemini")
# These take credentials of another kind from the environment.
_WITHOUT_KEY = ("bedrock", "vertexai")
_NO_KEY = "none"
_DRAIN_SECONDS = 0.5
# any-llm's classes of errors.
_BY_NAME = {
    "RateLimitError": ErrorCode.RATE_LIMITED,
    "AuthenticationError": ErrorCode.AUTH,
    "InsufficientFundsError": ErrorCode.QUOTA_EXHAUSTED,
    "ContextLengthExceededError": ErrorCode.CONTEXT_TOO_LONG,
    "ContentFilterError": ErrorCode.CONTENT_FILTER,
    "ModelNotFoundError": ErrorCode.UNKNOWN_MODEL,
    "InvalidRequestError": ErrorCode.REFUSED_BY_PROVIDER,
    "GatewayTimeoutError": ErrorCode.TIMEOUT,
}


class ProviderSetupError(Exception):
    """A provider cannot be used with this installation and these settings. The message says why, in one line."""


class ThroughAnyLLM:
    """One server. ``kind`` is any-llm's name of its API; ``base_url`` None: the API's default address.

    Raises `ProviderSetupError`. The library does not retry on its own.
    """

    def __init__(self, kind: str, base_url: str | None, api_key: str | None, limits: UpstreamLimits) -> None:
        self._kind = kind
        self._limits = limits
        self._silence = None if kind in _BY_HTTPX else limits.idle_seconds
        transport = GuardedTransport(base_url or "https:", limits)
        self._http = httpx.AsyncClient(transport=transport, timeout=limits.timeout, trust_env=False)
        key = api_key if api_key or kind in _WITHOUT_KEY else _NO_KEY
        self._library = _library(kind, base_url, key, self._http)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        reply = (_Reply if call.text_only else _ItemReply)(call, self._limits.reply_bytes)
        try:
            async with one_generation(call.traceparent), aclosing(await self._begin(call)) as chunks:
                while chunk := await self._next(chunks):
                    for piece in reply.feed(chunk):
                        yield piece
                    if reply.done:
                        break
                await _drain(chunks)
            for piece in reply.close():
                yield piece
        except OrchestraError:
            raise
        except Exception as error:
            raise _meaning(error) from error
        yield reply.ending()

    async def check(self) -> None:
        """See `llm_service.providers.base.Provider`."""
        try:
            await self._library.alist_models()
        except Exception as error:
            raise _meaning(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _begin(self, call: Call) -> "AsyncGenerator[ChatCompletionChunk, None]":
        asked = arguments_of(self._kind, call)
        try:
            chunks = await self._library.acompletion(model=call.model, stream=True, **asked)
        except Exception as error:
            # The library translates the schema before it makes a call.
            if call.options.response_format and any(type(each) is ValueError for each in _chain(error)):
                raise unsupported_option("response_format") from error
            raise
        return cast("AsyncGenerator[ChatCompletionChunk, None]", chunks)

    async def _next(self, chunks: "AsyncIterator[ChatCompletionChunk]") -> "ChatCompletionChunk | None":
        async with asyncio.timeout(self._silence):
            return await anext(chunks, None)


class _Reply:
    """An answer that is one text. Feed it every chunk, then get the `ending`."""

    def __init__(self, call: Call, reply_bytes: int) -> None:
        self._call = call
        self._answer = AnswerText(reply_bytes)
        self._usage: CompletionUsage | None = None
        self._finish: FinishReason | None = None
        self._tools = False

    @property
    def done(self) -> bool:
        """Whether the answer is complete; a server may keep its connection open after it."""
        return self._finish is not None and self._usage is not None

    def feed(self, chunk: "ChatCompletionChunk") -> Sequence[Piece]:
        """The pieces in this chunk, perhaps none. Raises `OrchestraError`."""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ()
        choice = chunk.choices[0]
        if choice.finish_reason == "content_filter":
            raise OrchestraError(ErrorCode.CONTENT_FILTER)
        if choice.finish_reason:
            self._finish = "length" if choice.finish_reason == "length" else "stop"
        return self._pieces(choice.delta)

    def close(self) -> Sequence[Piece]:
        """The remaining pieces after the last chunk."""
        return _text(self._answer.close())

    def ending(self) -> EndOfText:
        """How the answer ended. Raises ``bad_upstream`` if it was cut off, and what `answered` raises."""
        if self._finish is None:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
        return self._ended(self._finish)

    def _pieces(self, delta: "ChoiceDelta") -> Sequence[Piece]:
        self._tools = self._tools or bool(delta.tool_calls)
        return _text(self._answer.add(delta.content or delta.refusal or ""))

    def _ended(self, finish: FinishReason) -> EndOfText:
        return answered(
            EndOfText(self._spent(self._answer.size), finish), text=self._answer.size > 0, tools=self._tools
        )

    def _spent(self, size: int) -> Usage:
        told, call = self._usage, self._call
        return Usage(
            input_tokens=counted(told and told.prompt_tokens) or estimate_input(call.messages, call.options.tools),
            output_tokens=counted(told and told.completion_tokens) or estimate_tokens(size),
        )


class _ItemReply(_Reply):
    """An answer of any items."""

    def __init__(self, call: Call, reply_bytes: int) -> None:
        super().__init__(call, reply_bytes)
        self._assembly = Assembly(reply_bytes, reasoning=call.options.reasoning is not None)
        # What Anthropic and Google want back: signed thoughts, and what comes with a call or with the answer.
        self._thinking: list[dict[str, Any]] = []
        self._thought: list[str] = []
        self._extra: dict[str, Any] = {}
        self._extra_of_calls: dict[str, Any] = {}

    def close(self) -> Sequence[Piece]:
        """The remaining pieces after the last chunk, and what the provider wants back with the calls."""
        pieces: list[Piece] = [*self._assembly.close(cut=self._finish in (None, "length"))]
        kept = {"thinking": self._thinking, "extra_content": self._extra, "calls": self._extra_of_calls}
        state = self._call.state({name: value for name, value in kept.items() if value})
        if self._assembly.has_calls and state:
            pieces.append(state)
        return pieces

    def _pieces(self, delta: "ChoiceDelta") -> Sequence[Piece]:
        say = self._assembly.say
        if delta.reasoning:
            self._thought.append(delta.reasoning.content)
            say("reasoning", delta.reasoning.content)
        say("text", delta.content or "")
        say("refusal", delta.refusal or "")
        for each in delta.tool_calls or ():
            function = each.function
            name, arguments = (function.name, function.arguments or "") if function else (None, "")
            own = self._assembly.call(each.index, each.id, name, arguments)
            if each.extra_content:
                self._assembly.count(len(orjson.dumps(each.extra_content)))
                self._extra_of_calls[own] = each.extra_content
        if delta.extra_content:
            self._keep(delta.extra_content)
        return self._assembly.take()

    def _keep(self, extra: dict[str, Any]) -> None:
        self._assembly.count(len(orjson.dumps(extra)))
        signature = (extra.get("anthropic") or {}).get("signature")
        if signature:
            thought = storable("".join(self._thought))
            self._thinking.append({"type": "thinking", "thinking": thought, "signature": signature})
            self._thought = []
        else:
            self._extra |= extra

    def _ended(self, finish: FinishReason) -> EndOfText:
        told = self._usage.model_dump() if self._usage else {}
        if self._assembly.has_calls and finish == "stop":
            finish = "tool_calls"
        usage = self._spent(self._assembly.size).model_copy(update=usage_details(told))
        return answered(EndOfText(usage, finish), text=self._assembly.answered)


def _text(text: str) -> Sequence[Piece]:
    return (text,) if text else ()


def _library(kind: str, base_url: str | None, api_key: str | None, http: httpx.AsyncClient) -> "AnyLLM":
    try:
        # The import takes a second, and is only needed for such a provider.
        from any_llm import AnyLLM  # noqa: PLC0415
        from any_llm.exceptions import AnyLLMError  # noqa: PLC0415
    except ImportError as error:
        raise ProviderSetupError(f"provider {kind} needs the package any-llm-sdk") from error
    more: dict[str, dict[str, Any]] = {
        "anthropic": {"http_client": http},
        # Preview models are only in v1beta.
        "gemini": {"http_options": {"httpx_async_client": http, "api_version": "v1beta"}, "vertexai": False},
    }
    try:
        retries = None if AnyLLM.get_provider_class(kind).MAX_RETRIES_SUPPORT == "unsupported" else 0
        return AnyLLM.create(
            kind, api_key, base_url, unified_exceptions=True, max_retries=retries, **more.get(kind, {})
        )
    except ImportError as error:
        raise ProviderSetupError(f"provider {kind} needs the packages of any-llm-sdk[{kind}]") from error
    except AnyLLMError as error:
        raise ProviderSetupError(f"provider {kind} cannot be used: {error.message}") from error


async def _drain(chunks: "AsyncIterator[ChatCompletionChunk]") -> None:
    """Read the end of a complete answer, so that its connection can be reused."""
    with suppress(Exception):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                pass


def _meaning(error: Exception) -> OrchestraError:
    """An error from the library as one of our closed list. Its text is not passed on."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, OrchestraError):
            return each
    for each in chain:
        # Where Anthropic's and Google's libraries keep an error document from the middle of a stream.
        said = getattr(each, "body", None) or getattr(each, "details", None)
        if isinstance(said, dict):
            return stated(said.get("error", said))
    for each in chain:
        if isinstance(each, httpx.HTTPError | aiohttp.ClientError):
            return unreachable(each)
        if isinstance(each, TimeoutError):
            return OrchestraError(ErrorCode.TIMEOUT, "The model's provider sent nothing in time.")
        if type(each).__name__ == "UnsupportedParameterError":
            return unsupported_option(named_option(str(getattr(each, "parameter_name", ""))))
        if code := _BY_NAME.get(type(each).__name__):
            return understood(each, code)
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider sent an invalid answer.")


def _chain(error: BaseException | None) -> Iterator[Exception]:
    while isinstance(error, Exception):
        yield error
        error = getattr(error, "original_exception", None) or error.__cause__ or error.__context__
