"""How the client reaches the network: on an event loop, or blocking. All other code of the client is written once.

The methods of both are coroutines. Those of the blocking one never suspend, so that `orchestra.client.blocking` can
run what is made of them without an event loop.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import httpx

CONNECT_SECONDS = 5.0
# Calls that wait and streams hold their connections for minutes: none of them waits for another one's.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20)


class WireResponse(Protocol):
    """A response whose body has not been read. All methods raise ``httpx.RequestError``."""

    @property
    def head(self) -> httpx.Response:
        """Its status and headers."""

    async def read(self) -> bytes:
        """All of its body."""

    async def chunk(self) -> bytes | None:
        """The next bytes of its body; None at the end."""

    async def close(self) -> None:
        """Release the connection."""


class Wire(Protocol):
    """The network and the clock."""

    async def send(self, request: httpx.Request) -> WireResponse:
        """Send a request. Raises ``httpx.RequestError``."""

    def build(self, method: str, url: str, **more: Any) -> httpx.Request:
        """A request, with what the HTTP client adds to it."""

    async def sleep(self, seconds: float) -> None:
        """Pause."""

    def clock(self) -> float:
        """Monotonic time in seconds."""

    async def close(self) -> None:
        """Close the connections, if the HTTP client is this wire's own."""


class AsyncWire:
    """The network, on an event loop of asyncio."""

    def __init__(self, http_client: httpx.AsyncClient | None = None) -> None:
        # Neither proxies nor the credentials of a `.netrc` file are taken from the environment.
        self._http = http_client or httpx.AsyncClient(trust_env=False, limits=_LIMITS)
        self._mine = http_client is None

    def build(self, method: str, url: str, **more: Any) -> httpx.Request:
        """A request, with what the HTTP client adds to it."""
        return self._http.build_request(method, url, **more)

    async def send(self, request: httpx.Request) -> WireResponse:
        """Send a request. Raises ``httpx.RequestError``."""
        try:
            return _AsyncResponse(await self._http.send(request, stream=True, follow_redirects=False))
        except httpx.TransportError:
            _if_cancelled()
            raise

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        await asyncio.sleep(seconds)

    def clock(self) -> float:
        """Monotonic time in seconds."""
        return time.monotonic()

    async def close(self) -> None:
        """Close the connections, if the HTTP client is this wire's own."""
        if self._mine:
            await self._http.aclose()


class _AsyncResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.head = response
        self._chunks: AsyncIterator[bytes] | None = None

    async def read(self) -> bytes:
        try:
            return await self.head.aread()
        except httpx.TransportError:
            _if_cancelled()
            raise

    async def chunk(self) -> bytes | None:
        self._chunks = self._chunks or self.head.aiter_bytes()
        try:
            return await anext(self._chunks, None)
        except httpx.TransportError:
            _if_cancelled()
            raise

    async def close(self) -> None:
        await self.head.aclose()


def _if_cancelled() -> None:
    """Raise ``CancelledError`` if an error hides it: closing a connection may fail while a task is cancelled."""
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError from None


class BlockingWire:
    """The network, without an event loop: no method suspends."""

    def __init__(self, http_client: httpx.Client | None = None) -> None:
        self._http = http_client or httpx.Client(trust_env=False, limits=_LIMITS)
        self._mine = http_client is None

    def build(self, method: str, url: str, **more: Any) -> httpx.Request:
        """A request, with what the HTTP client adds to it."""
        return self._http.build_request(method, url, **more)

    async def send(self, request: httpx.Request) -> WireResponse:
        """Send a request. Raises ``httpx.RequestError``."""
        return _BlockingResponse(self._http.send(request, stream=True, follow_redirects=False))

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        time.sleep(seconds)  # noqa: ASYNC251  this is what it is for

    def clock(self) -> float:
        """Monotonic time in seconds."""
        return time.monotonic()

    async def close(self) -> None:
        """Close the connections, if the HTTP client is this wire's own."""
        if self._mine:
            self._http.close()


class _BlockingResponse:
    def __init__(self, response: httpx.Response) -> None:
        self.head = response
        self._chunks: Iterator[bytes] | None = None

    async def read(self) -> bytes:
        return self.head.read()

    async def chunk(self) -> bytes | None:
        self._chunks = self._chunks or self.head.iter_bytes()
        return next(self._chunks, None)

    async def close(self) -> None:
        self.head.close()
