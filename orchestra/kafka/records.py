"""Makes any record that a broker accepts readable, at a bounded cost (docs/decisions/0022).

aiokafka unpacks a batch as a whole, whatever its unpacked size, and fails at a header name that is not UTF-8. Any
producer may write either, which would end every worker that reads the partition, over and over.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from aiokafka.consumer import consumer, fetcher
from aiokafka.errors import ConsumerStoppedError, CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.legacy_records import LegacyRecordBatch, _LegacyRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from orchestra.kafka.packed_records import (
    CODEC_MASK,
    HEADER_BYTES,
    PackedBatch,
    UnreadRecord,
    header_of,
    lost,
    refuse_legacy,
)
from schemas.topics import MAX_BATCH_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES

_FORMAT_WITH_HEADERS = 2
# The codec bits in the attributes of a batch, before format 2 and since.
_OLD_CODEC_AT, _CODEC_AT = 17, 22
# A batch up to this size that unpacks to no more than a plain one may have is read at once; others in a thread.
_AT_ONCE_BYTES = 64 * 1024
_PACKED_AT_ONCE_BYTES = 16 * 1024
# Each header takes at least two bytes.
_HAS_FEW_HEADERS_BYTES = HEADER_BYTES + 2 * MAX_HEADERS
# How much is unpacked ahead of the reader.
_AHEAD_BYTES = 4 * 1024 * 1024
_POLL_SECONDS = 60.0
_WAIT_BESIDE_UNREAD_MS = 500


def read_any_record() -> None:
    """Make the consumers of this process read as this module does."""
    fetcher.MemoryRecords = _Records
    fetcher.PartitionRecords = _PartitionRecords
    fetcher.FetchResult = _FetchResult
    consumer.Fetcher = _Fetcher


class _NotUnpackedError(Exception):
    """There is more, but it has to be unpacked first."""


class _Records(_MemoryRecordsPy):  # type: ignore[misc]
    """The batches of a partition from one fetch, in pieces. Large ones wait for ``unpack``."""

    def __init__(self, data: bytes) -> None:
        self._ready: deque[Any] = deque()
        self._unpacked: list[Any] = []
        self._batch: _Opened | None = None
        self._in_thread = False
        self._is_large = False
        super().__init__(data)

    @property
    def ahead(self) -> bool:
        """Whether something unread can be read at once."""
        return bool(self._ready)

    @property
    def half_unpacked(self) -> bool:
        """Whether a batch is partly unpacked."""
        return self._batch is not None

    def has_next(self) -> bool:
        return bool(self._ready) or self._in_thread or self.half_unpacked or super().has_next()

    def waits(self) -> bool:
        """Whether the next part has to be unpacked first, and is not being unpacked."""
        if self._ready or self._in_thread:
            return False
        return self.half_unpacked or (super().has_next() and not self._read_at_once())

    def next_batch(self) -> Any:
        """The next piece. Raises ``_NotUnpackedError``."""
        if self._in_thread or self.waits():
            raise _NotUnpackedError
        return self._ready.popleft()

    def begin(self) -> None:
        """Prepare ``unpack``, in the event loop."""
        self._in_thread = True

    def unpack(self, most: int) -> int:
        """Unpack about this many bytes in a thread; returns how many.

        Stops after a batch that was already partly unpacked, so that other partitions get their turn.
        """
        spent, half = 0, self.half_unpacked
        cost = self._batch.cost if self._batch else 0
        while spent < most:
            if self._batch is None:
                if half or not super().has_next():
                    break
                self._batch, cost = _Opened(self._take()), 0
            self._unpacked.append(next(self._batch.pieces))
            spent, cost = spent + self._batch.cost - cost, self._batch.cost
            if self._batch.finished:
                self._batch = None
        return spent

    def settle(self) -> None:
        """Finish ``unpack`` in the event loop: the unpacked records become readable."""
        self._ready.extend(self._unpacked)
        self._unpacked = []
        self._in_thread = False

    def _read_at_once(self) -> bool:
        """Read the next batch if it is small, both packed and unpacked."""
        raw = self._sound(self._next_slice)
        most = _PACKED_AT_ONCE_BYTES if _codec(raw) else _AT_ONCE_BYTES
        if self._is_large or len(raw) > most:
            return False
        batch = _Opened(raw, _AT_ONCE_BYTES)
        pieces = list(batch.pieces)
        self._is_large = batch.cost >= _AT_ONCE_BYTES
        if not self._is_large:
            self._take()
            self._ready.extend(pieces)
        return not self._is_large

    def _take(self) -> memoryview:
        raw = self._sound(self._next_slice)
        self._is_large = False
        self._cache_next()
        return raw

    def _sound(self, raw: memoryview) -> memoryview:
        if len(raw) < (HEADER_BYTES if raw[self.MAGIC_OFFSET] >= _FORMAT_WITH_HEADERS else self.MIN_SLICE):
            raise CorruptRecordException("shorter than any batch")
        return raw


def _codec(raw: memoryview) -> int:
    """The codec of a batch of any format."""
    is_old = raw[_MemoryRecordsPy.MAGIC_OFFSET] < _FORMAT_WITH_HEADERS
    return raw[_OLD_CODEC_AT if is_old else _CODEC_AT] & CODEC_MASK


class _Opened:
    """One batch as received. ``pieces``: in the form of aiokafka's batches. ``cost``: bytes read so far."""

    def __init__(self, raw: memoryview, max_bytes: int = MAX_BATCH_BYTES) -> None:
        magic = raw[_MemoryRecordsPy.MAGIC_OFFSET]
        self._source: PackedBatch | None = None
        self._length = len(raw)
        if magic < _FORMAT_WITH_HEADERS:
            self._length = MAX_MESSAGE_BYTES if _codec(raw) else self._length
            self.pieces: Iterator[Any] = iter((_old(raw, magic),))
        elif not (batch := DefaultRecordBatch(raw)).validate_crc():
            self.pieces = iter((batch,))  # Its reader checks it too, and fetches it again.
        elif len(raw) < _HAS_FEW_HEADERS_BYTES and not _codec(raw):
            self.pieces = iter((_Batch(batch, raw, None),))
        else:
            self._source = PackedBatch(raw, max_bytes)
            self.pieces = _pieces(self._source)

    @property
    def finished(self) -> bool:
        """Whether the last piece was yielded, once the first was."""
        return not self._source or self._source.finished

    @property
    def cost(self) -> int:
        return self._source.unpacked if self._source else self._length


def _pieces(source: PackedBatch) -> Iterator[Any]:
    for plain, unread in source:
        yield _Batch(DefaultRecordBatch(plain), plain, unread)


def _old(raw: memoryview, magic: int) -> Any:
    """A whole batch of format 0 or 1: one record, or a packed set."""
    batch, read = LegacyRecordBatch(raw, magic), _LegacyRecordBatchPy(raw, magic)
    if not read._compression_type or not read.validate_crc():  # noqa: SLF001
        return batch
    at = read.KEY_OFFSET_V1 if magic else read.KEY_OFFSET_V0
    (key,) = struct.unpack_from(">i", raw, at)
    packed = raw[at + read.KEY_LENGTH + max(key, 0) + read.VALUE_LENGTH :]
    unread = refuse_legacy(packed, read._compression_type, read._offset, read._timestamp or 0)  # noqa: SLF001
    return _Batch(batch, None, unread) if unread else batch


class _Batch:
    """Records from aiokafka's fast parser; from the first that it cannot parse on, from the tolerant one."""

    def __init__(self, batch: Any, plain: bytes | memoryview | None, unread: UnreadRecord | None) -> None:
        self._batch = batch
        self._plain = plain
        self._unread = unread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        if self._plain is not None:
            following = self._batch.base_offset
            try:
                for record in self._records(self._plain):
                    following = record.offset + 1
                    yield record
            except CorruptRecordException as error:
                header = header_of(self._plain)
                yield header.unread(header.last_offset, lost(error, following, header.last_offset))
                return
        if self._unread:
            yield self._unread

    def validate_crc(self) -> bool:
        """Always valid: the checksum of the original batch was checked."""
        return True

    def _records(self, plain: bytes | memoryview) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            yield from islice(_PatientBatch(plain), read, None)


class _PatientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        self._buffer = _PatientBytes(self._buffer)


class _PatientBytes(bytearray):
    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        return _PatientBytes(part) if isinstance(place, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class _PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of a partition from one fetch. It pauses while something has to be unpacked."""

    _next = -1

    @property
    def next_fetch_offset(self) -> int:
        """The offset of the next record to return. A piece of a batch that starts before it does not move it back."""
        return self._next

    @next_fetch_offset.setter
    def next_fetch_offset(self, offset: int) -> None:
        self._next = max(self._next, offset)

    @property
    def has_more(self) -> bool:
        """Whether there is more, now or once it is unpacked."""
        return self._records_iterator is not None

    @property
    def batches(self) -> _Records:
        """The source of records."""
        records: _Records = self._records
        return records

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except _NotUnpackedError:
            self._records_iterator = self._unpack_records()
            raise StopIteration from None


class _FetchResult(fetcher.FetchResult):  # type: ignore[misc]
    """The rest of a fetch that was not returned yet."""

    _partition_records: _PartitionRecords | None

    @property
    def batches(self) -> _Records | None:
        """The source of records; None once all were returned."""
        return self._partition_records.batches if self._partition_records else None

    def getall(self, max_records: int | None = None) -> list[Any]:
        if not (records := self._partition_records) or not self.check_assignment(self._topic_partition):
            return []
        found = list(islice(records, max_records))
        self._update_position()
        if not records.has_more:
            self._partition_records = None
        return found


class _Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Unpacks in a thread while plain records are read; bounded in how far all partitions together are read ahead."""

    _unpacking: "asyncio.Task[None] | None" = None

    def __init__(self, client: Any, subscriptions: Any, *, fetch_max_wait_ms: int, **more: Any) -> None:
        super().__init__(client, subscriptions, fetch_max_wait_ms=fetch_max_wait_ms, **more)
        self._max_wait_ms = fetch_max_wait_ms

    async def fetched_records(self, partitions: Any, timeout: float = 0, max_records: int | None = None) -> Any:
        if self._unpacking and self._unpacking.done():
            self._unpacking.result()
        self._unpack()
        found = await super().fetched_records(partitions, timeout, max_records)
        for partition in found:
            if partition in self._records:  # It has more; the others get their turn first.
                self._records.move_to_end(partition)
        return found

    async def next_record(self, partitions: Any) -> Any:
        while not self._closed:
            for records in (await self.fetched_records(partitions, _POLL_SECONDS, 1)).values():
                return records[0]
        raise ConsumerStoppedError

    async def close(self) -> None:
        await super().close()
        if self._unpacking:
            self._unpacking.cancel()
            await asyncio.wait({self._unpacking})

    def _get_actions_per_node(self, assignment: Any) -> Any:
        # A request leaves out partitions with unread records, whose next records wait until it returns.
        self._fetch_max_wait_ms = min(self._max_wait_ms, _WAIT_BESIDE_UNREAD_MS) if self._records else self._max_wait_ms
        return super()._get_actions_per_node(assignment)

    async def _proc_fetch_request(self, assignment: Any, node_id: Any, request: Any) -> Any:
        brought_some = await super()._proc_fetch_request(assignment, node_id, request)
        self._unpack()
        return brought_some

    def _unpack(self) -> None:
        """Unpack some of what waits, unless that is in progress or failed, or unpacked records are still unread."""
        if self._unpacking and (not self._unpacking.done() or self._unpacking.exception()):
            return
        fetched = [found.batches for found in self._records.values() if type(found) is _FetchResult and found.batches]
        waiting = [batches for batches in fetched if batches.waits()]
        if waiting and not any(batches.ahead for batches in fetched):
            # Only one batch is partly unpacked at a time: the state of its codec may be large.
            waiting.sort(key=lambda batches: not batches.half_unpacked)
            self._unpacking = asyncio.create_task(self._unpack_in_thread(waiting))

    async def _unpack_in_thread(self, waiting: Sequence[_Records]) -> None:
        for batches in waiting:
            batches.begin()
        try:
            await asyncio.to_thread(_unpack_some, waiting)
        finally:
            for batches in waiting:
                batches.settle()
            for waiter in tuple(self._fetch_waiters):
                self._notify(waiter)


def _unpack_some(waiting: Sequence[_Records]) -> None:
    left = _AHEAD_BYTES
    for batches in waiting:
        if left <= 0:
            break
        left -= batches.unpack(left)
