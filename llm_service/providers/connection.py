"""Connection settings shared by all remote providers: limits, pooling, decompression."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import httpx

from orchestra.http.calls import KeepAlive, Timeouts
from schemas.errors import ErrorCode, OrchestraError

Read = Callable[[], Awaitable[bytes]]
"""Returns the next bytes of an answer; no bytes at its end."""

_MAX_ERROR_BYTES = 64 * 1024
_MAX_UNPACKED = 64 * 1024
_PACKED_BY_ZLIB = ("gzip", "x-gzip", "deflate")
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
# Many servers close an idle connection after 5 s, and a call on one that is just being closed would be lost. A server
# that closes the connection after a response does so within milliseconds.
KEEP_ALIVE = KeepAlive(seconds=4.0, rest_seconds=0.02)


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Limits of time and memory for a provider."""

    connect_seconds: float = 5
    idle_seconds: float = 60
    reply_bytes: int = 1024 * 1024

    @property
    def timeout(self) -> httpx.Timeout:
        """The time limits in httpx's form."""
        return httpx.Timeout(self.idle_seconds, connect=self.connect_seconds, pool=None)

    @property
    def timeouts(self) -> Timeouts:
        """The time limits in the form of `orchestra.http.calls`."""
        return Timeouts(self.connect_seconds, self.idle_seconds)


def readable(headers: Mapping[str, str], read: Read) -> Read:
    """The same, decompressed if the server compressed its answer although it was asked not to."""
    encoding = headers.get("content-encoding")
    return read if encoding in (None, "", "identity") else _Unpacked(str(encoding), read).read


class _Unpacked:
    """A compressed answer. It is decompressed in small steps, so that a reader can stop at its limit."""

    def __init__(self, encoding: str, read: Read) -> None:
        self._encoding = encoding
        self._read = read
        self._packed = b""
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)

    async def read(self) -> bytes:
        """The next bytes, at most 64 KiB. Raises ``bad_upstream`` if they cannot be decompressed."""
        if self._encoding.strip().lower() not in _PACKED_BY_ZLIB:
            raise OrchestraError(
                ErrorCode.BAD_UPSTREAM, "The model's provider sent an encoding that was not requested."
            )
        if self._packed:
            await asyncio.sleep(0)  # Let other tasks run, however much a small input decompresses to.
        try:
            while self._packed or (more := await self._read()):
                packed, self._packed = self._packed or more, b""
                if self._inflate.eof:  # Concatenated compressed streams are allowed.
                    self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
                text = self._inflate.decompress(packed, _MAX_UNPACKED)
                self._packed = self._inflate.unconsumed_tail or self._inflate.unused_data
                if text:
                    return text
            return self._inflate.flush()
        except zlib.error:
            raise OrchestraError(
                ErrorCode.BAD_UPSTREAM, "The model's provider sent an answer that cannot be decompressed."
            ) from None


async def beginning(read: Read) -> bytes:
    """As much of an answer as is needed to determine the error."""
    body = bytearray()
    # What arrived determines the error, or else the status does.
    with suppress(aiohttp.ClientError, httpx.HTTPError, OrchestraError):
        while len(body) <= _MAX_ERROR_BYTES and (chunk := await read()):
            body += chunk
    return bytes(body)
