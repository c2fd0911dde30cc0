"""How every provider that is a server is reached: limits, and connections that are made and kept as they must be."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

_MAX_ERROR_BYTES = 64 * 1024
# Many servers close a quiet connection after 5 s; one that is just being closed would lose our call.
_KEEP_ALIVE_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """What a provider may take of our time and memory."""

    connect_seconds: float = 5
    idle_seconds: float = 60
    reply_bytes: int = 1024 * 1024

    @property
    def timeout(self) -> httpx.Timeout:
        """The limits of time as httpx wants them."""
        return httpx.Timeout(self.idle_seconds, connect=self.connect_seconds, pool=None)


def transport_to(base_url: str) -> AiohttpTransport:
    """A transport for calls to this address."""
    return AiohttpTransport(client=_secure_session if base_url.startswith("https:") else _session)


async def beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """As much of an answer as is needed to see what is wrong."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_ERROR_BYTES:
            break
    return body


def _session() -> aiohttp.ClientSession:
    # llama.cpp's server promises to keep a connection and closes it after every stream: the next call down that
    # connection is lost. Without TLS a new connection costs nothing beside a generation.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _secure_session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=httpx.create_ssl_context())
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
