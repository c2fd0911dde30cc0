"""Waits and streams that notice when their client leaves before they are over."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestra.http.disconnect import unless_gone

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Accel-Buffering": "no"}

_Result = TypeVar("_Result")

Left = Callable[[], None]
"""Called when the client of a call has left before the call was over; returns at once."""


async def unless_left(receive: Receive, work: Awaitable[_Result], left: Left | None) -> _Result:
    """The result of ``work``, or ``ClientDisconnect`` if the client leaves first; then ``left`` is called."""
    try:
        return await unless_gone(receive, work)
    except ClientDisconnect:
        if left:
            left()
        raise


class EventStreamResponse(StreamingResponse):
    """The response that sends ``chunks`` as server-sent events; ``left`` is called if the client leaves before the end.

    A generator that ends by itself is not a client that left: not at the ending of the request, not when the caller
    lost its access, and not when the gateway shuts down.
    """

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str] | None = None, left: Left | None = None
    ) -> None:
        super().__init__(chunks, headers={**_HEADERS, **(headers or {})}, media_type="text/event-stream")
        self._chunks = chunks
        self._left = left
        self._over = False

    async def stream_response(self, send: Send) -> None:
        """Send everything, and note that it was."""
        await super().stream_response(send)
        self._over = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; the client may leave before it has begun. The generator is closed with it."""
        try:
            await super().__call__(scope, receive, send)
        except ClientDisconnect:
            self._leave()
            raise
        finally:
            await self._chunks.aclose()
        self._leave()  # Unless all was sent, Starlette has returned because the client left.

    def _leave(self) -> None:
        if self._left and not self._over:
            self._left()
