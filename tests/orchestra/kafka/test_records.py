"""Promises of orchestra/kafka/records.py: any record that a broker takes can be read."""

import asyncio
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import patch

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import _LegacyRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from faults.bombs import CODECS, Record, batch
from orchestra.kafka.packed_records import Unread
from orchestra.kafka.records import _Fetcher, _FetchResult, _PartitionRecords, _Records
from schemas.topics import MAX_MESSAGE_BYTES

Header = tuple[str, bytes | None]
PARTITION = TopicPartition("llm.requests", 3)
KAFKAS_CODECS = [name for name in CODECS if name != "raw snappy"]


class Name(str):
    """A header name made of these bytes."""

    __slots__ = ("raw",)

    def __new__(cls, raw: bytes) -> Self:
        made = super().__new__(cls)
        made.raw = raw
        return made

    def encode(self, *_: object) -> bytes:
        """The bytes."""
        return self.raw


def fetched(records: list[tuple[bytes | None, bytes | None, list[Header]]], codec: int = 0) -> bytes:
    """A batch with these keys, values and headers, as a broker sends it."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 1_000_000)
    for offset, (key, value, headers) in enumerate(records):
        assert builder.append(offset, 1_700_000_000_000, key, value, headers)
    return bytes(builder.build())


def unpack(records: _Records) -> None:
    """Unpack what waits, as a thread does."""
    records.begin()
    assert records.unpack(1)
    records.settle()


def read(*batches: bytes) -> list[Any]:
    """All records of a fetch."""
    records = _Records(b"".join(batches))
    found = []
    while records.has_next():
        if records.waits():
            unpack(records)
        batch = records.next_batch()
        assert batch.validate_crc()
        found += list(batch)
    return found


def fields(records: Iterable[Any]) -> list[tuple[Any, ...]]:
    """What there is to know of each of these."""
    names = ("offset", "timestamp", "timestamp_type", "key", "value", "checksum")
    return [(*(getattr(each, name) for name in names), list(each.headers)) for each in records]


def as_aiokafka(raw: bytes) -> list[tuple[Any, ...]]:
    """The same as aiokafka's own reader has it."""
    records, found = MemoryRecords(raw), []
    while records.has_next():
        found += fields(records.next_batch())
    return found


@pytest.mark.parametrize("codec", [CODECS[name] for name in KAFKAS_CODECS], ids=KAFKAS_CODECS)
def test_a_header_name_that_is_no_text_is_shown_as_its_bytes(codec: int) -> None:
    """The records before it, it, and those behind it are read, packed or not; each once, in order."""
    bad: list[Header] = [(Name(b"\xffx"), b"\xfe"), ("good", None)]
    batch = fetched([(b"k", b"0", [("a", b"1")]), (None, b"1", bad), (b"k", None, [])], codec)

    records = read(batch, fetched([(None, b"3", [])]))

    assert [b"0", b"1", None, b"3"] == [each.value for each in records]
    assert [b"k", None, b"k", None] == [each.key for each in records]
    assert [("\\xffx", b"\xfe"), ("good", None)] == list(records[1].headers)
    assert [0, 1, 2, 0] == [each.offset for each in records]


RECORDS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=5),
        st.none() | st.binary(max_size=20),
        st.lists(st.tuples(st.binary(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
    ),
    min_size=1,
    max_size=6,
)


@given(RECORDS)
def test_whatever_was_written_is_read(
    records: list[tuple[bytes | None, bytes | None, list[tuple[bytes, bytes]]]],
) -> None:
    """Keys, values and header values byte by byte; names as text, as well as can be."""
    named = [(key, value, [(Name(name), text) for name, text in headers]) for key, value, headers in records]

    found = read(fetched(named))  # type: ignore[arg-type]

    assert records == [
        (each.key, each.value, [(name, text) for (name, _), (_, text) in zip(headers, each.headers, strict=True)])
        for each, (_, _, headers) in zip(found, records, strict=True)
    ]
    assert [[name.decode("utf-8", "backslashreplace") for name, _ in headers] for *_, headers in records] == [
        [name for name, _ in each.headers] for each in found
    ]


@given(
    codec=st.sampled_from(list(CODECS)),
    records=st.lists(
        st.builds(
            Record,
            value=st.none() | st.binary(max_size=20) | st.integers(0, 200_000),
            key=st.none() | st.binary(max_size=5),
            headers=st.lists(
                st.tuples(st.text(max_size=5).map(str.encode), st.none() | st.binary(max_size=5)), max_size=3
            ),
        ),
        min_size=1,
        max_size=1200,
    ),
    base=st.integers(0, 2**40),
)
def test_an_honest_batch_is_read_as_aiokafka_reads_it(codec: str, records: list[Record], base: int) -> None:
    """In every codec, however long it is: the same offsets, times, keys, values and headers."""
    raw = batch(codec, records, base).raw

    assert as_aiokafka(raw) == fields(read(raw))


@pytest.mark.parametrize(
    ("magic", "codec"), [(0, "none"), (0, "gzip"), (0, "snappy"), (1, "none"), (1, "gzip"), (1, "snappy"), (1, "lz4")]
)
def test_an_old_batch_is_read_as_aiokafka_reads_it(magic: Any, codec: str) -> None:
    """Of the formats before 2, packed or not."""
    builder = _LegacyRecordBatchBuilderPy(magic, CODECS[codec], 10_000)
    for offset in range(3):
        builder.append(offset, 1_700_000_000_000, b"key", b"value %d" % offset)
    raw = bytes(builder.build())

    assert as_aiokafka(raw) == fields(read(raw))


def test_an_old_batch_that_unpacks_to_too_much_is_not_unpacked() -> None:
    """It is one record without a value, at the last offset, which is all that it tells."""
    builder = _LegacyRecordBatchBuilderPy(1, CODECS["gzip"], 100_000_000)
    for offset in range(3):
        builder.append(offset, 1_700_000_000_000, b"key", bytes(MAX_MESSAGE_BYTES // 2))

    (record,) = read((2).to_bytes(8, "big") + bytes(builder.build())[8:])

    assert isinstance(record.value, Unread)
    assert (2, "too_large") == (record.offset, record.value.code)


def test_a_batch_that_was_damaged_is_fetched_again() -> None:
    """It is no dead letter: the next fetch may bring it whole."""
    raw = bytearray(batch("zstd", [Record(b"value")]).raw)
    raw[-1] ^= 1
    records = _Records(bytes(raw))
    unpack(records)

    assert not records.next_batch().validate_crc()


def test_records_that_contradict_their_length_are_one_unread_record() -> None:
    """The records before it are read, and those in later batches; the broken one is not fetched again and again."""
    broken = Record(b"", headers=[(b"", b"")])
    with patch.object(Record, "parts", lambda _, delta: [b"\x0e\0\0" + bytes([2 * delta]) + b"\1\1\x7f\0"]):
        raw = batch("none", [broken, broken]).raw

    records = read(raw, batch("none", [Record(b"next")], 2).raw)

    assert [("not_json", 1), 2] == [(records[0].value.code, records[0].offset), records[1].offset]


class Assignment:
    """Replaces what aiokafka knows of a partition that is read."""

    active = True

    def __init__(self) -> None:
        self.state = SimpleNamespace(position=0, paused=False, consumed_to=self.consumed_to)

    def state_value(self, _: TopicPartition) -> SimpleNamespace:
        """The partition's."""
        return self.state

    def consumed_to(self, position: int) -> None:
        """So far it was handed out."""
        self.state.position = position


def result(raw: bytes, assignment: Assignment, offset: int = 0) -> _FetchResult:
    """What a fetch from this offset on brought, as aiokafka's fetcher keeps it."""
    records = _PartitionRecords(PARTITION, _Records(raw), None, offset, None, None, True, 1)
    return _FetchResult(PARTITION, assignment=assignment, partition_records=records, backoff=0)


def values(records: Sequence[Any]) -> list[bytes]:
    """The values of these."""
    return [each.value for each in records]


def test_what_is_packed_waits_and_what_is_plain_does_not() -> None:
    """Records in front of a packed batch are handed out at once, the others when they are unpacked, none twice."""
    plain, assignment = batch("none", [Record(b"0"), Record(b"1")]).raw, Assignment()
    found = result(plain + batch("lz4", [Record(b"2"), Record(100_000)], 2).raw, assignment)
    assert ([b"0"], 1) == (values(found.getall(1)), assignment.state.position)
    assert [[b"1"], []] == [values(found.getall(10)), found.getall(10)]
    assert (True, 2) == (found.has_more(), assignment.state.position)

    assert found.batches
    unpack(found.batches)

    assert ([b"2", b" " * 100_000], 4) == (values(found.getall(10)), assignment.state.position)
    assert not found.has_more()


@pytest.mark.parametrize("offset", [0, 1, 499, 500, 501, 1_100, 1_199])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_reading_begins_where_it_is_told_to(codec: str, offset: int) -> None:
    """A fetch brings whole batches: what lies before the position is not handed out, in however many pieces it came."""
    assignment = Assignment()
    assignment.state.position = offset
    found = result(batch(codec, [Record(b"x" * 100)] * 1_200).raw, assignment, offset)

    offsets: list[int] = []
    while found.has_more():
        offsets += [each.offset for each in found.getall(300)]
        if found.batches and found.batches.waits():
            unpack(found.batches)

    assert list(range(offset, 1_200)) == offsets


def test_a_partition_that_is_read_no_longer_gives_nothing() -> None:
    """What a rebalance or a pause has taken away is dropped, unpacked or not."""
    assignment = Assignment()
    found = result(batch("gzip", [Record(b"0")]).raw, assignment)
    assignment.state.paused = True

    assert ([], False) == (found.getall(10), found.has_more())


def test_many_bombs_of_one_partition_leave_the_others_their_turn() -> None:
    """A batch that was unpacked in part is brought to its end, and then others come first."""
    long = [Record(b" " * 1000) for _ in range(600)]
    many = _Records(batch("zstd", long).raw + batch("zstd", long, 600).raw)
    unpack(many)
    assert many.half_unpacked
    many.next_batch()

    many.begin()
    spent = many.unpack(1_000_000)
    many.settle()

    assert (False, True) == (many.half_unpacked, spent < 1_000_000)


def test_a_short_batch_is_an_error_as_before() -> None:
    """Bytes that cannot be a batch are fetched again."""
    raw = bytearray(batch("none", [Record(b"")]).raw[:40])
    raw[8:12] = (28).to_bytes(4, "big")

    with pytest.raises(CorruptRecordException):
        _Records(bytes(raw)).next_batch()


class Kept:
    """Replaces a client and the subscription of a consumer that reads these partitions of one broker."""

    _loop, _metadata_max_age_ms, active = None, 30_000, True

    def __init__(self, *partitions: TopicPartition) -> None:
        self.cluster, self.subscription = self, None
        self.tps = partitions
        self.assigned: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def register_fetch_waiters(self, _: object) -> None: ...

    def wait_for_assignment(self) -> "asyncio.Future[None]":
        """For as long as the test takes."""
        return self.assigned

    def leader_for_partition(self, _: TopicPartition) -> int:
        """The one broker."""
        return 1

    def state_value(self, _: TopicPartition) -> SimpleNamespace:
        """At its beginning."""
        return SimpleNamespace(has_valid_position=True, paused=False, position=0)


async def test_a_fetch_that_leaves_out_unread_partitions_comes_back_soon() -> None:
    """A broker without new records keeps a fetch open for long only if the fetch names every partition."""
    kept = Kept(PARTITION, TopicPartition("llm.requests", 4))
    reader = _Fetcher(kept, kept, fetch_max_wait_ms=60_000)

    def wait_ms() -> int:
        (((_, request),), *_) = reader._get_actions_per_node(kept)
        return int(request._max_wait_ms)

    assert 60_000 == wait_ms()
    reader._records[PARTITION] = result(batch("none", [Record(b"0")]).raw, Assignment())
    assert 500 == wait_ms()
    reader._records.clear()
    assert 60_000 == wait_ms()
    await reader.close()


def test_aiokafka_has_what_is_replaced() -> None:
    """An update that moves what this module reaches for is noticed here."""
    assert {"MemoryRecords", "PartitionRecords", "FetchResult", "Fetcher"} <= vars(fetcher).keys()
    assert {"fetched_records", "next_record", "close", "_get_actions_per_node", "_proc_fetch_request"} <= vars(
        fetcher.Fetcher
    ).keys()
