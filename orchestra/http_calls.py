"""Calls over HTTP: httpx's requests and answers on aiohttp's connections, without the layers of httpx's client.

Those (cookies, redirects, authentication, URLs merged anew for each call) cost more than all the rest of a call.
"""

import select
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


class Address:
    """Where calls go, with what all of them carry. ``base_url``: the paths of calls are put behind it."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, base_url: str, headers: Mapping[str, str], timeout: httpx.Timeout
    ) -> None:
        self._transport = transport
        self._base_url = base_url.rstrip("/")
        # The bytes are read as they come, so nobody on the way may compress them.
        self._headers = httpx.Headers({"accept-encoding": "identity", **headers})
        self._extensions = {"timeout": timeout.as_dict()}
        self._urls: dict[str, httpx.URL] = {}

    @asynccontextmanager
    async def call(self, method: str, path: str, content: bytes | None = None) -> AsyncIterator[httpx.Response]:
        """One call; its answer, not read yet. Leaving early closes the call. Raises what httpx's client raises."""
        request = self.request(method, path, content)
        response = await self._transport.handle_async_request(request)
        try:
            yield response
        finally:
            await response.aclose()

    def request(self, method: str, path: str, content: bytes | None = None) -> httpx.Request:
        """What a call sends."""
        if path not in self._urls:
            self._urls[path] = httpx.URL(self._base_url + path)
        return httpx.Request(
            method, self._urls[path], headers=self._headers, content=content, extensions=self._extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def transport(*, keep_alive_seconds: float, rest_seconds: float = 0.0, tls: bool = False) -> AiohttpTransport:
    """Connections without limit of number, kept for so long, and used again once they have rested."""

    def session() -> aiohttp.ClientSession:
        context = httpx.create_ssl_context() if tls else True
        connector = _Connector(rest_seconds, limit=0, keepalive_timeout=keep_alive_seconds, ssl=context)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return AiohttpTransport(client=session)


class _Connector(aiohttp.TCPConnector):
    """Uses a connection again only when its server has had time to close it after the last answer, and has not.

    Some servers (llama.cpp's) promise to keep a connection and close it after every stream: a call down such a
    connection is lost, and nobody may send it again unasked.
    """

    def __init__(self, rest_seconds: float, **more: Any) -> None:
        super().__init__(**more)
        self._rest_seconds = rest_seconds

    async def _get(self, key: Any, traces: Any) -> Any:
        kept = self._conns.get(key)  # The one that has rested longest first.
        while kept and _has_news(kept[0][0].transport):
            kept.popleft()[0].close()
        if kept and monotonic() - kept[0][1] < self._rest_seconds:
            return None
        return await super()._get(key, traces)


def _has_news(transport: Any) -> bool:
    """True for a connection that is closed, or on which something came although nothing was asked for."""
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
