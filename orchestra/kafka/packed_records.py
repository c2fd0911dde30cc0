"""Splits a packed Kafka batch into small plain batches, a record at a time, within bounds (docs/decisions/0022)."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from orchestra.kafka.codecs import CODEC_ERRORS, UnpacksToTooMuchError, reader
from schemas.errors import ErrorCode
from schemas.topics import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_HEADERS, MAX_MESSAGE_BYTES

CODEC_MASK = 0x07
_LOG_APPEND_TIME = 0x08
_CREATE_TIME = 0
_CHUNK_BYTES = 64 * 1024
_PIECE_BYTES = 1024 * 1024
_PIECE_RECORDS = 500
# Kept of an unread record: its key and headers, if they are no longer than this together.
_KEPT_BYTES = 64 * 1024
_VARINT_BITS = 70
_OLD_FORMAT = f"packed in a format before Kafka 0.11, and more than {MAX_MESSAGE_BYTES} bytes unpacked"


Headers = tuple[tuple[str, bytes | None], ...]


class Unread(bytes):
    """An empty placeholder for a value that was not kept. ``length``: its bytes, None if unknown.

    ``code`` and ``detail`` say why. It may stand for more than one record.
    """

    code: ErrorCode
    detail: str
    length: int | None

    @classmethod
    def because(cls, code: ErrorCode, detail: str, length: int | None = None) -> "Unread":
        """A placeholder for a value that was not kept for this reason."""
        made = cls()
        made.code, made.detail, made.length = code, detail, length
        return made


@dataclass(frozen=True)
class UnreadRecord:
    """A record without its value, in the form of aiokafka's. If it replaces several, ``offset`` is the last one's."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: Unread
    key: bytes | None = None
    headers: Headers = ()
    checksum: None = None


class Chunk(NamedTuple):
    """Unpacked records as a batch of their own, and possibly one record after them that was not kept."""

    plain: bytes
    unread: UnreadRecord | None


class BatchHeader(NamedTuple):
    """The header of a batch of format 2."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    def plain(self, records: bytes, count: int, last_offset_delta: int) -> bytes:
        """A plain batch of these records that equals this one except for its checksum."""
        attributes, length = self.attributes & ~CODEC_MASK, len(records) + _HEADER.size - _BEFORE_LENGTH_COUNTS
        changed = self._replace(
            length=length, attributes=attributes, last_offset_delta=last_offset_delta, records=count
        )
        return _HEADER.pack(*changed) + records

    def unread(
        self, last: int, value: Unread, timestamp_delta: int = 0, key: bytes | None = None, headers: Headers = ()
    ) -> UnreadRecord:
        """A record of this batch that is not kept; ``last``: its offset, or that of the last of several."""
        log_append_time = bool(self.attributes & _LOG_APPEND_TIME)
        timestamp = self.max_timestamp if log_append_time else self.first_timestamp + timestamp_delta
        return UnreadRecord(last, timestamp, int(log_append_time), value, key, headers)

    @property
    def last_offset(self) -> int:
        """The offset of the batch's last record."""
        return self.base_offset + self.last_offset_delta


_HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = _HEADER.size
_BEFORE_LENGTH_COUNTS = 12


def header_of(raw: bytes | memoryview) -> BatchHeader:
    """The header of a whole batch."""
    return BatchHeader(*_HEADER.unpack_from(raw))


class PackedBatch:
    """One batch of format 2, packed or not, to be iterated once. ``finished``: the last piece was yielded."""

    def __init__(self, raw: bytes | memoryview, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self.finished = False
        self._header = header = header_of(raw)
        codec, packed = header.attributes & CODEC_MASK, bytes(raw[HEADER_BYTES:])
        self._stream = _Stream(codec, packed, header.last_offset_delta, max_bytes)

    @property
    def unpacked(self) -> int:
        """How many bytes have been unpacked so far."""
        return self._stream.unpacked

    def __iter__(self) -> Iterator[Chunk]:
        """The records, in pieces of about a mebibyte; the last piece ends with the batch, and may be empty.

        A record that is too large is unread, as is everything past the bounds or that cannot be unpacked.
        """
        header, stream, following = self._header, self._stream, self._header.base_offset
        try:
            for _ in range(min(header.records, MAX_BATCH_RECORDS)):
                length = stream.varint()
                if length > MAX_MESSAGE_BYTES or stream.has_too_many_headers(length):
                    piece = self._pass_over(length)
                elif stream.add_record(length):
                    piece = Chunk(header.plain(*stream.take()), None)
                else:
                    continue
                following = header_of(piece.plain).last_offset + 1
                yield piece
            if header.records > MAX_BATCH_RECORDS:
                raise _PastBoundError
            records, count, _ = stream.take()
            self.finished = True
            yield Chunk(header.plain(records, count, header.last_offset_delta), None)
        except (*_PAST_BOUND, *_UNREADABLE) as error:
            try:
                records, count, delta = stream.take()
            except (ValueError, IndexError):  # These are corrupt as well.
                records, count, delta = b"", 0, 0
            following = header.base_offset + delta + 1 if count else following
            unread = None
            if following <= header.last_offset:
                unread = header.unread(header.last_offset, lost(error, following, header.last_offset))
            self.finished = True
            yield Chunk(header.plain(records, count, header.last_offset_delta), unread)

    def _pass_over(self, length: int) -> Chunk:
        """The piece so far, followed by the record of this length, unread."""
        header, stream = self._header, self._stream
        records, count, _ = stream.take()
        passed = stream.pass_over(length)
        why = f"more than {MAX_HEADERS} headers"
        if length > MAX_MESSAGE_BYTES:
            unit = "unpacked bytes" if header.attributes & CODEC_MASK else "bytes"
            why = f"more than {MAX_MESSAGE_BYTES} {unit}: {length}"
        value = Unread.because(ErrorCode.TOO_LARGE, f"the record has {why}{passed.digest}", passed.value_length)
        offset = header.base_offset + passed.offset_delta
        unread = header.unread(offset, value, passed.timestamp_delta, passed.key, passed.headers)
        return Chunk(header.plain(records, count, passed.offset_delta), unread)


def refuse_legacy(raw: bytes | memoryview, codec: int, offset: int, timestamp: int) -> UnreadRecord | None:
    """The placeholder for a packed set of a format before 2; None if it unpacks to at most a record's size.

    No broker since Kafka 3.0 writes these. ``raw``: the packed bytes. ``offset``: that of its last record, the only one
    known before unpacking.
    """
    try:
        if _Stream(codec, bytes(raw)).ends_within(MAX_MESSAGE_BYTES):
            return None
        value = Unread.because(ErrorCode.TOO_LARGE, f"{_OLD_FORMAT}: the set of records up to offset {offset}")
    except (*_PAST_BOUND, *_UNREADABLE) as error:
        value = lost(error, offset, offset)
    return UnreadRecord(offset, timestamp, _CREATE_TIME, value)


class _PastBoundError(Exception):
    """Nothing of a batch is read past this point."""


_PAST_BOUND = (_PastBoundError, UnpacksToTooMuchError)
_UNREADABLE = (*CODEC_ERRORS, IndexError)


def lost(error: Exception, first: int, last: int) -> Unread:
    """The placeholder for the records from first to last."""
    which = f"the record at offset {first}" if first == last else f"the records at offsets {first} to {last}"
    if isinstance(error, _PAST_BOUND):
        bounds = f"{MAX_BATCH_BYTES} unpacked bytes or {MAX_BATCH_RECORDS} records of one batch"
        return Unread.because(ErrorCode.TOO_LARGE, f"not read, behind more than {bounds}: {which}")
    return Unread.because(ErrorCode.NOT_JSON, f"cannot be unpacked ({type(error).__name__}): {which}")


@dataclass
class _PassedOver:
    """What is known of a record that was not kept."""

    timestamp_delta: int
    offset_delta: int
    key: bytes | None = None
    value_length: int | None = None
    headers: Headers = ()
    digest: str = ""


class _Stream:
    """The unpacked bytes of a batch, and in them a *piece*: the records added and not taken yet."""

    def __init__(self, codec: int, packed: bytes, last_offset_delta: int = 0, max_bytes: int = MAX_BATCH_BYTES) -> None:
        self.unpacked = 0
        self._max_bytes = max_bytes
        self._last_offset_delta = last_offset_delta
        self._codec = codec
        self._packed = packed
        self._reader: Callable[[int], bytes] | None = None
        self._data = bytearray()
        self._at = 0
        # The piece: its start, and relative to it its end and the start of its last record.
        self._start = self._end = self._last = 0
        self._count = 0

    def varint(self) -> int:
        """Read a number. All of these methods raise ``_PAST_BOUND`` and ``_UNREADABLE``."""
        while True:
            try:
                number, self._at = _number(self._data, self._at)
            except IndexError:
                self._fill(1)
            else:
                return number

    def has_too_many_headers(self, length: int) -> bool:
        """Look into the next record, which has this length."""
        if length < 2 * MAX_HEADERS:  # Each takes at least two bytes.
            return False
        self._have(length)
        at = self._at + 1
        for _ in ("timestamp", "offset"):
            _, at = _number(self._data, at)
        for _ in ("key", "value"):
            size, at = _number(self._data, at)
            at += max(size, 0)
        return _number(self._data, at)[0] > MAX_HEADERS

    def add_record(self, length: int) -> bool:
        """Add the next record, of this length, to the piece; true if the piece is large enough."""
        if length < 0:
            raise ValueError
        self._have(length)
        self._last = self._at - self._start
        self._at += length
        self._end = self._at - self._start
        self._count += 1
        return self._count == _PIECE_RECORDS or self._end > _PIECE_BYTES

    def take(self) -> tuple[bytes, int, int]:
        """The records of the piece, their number, and the offset delta of the last. The next piece starts here."""
        records, count, last = bytes(self._data[self._start : self._start + self._end]), self._count, self._last
        self._start, self._end, self._last, self._count = self._at, 0, 0, 0
        if not count:
            return b"", 0, 0
        _, at = _number(records, last + 1)
        return records, count, self._in_batch(_number(records, at)[0])

    def pass_over(self, length: int) -> _PassedOver:
        """Read the next record, of this length, and keep little of it. No piece may be in progress."""
        end = self._position + length
        self._read(1)
        passed = _PassedOver(self.varint(), self._in_batch(self.varint()))
        try:
            passed.key = self._kept(self._size(end), _KEPT_BYTES)
            self._pass_value(self._size(end), passed)
            passed.headers = tuple(self._headers(end))
            self._kept(end - self._position, 0)
        except (*_PAST_BOUND, EOFError):
            pass  # The next read raises it again.
        self._start = self._at
        return passed

    def ends_within(self, most: int) -> bool:
        """Whether at most this many bytes are left."""
        try:
            while self.unpacked <= most:
                self._read(_CHUNK_BYTES)
        except EOFError:
            return True
        return False

    def _in_batch(self, offset_delta: int) -> int:
        if not 0 <= offset_delta <= self._last_offset_delta:
            raise ValueError
        return offset_delta

    @property
    def _position(self) -> int:
        return self.unpacked - len(self._data) + self._at

    def _size(self, end: int) -> int:
        """Length of the next part of a record that ends at ``end``; negative: absent."""
        size = self.varint()
        if size > end - self._position:
            raise ValueError
        return size

    def _pass_value(self, size: int, passed: _PassedOver) -> None:
        if size < 0:
            return
        passed.value_length, read, digest = size, 0, sha256()
        try:
            for chunk in self._chunks(size):
                digest.update(chunk)
                read += len(chunk)
        finally:
            of = f"its value of {size} bytes" if read == size else f"the first {read} of the {size} bytes of its value"
            passed.digest = f"; SHA-256 of {of}: {digest.hexdigest()}"

    def _headers(self, end: int) -> Iterator[tuple[str, bytes | None]]:
        """The first headers, as long as they are short."""
        room = _KEPT_BYTES
        for _ in range(min(self.varint(), MAX_HEADERS)):
            name = self._kept(self._size(end), room)
            if name is None:
                return
            size = self._size(end)
            room -= len(name)
            value = self._kept(size, room)
            if value is None and size >= 0:
                return
            room -= max(size, 0)
            yield name.decode("utf-8", "backslashreplace"), value

    def _kept(self, size: int, most: int) -> bytes | None:
        """The next bytes, if there are at most ``most``; otherwise skip them."""
        chunks = self._chunks(size)
        if 0 <= size <= most:
            return b"".join(chunks)
        for _ in chunks:
            pass
        return None

    def _chunks(self, size: int) -> Iterator[bytes]:
        while size > 0:
            chunk = self._read(min(size, _CHUNK_BYTES))
            size -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        if self._at == len(self._data):
            self._fill(size)
        data = bytes(self._data[self._at : self._at + size])
        self._at += len(data)
        self._start = self._at
        return data

    def _have(self, count: int) -> None:
        while (missing := count - len(self._data) + self._at) > 0:
            self._fill(missing)

    def _fill(self, wanted: int) -> None:
        if self._reader is None:
            self._reader = reader(self._codec, self._packed)
        left = self._max_bytes - self.unpacked
        if not left:
            raise _PastBoundError
        chunk = self._reader(min(max(wanted, _CHUNK_BYTES), left))
        if not chunk:
            raise EOFError
        self.unpacked += len(chunk)
        del self._data[: self._start]
        self._at -= self._start
        self._start = 0
        self._data += chunk


def _number(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """The variable-length number at this position, and the position after it."""
    result = 0
    for shift in range(0, _VARINT_BITS, 7):
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (result >> 1) ^ -(result & 1), at
    raise ValueError
