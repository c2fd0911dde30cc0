"""Batches that are small only while packed, built without ever holding the unpacked bytes."""

import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import cramjam
import lz4.frame
import zstandard
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS: Mapping[str, int] = MappingProxyType({"none": 0, "gzip": 1, "snappy": 2, "raw snappy": 2, "lz4": 3, "zstd": 4})
# Unpacked size of one record; snappy packs no better, gzip is slow to build, raw snappy is built as a whole.
MAX_BYTES: Mapping[str, int] = MappingProxyType(
    {"gzip": 256 << 20, "snappy": 40 << 20, "raw snappy": 40 << 20, "lz4": 480 << 20, "zstd": 800 << 20}
)
_CHUNK = b" " * (1 << 20)
_XERIAL_HEADER = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK = 32 * 1024
_HEADER = struct.Struct(">hiqqqhii")


@dataclass(frozen=True)
class Record:
    """One record of a batch. ``value``: its bytes, or a number of spaces."""

    value: bytes | int | None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes | None]] = ()

    def parts(self, offset_delta: int) -> Iterator[bytes]:
        """Its bytes as encoded in a batch."""
        head = b"\0" + _varint(0) + _varint(offset_delta) + _sized(self.key)
        tail = _varint(len(self.headers)) + b"".join(_sized(name) + _sized(value) for name, value in self.headers)
        if not isinstance(self.value, int):
            body = head + _sized(self.value) + tail
            yield _varint(len(body)) + body
            return
        head += _varint(self.value)
        yield _varint(len(head) + self.value + len(tail)) + head
        yield from (_CHUNK for _ in range(self.value // len(_CHUNK)))
        yield _CHUNK[: self.value % len(_CHUNK)] + tail


@dataclass
class Batch:
    """A finished batch for aiokafka's producer: ``producer.send_batch(batch, topic, partition=…)``."""

    raw: bytes
    records: int

    def _build(self) -> bytes:
        return self.raw

    def record_count(self) -> int:
        """The number of records."""
        return self.records

    def size(self) -> int:
        """The packed size in bytes."""
        return len(self.raw)

    def closed(self) -> bool:
        """Always true: nothing can be added."""
        return True

    def close(self) -> None:
        """Does nothing: it is closed already."""


def batch(codec: str, records: Sequence[Record], base_offset: int = 0) -> Batch:
    """A batch of these records, compressed while they are written."""
    parts = (part for delta, record in enumerate(records) for part in record.parts(delta))
    now = int(time.time() * 1000)
    counted = _HEADER.pack(CODECS[codec], len(records) - 1, now, now, -1, -1, -1, len(records)) + packed(codec, parts)
    checked = struct.pack(">ibI", -1, 2, calc_crc32c(counted)) + counted
    return Batch(struct.pack(">qi", base_offset, len(checked)) + checked, len(records))


@cache
def bomb(codec: str, size: int) -> Batch:
    """A batch of one record that unpacks to ``size`` bytes."""
    return batch(codec, [Record(size)])


def packed(codec: str, parts: Iterable[bytes]) -> bytes:
    """Bytes compressed with one of Kafka's codecs."""
    match codec:
        case "gzip":
            pack = zlib.compressobj(9, wbits=31)
            return b"".join(map(pack.compress, parts)) + pack.flush()
        case "zstd":
            zstd = zstandard.ZstdCompressor().compressobj()
            return b"".join(map(zstd.compress, parts)) + zstd.flush()
        case "lz4":
            frame = lz4.frame.LZ4FrameCompressor(block_linked=False, block_size=lz4.frame.BLOCKSIZE_MAX4MB)
            return bytes(frame.begin() + b"".join(map(frame.compress, parts)) + frame.flush())
        case "snappy":
            return _XERIAL_HEADER + b"".join(_blocks(parts))
        case "raw snappy":
            return bytes(cramjam.snappy.compress_raw(b"".join(parts)))
    return b"".join(parts)


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for at in range(0, len(part), _XERIAL_BLOCK):
            block = _snappy(part[at : at + _XERIAL_BLOCK])
            yield struct.pack(">i", len(block)) + block


@cache
def _snappy(data: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(data))


def _varint(value: int) -> bytes:
    written = bytearray()
    encode_varint(value, written.append)
    return bytes(written)


def _sized(data: bytes | None) -> bytes:
    return _varint(-1) if data is None else _varint(len(data)) + data
