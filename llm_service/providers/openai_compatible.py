"""Calls servers with OpenAI's chat API: the embedded model, Ollama, vLLM, OpenAI itself."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import orjson

from llm_service.providers.base import Call, Piece, arguments_to_send
from llm_service.providers.completion import with_state
from llm_service.providers.connection import KEEP_ALIVE, Read, UpstreamLimits, beginning, readable
from llm_service.providers.refusals import refused, unreachable
from llm_service.providers.reply_parser import ReplyParser
from orchestra.http.calls import Address
from schemas.content import Tool, ToolCall
from schemas.envelope import TRACEPARENT
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage

# How long a server may take to send the usage of a complete answer, and to end the response after its end mark.
_USAGE_SECONDS = 2.0
_DRAIN_SECONDS = 0.5


class OpenAICompatible:
    """One server. It always streams, so that a slow answer can be distinguished from a dead server.

    ``base_url`` ends before ``/chat/completions``. ``calls_tools``: false if the model reads no tools. OpenAI itself
    takes ``max_completion_tokens``, all others ``max_tokens``; the role ``developer``, where others take ``system``;
    and ``refusal``, where others take a text.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        limits: UpstreamLimits,
        *,
        openai_itself: bool = False,
        calls_tools: bool = True,
    ) -> None:
        self._limits = limits
        self._itself = openai_itself
        self._calls_tools = calls_tools
        self._limit_field = "max_completion_tokens" if openai_itself else "max_tokens"
        headers = {"accept": "text/event-stream", "content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self._address = Address(base_url, headers, limits.timeouts, KEEP_ALIVE)

    async def stream(self, call: Call) -> AsyncGenerator[Piece, None]:
        """See `llm_service.providers.base.Provider`."""
        parser = ReplyParser(call, reply_bytes=self._limits.reply_bytes)
        try:
            trace = {TRACEPARENT: call.traceparent} if call.traceparent else None
            async with self._address.call("POST", "/chat/completions", self._body(call), trace) as response:
                read = readable(response.headers, response.content.readany)
                if not 200 <= response.status < 300:
                    raise refused(response.status, response.headers, await beginning(read))
                while chunk := await read():
                    for piece in parser.feed(chunk):
                        yield piece
                    if parser.done or parser.completion.finish:
                        break
                for piece in [*await _rest(read, parser), *parser.close()]:
                    yield piece
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
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [self._message(message, call) for message in call.messages],
            "stream": True,
        }
        if call.stream_options:
            body["stream_options"] = {"include_usage": True}
        options = call.options
        chosen: dict[str, Any] = {
            self._limit_field: call.max_tokens,
            "temperature": options.temperature,
            "top_p": options.top_p,
            "stop": options.stop,
            "seed": options.seed,
            "frequency_penalty": options.frequency_penalty,
            "presence_penalty": options.presence_penalty,
            "reasoning_effort": options.reasoning_effort,
            "user": options.user,
        }
        if options.tools:
            chosen["tools"] = [_tool(tool) for tool in options.tools]
            chosen["tool_choice"] = options.tool_choice
            if options.tool_choice not in (None, "none", "auto") and not self._calls_tools:
                raise OrchestraError(ErrorCode.UNSUPPORTED_OPTION, "tool_choice: this model calls no tools")
            chosen["parallel_tool_calls"] = options.parallel_tool_calls
        if form := options.response_format:
            told = {"json_schema": _told(form["json_schema"])} if form["type"] == "json_schema" else {}
            chosen["response_format"] = {**form, **told}
        body |= {name: value for name, value in chosen.items() if value is not None}
        return orjson.dumps(body)

    def _message(self, message: ChatMessage, call: Call) -> dict[str, Any]:
        role = "system" if message.role == "developer" and not self._itself else message.role
        written: dict[str, Any] = {"role": role, "content": message.content}
        if message.name is not None:
            written["name"] = message.name
        if call.text_only or message.plain:
            return written
        if message.refusal is not None:
            written |= {"refusal": message.refusal} if self._itself else {"content": message.text or message.refusal}
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            written["tool_calls"] = [_call(each) for each in message.tool_calls]
            written = with_state(written, call.state_of(message))
        return written


def _call(call: ToolCall) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": arguments_to_send(function["arguments"])}}


def _tool(tool: Tool) -> dict[str, Any]:
    return {**tool, "function": _told(tool["function"])}


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are set: many servers reject null."""
    return {name: value for name, value in fields.items() if value is not None}


async def _rest(read: Read, parser: ReplyParser) -> list[Piece]:
    """Read the end of a complete answer, so that its connection can be reused. Return any further pieces.

    Errors here do not affect the answer.
    """
    pieces: list[Piece] = []
    with suppress(TimeoutError, aiohttp.ClientError):
        if not parser.done:
            async with asyncio.timeout(_USAGE_SECONDS):
                while not parser.done and (chunk := await read()):
                    pieces += parser.feed(chunk)
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await read():
                pass
    return pieces
