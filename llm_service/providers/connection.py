"""How every provider that is a server is reached: limits, connections that are kept as they must be, readable bytes."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import httpx

from orchestra.http.calls import Keeping, Patience
from schemas.errors import ErrorCode, OrchestraError

Read = Callable[[], Awaitable[bytes]]
"""Gives what has come next of an answer; no bytes when it has ended."""

_MAX_ERROR_BYTES = 64 * 1024
_MOST_UNPACKED = 64 * 1024
_PACKED_BY_ZLIB = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
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
        """The limits of time as `orchestra.http.calls` wants them."""
        return Patience(self.connect_seconds, self.idle_seconds)


def readable(headers: Mapping[str, str], read: Read) -> Read:
    """The same, unpacked where a server has packed its answer though it was asked not to."""
    encoding = headers.get("content-encoding")
    return read if encoding in (None, "", "identity") else _Unpacked(str(encoding), read).read


class _Unpacked:
    """An answer that was packed. Little comes out at a time, so that a reader who has had too much can stop."""

    def __init__(self, encoding: str, read: Read) -> None:
        self._encoding = encoding
        self._read = read
        self._packed = b""
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)

    async def read(self) -> bytes:
        """What comes next, at most 64 KiB. Raises ``bad_upstream`` for what cannot be unpacked."""
        if self._encoding.strip().lower() not in _PACKED_BY_ZLIB:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider packed its answer unasked.")
        if self._packed:
            await asyncio.sleep(0)  # However much comes out of a little, others have their turn.
        try:
            while self._packed or (more := await self._read()):
                packed, self._packed = self._packed or more, b""
                if self._inflate.eof:  # One packed text behind another is allowed.
                    self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
                text = self._inflate.decompress(packed, _MOST_UNPACKED)
                self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
                if text:
                    return text
            return self._inflate.flush()
        except zlib.error:
            raise OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider packed its answer badly.") from None


async def beginning(read: Read) -> bytes:
    """As much of an answer as is needed to see what is wrong."""
    body = bytearray()
    # What came says what is wrong, or the status does.
    with suppress(aiohttp.ClientError, httpx.HTTPError, OrchestraError):
        while len(body) <= _MAX_ERROR_BYTES and (chunk := await read()):
            body += chunk
    return bytes(body)
