"""How every provider that is a server is reached: limits, and connections that are made and kept as they must be."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
from httpx_aiohttp import AiohttpTransport

from orchestra.http_calls import transport

_MAX_ERROR_BYTES = 64 * 1024
# Many servers close a quiet connection after 5 s; one that is just being closed would lose our call.
_KEEP_ALIVE_SECONDS = 4.0
# A server that is about to close a connection after an answer does so within milliseconds.
_REST_SECONDS = 0.02


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
    return transport(
        keep_alive_seconds=_KEEP_ALIVE_SECONDS, rest_seconds=_REST_SECONDS, tls=base_url.startswith("https:")
    )


async def beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """As much of an answer as is needed to see what is wrong."""
    body = b""
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_ERROR_BYTES:
            break
    return body
