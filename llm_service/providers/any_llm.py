"""Calls servers with an API of their own through the library any-llm: Anthropic, Gemini, Bedrock and others."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx

from llm_service.providers.answer_text import AnswerText
from llm_service.providers.base import Call, EndOfText, Piece, answered, counted, estimate_input, estimate_tokens
from llm_service.providers.connection import UpstreamLimits
from llm_service.providers.guarded_transport import GuardedTransport, one_generation
from llm_service.providers.refusals import stated, understood, unreachable
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, FinishReason, Usage

if TYPE_CHECKING:
    from any_llm import AnyLLM
    from any_llm.types.completion import ChatCompletionChunk, CompletionUsage

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
    "UnsupportedParameterError": ErrorCode.REFUSED_BY_PROVIDER,
    "GatewayTimeoutError": ErrorCode.TIMEOUT,
}


class ProviderSetupError(Exception):
    """A provider cannot be used with this installation and these settings. The message says why, in one line."""


class ThroughAnyLLM:
    """One server. ``kind`` is any-llm's name of its API; ``base_url`` None: the API's default address.

    Raises `ProviderSetupError`. The library does not retry on its own.
    """

    def __init__(self, kind: str, base_url: str | None, api_key: str | None, limits: UpstreamLimits) -> None:
        self._limits = limits
        self._silence = None if kind in _BY_HTTPX else limits.idle_seconds
        transport = GuardedTransport(base_url or "https:", limits)
        self._http = httpx.AsyncClient(transport=transport, timeout=limits.timeout, trust_env=False)
        key = api_key if api_key or kind in _WITHOUT_KEY else _NO_KEY
        self._library = _library(kind, base_url, key, self._http)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        reply = _Reply(estimate_input(call.messages), self._limits.reply_bytes)
        try:
            async with one_generation(call.traceparent), aclosing(await self._begin(call)) as chunks:
                while chunk := await self._next(chunks):
                    if text := reply.feed(chunk):
                        yield text
                    if reply.done:
                        break
                await _drain(chunks)
            if text := reply.close():
                yield text
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
        options = {
            "max_tokens": call.max_tokens,
            "temperature": call.temperature,
            "top_p": call.top_p,
            "stop": list(call.stop or ()) or None,
        }
        chunks = await self._library.acompletion(
            model=call.model,
            messages=_turns(call.messages),
            stream=True,
            **cast("dict[str, Any]", {name: value for name, value in options.items() if value is not None}),
        )
        return cast("AsyncGenerator[ChatCompletionChunk, None]", chunks)

    async def _next(self, chunks: "AsyncIterator[ChatCompletionChunk]") -> "ChatCompletionChunk | None":
        async with asyncio.timeout(self._silence):
            return await anext(chunks, None)


class _Reply:
    """One answer. Feed it every chunk, then get the `ending`."""

    def __init__(self, input_estimate: int, reply_bytes: int) -> None:
        self._input_estimate = input_estimate
        self._answer = AnswerText(reply_bytes)
        self._usage: CompletionUsage | None = None
        self._finish: FinishReason | None = None
        self._tools = False

    @property
    def done(self) -> bool:
        """Whether the answer is complete; a server may keep its connection open after it."""
        return self._finish is not None and self._usage is not None

    def feed(self, chunk: "ChatCompletionChunk") -> str:
        """The text in this chunk, perhaps none. Raises `OrchestraError`."""
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        if choice.finish_reason == "content_filter":
            raise OrchestraError(ErrorCode.CONTENT_FILTER)
        if choice.finish_reason:
            self._finish = "length" if choice.finish_reason == "length" else "stop"
        self._tools = self._tools or bool(choice.delta.tool_calls)
        return self._answer.add(choice.delta.content or choice.delta.refusal or "")

    def close(self) -> str:
        """The remaining text after the last chunk."""
        return self._answer.close()

    def ending(self) -> EndOfText:
        """How the answer ended. Raises ``bad_upstream`` if it was cut off, and what `answered` raises."""
        if self._finish is None:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer was cut off.")
        told = self._usage
        usage = Usage(
            input_tokens=counted(told and told.prompt_tokens, self._input_estimate),
            output_tokens=counted(told and told.completion_tokens, estimate_tokens(self._answer.size)),
        )
        return answered(EndOfText(usage, self._finish), text=self._answer.size > 0, tools=self._tools)


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


def _turns(messages: Sequence[ChatMessage]) -> list[dict[str, Any] | Any]:
    """The messages as these APIs require: system messages first, then alternating roles."""
    turns: list[dict[str, Any]] = []
    for message in sorted(messages, key=lambda message: message.role != "system"):
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += "\n\n" + message.content
        else:
            turns.append({"role": message.role, "content": message.content})
    return turns


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
        if code := _BY_NAME.get(type(each).__name__):
            return understood(each, code)
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider sent an invalid answer.")


def _chain(error: BaseException | None) -> Iterator[Exception]:
    while isinstance(error, Exception):
        yield error
        error = getattr(error, "original_exception", None) or error.__cause__ or error.__context__
