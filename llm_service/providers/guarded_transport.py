"""What a library's calls go through: our limits of time and size, no redirects, and errors from our closed list."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import aiohttp
import httpx

from llm_service.providers.connection import KEEPING, UpstreamLimits, beginning
from llm_service.providers.refusals import refused, unreachable
from orchestra.http_calls import transport
from schemas.errors import ErrorCode, OrchestraError

# Libraries add to an unfinished event line by line, which grows slow long before it grows large.
_MAX_EVENT_BYTES = 256 * 1024
# Around a token of text lie some 250 bytes of JSON.
_MAX_WIRE_FACTOR = 512


_open_answers: ContextVar[list[httpx.AsyncByteStream] | None] = ContextVar("open_answers", default=None)


@asynccontextmanager
async def closing_answers() -> AsyncIterator[None]:
    """Close every answer that was begun inside: a library that is left early may leave its answer open."""
    answers: list[httpx.AsyncByteStream] = []
    _open_answers.set(answers)
    try:
        yield
    finally:
        for answer in answers:
            await answer.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """For one address. Whatever is no 200, breaks, falls silent or grows too large is an `OrchestraError` at once.

    A library may wrap that error; it is found again along the causes.
    """

    def __init__(self, base_url: str, limits: UpstreamLimits) -> None:
        self._inner = transport(base_url, KEEPING)
        self._limits = limits

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One call, with our time limits in place of the library's. Raises `OrchestraError`."""
        # What is not packed cannot unpack to more than was counted.
        request.headers["accept-encoding"] = "identity"
        request.extensions = {**request.extensions, "timeout": self._limits.timeout.as_dict()}
        try:
            response = await self._inner.handle_async_request(request)
            stream = response.stream
            assert isinstance(stream, httpx.AsyncByteStream)
            if response.status_code != 200:
                try:
                    raise refused(response.status_code, response.headers, await beginning(aiter(stream)))
                finally:
                    await stream.aclose()
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise unreachable(error) from error
        if response.headers.get("content-encoding", "identity") != "identity":
            await stream.aclose()
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider packed its answer unasked.")
        response.stream = _GuardedStream(stream, self._limits.reply_bytes * _MAX_WIRE_FACTOR)
        if (answers := _open_answers.get()) is not None:
            answers.append(response.stream)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


class _GuardedStream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, most_bytes: int) -> None:
        self._inner = inner
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = event = 0
        try:
            async for chunk in self._inner:
                received += len(chunk)
                # Libraries keep an event until its empty line comes, however long that takes.
                end = max(chunk.rfind(b"\n\n"), chunk.rfind(b"\n\r\n"))
                event = event + len(chunk) if end < 0 else len(chunk) - end
                if event > _MAX_EVENT_BYTES or received > self._most_bytes:
                    raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer is longer than it may be.")
                yield chunk
        except (httpx.HTTPError, aiohttp.ClientError) as error:
            raise unreachable(error) from error

    async def aclose(self) -> None:
        await self._inner.aclose()
