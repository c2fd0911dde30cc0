"""Kafka's compression codecs, each as a stream that is unpacked only as far as it is read."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import cramjam
import lz4.frame
import zstandard

from schemas.topics import MAX_BATCH_BYTES

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
# Errors of the libraries for bytes that they cannot unpack.
CODEC_ERRORS = (
    zlib.error,
    zstandard.ZstdError,
    cramjam.DecompressionError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
# The largest window that Kafka's own libraries unpack, and so the largest that a broker accepts.
_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES = 16


class UnpacksToTooMuchError(Exception):
    """The next part exceeds the size of a batch, and cannot be unpacked piecewise."""


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


def reader(codec: int, packed: bytes) -> Callable[[int], bytes]:
    """A function that returns at most the given number of unpacked bytes; none at the end.

    It raises ``CODEC_ERRORS`` or ``UnpacksToTooMuchError``. Raises ``ValueError`` for an unknown codec.
    """
    if codec not in _OPEN:
        raise ValueError("no codec of Kafka's")
    return _OPEN[codec](packed).read


class _Snappy:
    """Snappy, raw or in the blocks that Java clients write. Snappy unpacks a block as a whole."""

    def __init__(self, packed: bytes) -> None:
        self._blocks = self._unpack(packed)
        self._block = io.BytesIO()
        self._left = MAX_BATCH_BYTES

    def read(self, size: int) -> bytes:
        while not (data := self._block.read(size)):
            if self._left < 0:
                raise UnpacksToTooMuchError
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._block = io.BytesIO(block)
        return data

    def _unpack(self, packed: bytes) -> Iterator[bytes]:
        for block in _xerial_blocks(packed) if packed.startswith(_XERIAL) else (packed,):
            self._left -= cramjam.snappy.decompress_raw_len(block)
            if self._left < 0:  # The claimed size, before anything is unpacked.
                raise UnpacksToTooMuchError
            yield bytes(cramjam.snappy.decompress_raw(block))


def _xerial_blocks(packed: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        start = at + 4
        at = start + int.from_bytes(packed[at:start], "big")
        if at > len(packed):
            raise EOFError
        yield packed[start:at]


def _gzip(packed: bytes) -> _Source:
    return gzip.GzipFile(fileobj=io.BytesIO(packed))


def _lz4(packed: bytes) -> _Source:
    file: _Source = lz4.frame.LZ4FrameFile(io.BytesIO(packed))
    return file


def _zstd(packed: bytes) -> _Source:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES)
    return decompressor.stream_reader(packed, read_across_frames=True)


_OPEN: dict[int, Callable[[bytes], _Source]] = {NONE: io.BytesIO, GZIP: _gzip, SNAPPY: _Snappy, LZ4: _lz4, ZSTD: _zstd}
