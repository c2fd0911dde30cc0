"""How every provider that is a server is reached: limits, and connections that are made and kept as they must be."""

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import httpx

from orchestra.http_calls import Keeping, Patience

_MAX_ERROR_BYTES = 64 * 1024
# Many servers close a quiet connection after 5 s; one that is just being closed would lose our call. And a server that
# is about to close a connection after an answer does so within milliseconds.
KEEPING = Keeping(seconds=4.0, rest_seconds=0.02)


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

    @property
    def patience(self) -> Patience:
        """The limits of time as `orchestra.http_calls` wants them."""
        return Patience(self.connect_seconds, self.idle_seconds)


async def beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """As much of an answer as is needed to see what is wrong."""
    body = bytearray()
    with suppress(aiohttp.ClientError, httpx.HTTPError):  # What came says what is wrong, or the status does.
        async for chunk in chunks:
            body += chunk
            if len(body) > _MAX_ERROR_BYTES:
                break
    return bytes(body)
