"""Calls servers with OpenAI's chat API: the embedded model, Ollama, vLLM, OpenAI itself."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import aiohttp
import orjson

from llm_service.providers.base import Call, Piece, estimate_input
from llm_service.providers.connection import KEEP_ALIVE, Read, UpstreamLimits, beginning, readable
from llm_service.providers.refusals import refused, unreachable
from llm_service.providers.reply_parser import ReplyParser
from orchestra.http.calls import Address
from schemas.envelope import TRACEPARENT

# How long a server may take to send the usage of a complete answer, and to end the response after its end mark.
_USAGE_SECONDS = 2.0
_DRAIN_SECONDS = 0.5


class OpenAICompatible:
    """One server. It always streams, so that a slow answer can be distinguished from a dead server.

    ``base_url`` ends before ``/chat/completions``. OpenAI itself takes ``max_completion_tokens``, all others
    ``max_tokens``.
    """

    def __init__(
        self, base_url: str, api_key: str | None, limits: UpstreamLimits, *, openai_itself: bool = False
    ) -> None:
        self._limits = limits
        self._limit_field = "max_completion_tokens" if openai_itself else "max_tokens"
        headers = {"accept": "text/event-stream", "content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._address = Address(base_url, headers, limits.timeouts, KEEP_ALIVE)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        parser = ReplyParser(input_estimate=estimate_input(call.messages), reply_bytes=self._limits.reply_bytes)
        try:
            trace = {TRACEPARENT: call.traceparent} if call.traceparent else None
            async with self._address.call("POST", "/chat/completions", self._body(call), trace) as response:
                read = readable(response.headers, response.content.readany)
                if not 200 <= response.status < 300:
                    raise refused(response.status, response.headers, await beginning(read))
                while chunk := await read():
                    if text := parser.feed(chunk):
                        yield text
                    if parser.done or parser.completion.finish:
                        break
                if text := await _rest(read, parser) + parser.close():
                    yield text
        except aiohttp.ClientError as error:
            raise unreachable(error) from error
        yield parser.ending()

    async def check(self) -> None:
        """See `llm_service.providers.base.Provider`."""
        try:
            async with self._address.call("GET", "/models") as response:
                if not 200 <= response.status < 300:
                    read = readable(response.headers, response.content.readany)
                    raise refused(response.status, response.headers, await beginning(read))
        except aiohttp.ClientError as error:
            raise unreachable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._address.aclose()

    def _body(self, call: Call) -> bytes:
        body = {
            "model": call.model,
            "messages": [{"role": message.role, "content": message.content} for message in call.messages],
            "stream": True,
        }
        if call.stream_options:
            body["stream_options"] = {"include_usage": True}
        chosen = {
            self._limit_field: call.max_tokens,
            "temperature": call.temperature,
            "top_p": call.top_p,
            "stop": call.stop,
        }
        body |= {name: value for name, value in chosen.items() if value is not None}
        return orjson.dumps(body)


async def _rest(read: Read, parser: ReplyParser) -> str:
    """Read the end of a complete answer, so that its connection can be reused. Return any further text.

    Errors here do not affect the answer.
    """
    text = ""
    with suppress(TimeoutError, aiohttp.ClientError):
        if not parser.done:
            async with asyncio.timeout(_USAGE_SECONDS):
                while not parser.done and (chunk := await read()):
                    text += parser.feed(chunk)
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await read():
                pass
    return text
