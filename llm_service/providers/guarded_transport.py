"""The transport of a library's calls: our limits of time and size, no redirects, errors from our closed list."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import httpx

from llm_service.providers.connection import KEEP_ALIVE, Read, UpstreamLimits, beginning, readable
from llm_service.providers.error_document import is_error
from llm_service.providers.framing import Framing, no_answer, parsed
from llm_service.providers.refusals import refused, stated, unreachable
from orchestra.http.calls import transport
from orchestra.http.event_stream import SseEvent
from schemas.envelope import TRACEPARENT

# Libraries extend an unfinished event line by line, which becomes slow long before it becomes large.
_MAX_EVENT_BYTES = 256 * 1024
# A library that reads lines of text also ends one at these. JSON can escape all of them.
_TEXT_BREAKS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}


@dataclass
class _Generation:
    """A library's work for one call of ours: the responses that it has opened, and the trace to send."""

    traceparent: str | None
    answers: list[httpx.AsyncByteStream] = field(default_factory=list)


_generation: ContextVar[_Generation | None] = ContextVar("generation", default=None)


@asynccontextmanager
async def one_generation(traceparent: str | None) -> AsyncIterator[None]:
    """Calls inside send the trace. Their responses are closed: a library that is left early may leave one open."""
    generation = _Generation(traceparent)
    _generation.set(generation)
    try:
        yield
    finally:
        for answer in generation.answers:
            await answer.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """For one address. An error status, a broken or silent connection, or too large a body raises `OrchestraError`.

    A library may wrap that error; it is found again among the causes.
    """

    def __init__(self, base_url: str, limits: UpstreamLimits) -> None:
        self._inner = transport(base_url, KEEP_ALIVE)
        self._limits = limits

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One call, with our time limits instead of the library's. Raises `OrchestraError`."""
        request.headers["accept-encoding"] = "identity"
        generation = _generation.get()
        if generation and generation.traceparent:
            request.headers[TRACEPARENT] = generation.traceparent
        request.extensions = {**request.extensions, "timeout": self._limits.timeout.as_dict()}
        try:
            response = await self._inner.handle_async_request(request)
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            read = readable(response.headers, partial(anext, aiter(stream), b""))
            if not response.is_success:
                try:
                    raise refused(response.status_code, response.headers, await beginning(read))
                finally:
                    await stream.aclose()
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise unreachable(error) from error
        response.headers.pop("content-encoding", None)
        response.status_code = 200  # Google's library accepts no other status as success.
        response.stream = _GuardedStream(
            stream, read, Framing(self._limits.reply_bytes, _MAX_EVENT_BYTES), asked=generation
        )
        if generation:
            generation.answers.append(response.stream)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


class _GuardedStream(httpx.AsyncByteStream):
    """A response that libraries can read, as they implement only part of the event stream standard.

    If a generation was ``asked`` for, it consists of whole events. Other calls, such as a list of models, return a
    document.
    """

    def __init__(self, inner: httpx.AsyncByteStream, read: Read, framing: Framing, asked: _Generation | None) -> None:
        self._inner = inner
        self._read = read
        self._framing = framing
        self._asked = asked

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._read():
                for event in self._framing.feed(chunk):
                    yield _written(event)
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise unreachable(error) from error
        rest, document = self._framing.close()
        if rest and document and self._asked:
            for event in _events(rest.data):
                yield _written(event)
        elif rest:
            yield rest.data.encode() if document else _written(rest)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _written(event: SseEvent) -> bytes:
    name = "" if event.name == "message" else f"event: {event.name}\n"  # Google's library does not support event names.
    data = event.data.translate(_TEXT_BREAKS).replace("\n", "\ndata: ")
    return f"{name}data: {data}\n\n".encode()


def _events(document: str) -> Iterator[SseEvent]:
    """A document instead of a stream, as equivalent events. Raises `OrchestraError` if it is an error."""
    try:
        documents = parsed(document)
    except (ValueError, RecursionError):
        raise no_answer() from None
    for each in documents if isinstance(documents, list) else [documents]:
        if isinstance(each, dict) and is_error(each):
            raise stated(each)
        for part in _parts(each):
            yield SseEvent(str(part.get("type", "message")), json.dumps(part), "")


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events of an equivalent stream: Gemini's consists of such documents, Anthropic's splits one up."""
    if document.get("type") != "message":
        yield document
        return
    usage = {"input_tokens": 0, "output_tokens": 0, **(document.get("usage") or {})}
    yield {"type": "message_start", "message": {**document, "content": [], "usage": usage}}
    for index, block in enumerate(document["content"]):
        # In a stream, a block begins empty.
        begun = {name: _BEGUN.get(name, value) for name, value in block.items()}
        yield {"type": "content_block_start", "index": index, "content_block": begun}
        for delta in _deltas(block):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    # A complete document is a complete answer, even if it does not say why it ended.
    delta = {"stop_reason": document.get("stop_reason") or "end_turn", "stop_sequence": document.get("stop_sequence")}
    yield {"type": "message_delta", "delta": delta, "usage": usage}
    yield {"type": "message_stop"}


_BEGUN: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}


def _deltas(block: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if text := block.get("text"):
        yield {"type": "text_delta", "text": text}
    if thinking := block.get("thinking"):
        yield {"type": "thinking_delta", "thinking": thinking}
    if signature := block.get("signature"):
        yield {"type": "signature_delta", "signature": signature}
    if arguments := block.get("input"):
        yield {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
