"""Speaks to every server with OpenAI's chat API: the embedded model, Ollama, vLLM, OpenAI itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from llm_service.providers.base import Call, Piece, estimate_input
from llm_service.providers.refusals import refused, unreachable
from llm_service.providers.reply_parser import ReplyParser

_MAX_ERROR_BYTES = 64 * 1024
# Many servers close a quiet connection after 5 s; one that is just being closed would lose our call.
_KEEP_ALIVE_SECONDS = 4.0
_DRAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """What a provider may take of our time and memory."""

    connect_seconds: float = 5
    idle_seconds: float = 60
    reply_bytes: int = 1024 * 1024


class OpenAICompatible:
    """One server. Always streams, so that a slow answer is told from a dead server by its silence.

    ``base_url`` ends before ``/chat/completions``. OpenAI itself takes ``max_completion_tokens``, all others
    ``max_tokens``.
    """

    def __init__(
        self, base_url: str, api_key: str | None, limits: UpstreamLimits, *, openai_itself: bool = False
    ) -> None:
        self._url = f"{base_url}/chat/completions"
        self._limits = limits
        self._limit_field = "max_completion_tokens" if openai_itself else "max_tokens"
        headers = {"accept": "text/event-stream", "accept-encoding": "identity", "content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(limits.idle_seconds, connect=limits.connect_seconds, pool=None),
            transport=AiohttpTransport(client=_secure_session if base_url.startswith("https:") else _session),
            trust_env=False,
        )

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        parser = ReplyParser(input_estimate=estimate_input(call.messages), reply_bytes=self._limits.reply_bytes)
        try:
            async with self._client.stream("POST", self._url, content=self._body(call)) as response:
                chunks = response.aiter_raw()
                if response.status_code != 200:
                    raise refused(response.status_code, response.headers, await _beginning(chunks))
                async for chunk in chunks:
                    if text := parser.feed(chunk):
                        yield text
                    if parser.done:
                        break
                await _drain(chunks)
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise unreachable(error) from error
        yield parser.ending()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _body(self, call: Call) -> bytes:
        body = {
            "model": call.model,
            "messages": [{"role": message.role, "content": message.content} for message in call.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._limit_field: call.max_tokens,
            "temperature": call.temperature,
            "top_p": call.top_p,
            "stop": call.stop,
        }
        return orjson.dumps({name: value for name, value in body.items() if value is not None})


def _session() -> aiohttp.ClientSession:
    # llama.cpp's server promises to keep a connection and closes it after every stream: the next call down that
    # connection is lost. Without TLS a new connection costs nothing beside a generation.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _secure_session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=httpx.create_ssl_context())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_ERROR_BYTES:
            break
    return body


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read the end of a whole answer, so that its connection can serve the next call."""
    with suppress(TimeoutError, httpx.HTTPError, aiohttp.ClientError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                pass
