"""Promises of orchestra/kafka/packed_records.py: a batch costs no more than its bounds, whatever it claims to be."""

import hashlib
from typing import Any
from unittest.mock import patch

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given
from hypothesis import strategies as st

from faults.bombs import CODECS, MAX_BYTES, Batch, Record, batch
from orchestra.kafka.packed_records import PackedBatch, Unread, UnreadRecord, header_of
from schemas.errors import ErrorCode
from schemas.topics import MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_HEADERS, MAX_MESSAGE_BYTES

MIB = 1 << 20
REACHED = [name for name, most in MAX_BYTES.items() if most < MAX_BATCH_BYTES]
BOMBS = [name for name in MAX_BYTES if name not in REACHED]


def read(raw: bytes, max_bytes: int = MAX_BATCH_BYTES) -> list[Any]:
    """All that comes of a batch, which ends where the batch ends."""
    found: list[Any] = []
    for plain, unread in PackedBatch(raw, max_bytes):
        found += [*DefaultRecordBatch(plain), *([unread] if unread else [])]
        last = header_of(plain).last_offset
    assert header_of(raw).last_offset == last
    return found


def unread(record: Any) -> UnreadRecord:
    """This record, which was not kept."""
    assert isinstance(record, UnreadRecord)
    assert b"" == record.value
    return record


def spaces(count: int) -> str:
    """The SHA-256 of this many spaces."""
    return hashlib.sha256(b" " * count).hexdigest()


@pytest.mark.parametrize("codec", MAX_BYTES)
def test_a_record_that_is_too_large_leaves_its_neighbours_alone(codec: str) -> None:
    """It is reported by its length and SHA-256, with key and headers; the records before and behind it are read."""
    large = Record(10 * MIB, b"key", [(b"ce_id", b"id"), (b"\xff", None)])

    before, record, behind = read(batch(codec, [Record(b"before"), large, Record(b"behind")], 7).raw)

    assert (b"before", b"behind", 8) == (before.value, behind.value, unread(record).offset)
    assert (b"key", (("ce_id", b"id"), ("\\xff", None))) == (record.key, record.headers)
    assert ("too_large", 10 * MIB) == (record.value.code, record.value.length)
    assert record.value.detail.endswith(f"its value of {10 * MIB} bytes: {spaces(10 * MIB)}")


@pytest.mark.parametrize("codec", BOMBS)
def test_nothing_is_unpacked_past_the_bound_of_a_batch(codec: str) -> None:
    """A bomb is reported with its claimed length and a hash of what was read; one record names all that follows it."""
    raw = batch(codec, [Record(b"before"), Record(100 * MIB), *[Record(b"behind")] * 3], 7).raw
    source = PackedBatch(raw)
    pieces = list(source)

    assert MAX_BATCH_BYTES == source.unpacked
    before, bomb, rest = read(raw)
    assert (b"before", 8, 100 * MIB) == (before.value, bomb.offset, unread(bomb).value.length)
    seen = int(bomb.value.detail.partition("the first ")[2].partition(" ")[0])
    assert MAX_BATCH_BYTES - 100 < seen < MAX_BATCH_BYTES
    assert bomb.value.detail.endswith(spaces(seen))
    assert ("too_large", 11, None) == (unread(rest).value.code, rest.offset, rest.value.length)
    assert rest.value.detail.endswith("the records at offsets 9 to 11")
    assert max(len(piece.plain) for piece in pieces) < MIB


@pytest.mark.parametrize("codec", MAX_BYTES)
def test_good_records_before_the_bound_are_read(codec: str) -> None:
    """Also when the bound lies in the middle of a record that would have been good."""
    found = read(batch(codec, [Record(MIB)] * 7).raw, 5 * MIB)

    assert [MIB] * 4 == [len(each.value) for each in found[:4]]
    assert ("too_large", 6) == (unread(found[4]).value.code, found[4].offset)
    assert found[4].value.detail.endswith("the records at offsets 4 to 6")


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_no_more_records_are_read_than_a_batch_may_have(codec: str) -> None:
    """What is cheap to pack by the million costs no row each."""
    raw = batch(codec, [Record(None)] * (MAX_BATCH_RECORDS + 2)).raw

    *found, rest = read(raw)

    assert (MAX_BATCH_RECORDS, MAX_BATCH_RECORDS + 1) == (len(found), unread(rest).offset)
    assert rest.value.detail.endswith(f"offsets {MAX_BATCH_RECORDS} to {MAX_BATCH_RECORDS + 1}")


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("more", [0, 1])
def test_a_record_has_no_more_headers_than_it_may(codec: str, more: int) -> None:
    """A record with more is reported by its value's length; the first of its headers are kept."""
    headers = [(b"a%d" % number, b"b") for number in range(MAX_HEADERS + more)]

    (record,) = read(batch(codec, [Record(b"value", None, headers)]).raw)

    assert isinstance(record, UnreadRecord) is bool(more)
    assert MAX_HEADERS == len(record.headers)
    if more:
        assert ("too_large", 5) == (unread(record).value.code, record.value.length)


@pytest.mark.parametrize(
    "record",
    [
        Record(b"v", b"k" * 3 * MIB),
        Record(b"v", None, [(b"name", b"x" * 3 * MIB), (b"next", b"")]),
        Record(b"v", None, [(b"n" * 3 * MIB, None)]),
        Record(None, None, [(b"name", b"x" * 1000)] * 3000),
    ],
    ids=["key", "header", "name", "headers"],
)
def test_a_key_or_headers_that_are_too_large_are_not_kept(record: Record) -> None:
    """What is left of such a record is small."""
    left = unread(*read(batch("gzip", [record]).raw))

    kept = len(left.key or b"") + sum(len(name) + len(value or b"") for name, value in left.headers)
    assert kept <= 64 * 1024
    assert "too_large" == left.value.code


def test_times_are_those_of_the_batch() -> None:
    """An unread record was written when its neighbours were."""
    for before, record in [read(batch("gzip", [Record(b"before"), Record(3 * MIB)]).raw)]:
        assert (before.timestamp, before.timestamp_type) == (unread(record).timestamp, record.timestamp_type)


@pytest.mark.parametrize("codec", MAX_BYTES)
def test_what_cannot_be_unpacked_is_one_unread_record(codec: str) -> None:
    """Records in front of it are read; it says which ones are lost."""
    whole = batch(codec, [Record(b"first"), *[Record(200_000)] * 4]).raw
    cut = whole[:-10] if codec != "raw snappy" else whole[:61] + b"\x05"

    *found, rest = read(cut)

    assert ("not_json", 4) == (unread(rest).value.code, rest.offset)
    assert rest.value.detail.startswith("cannot be unpacked")
    assert [0, 1, 2, 3][: len(found)] == [each.offset for each in found]


@given(st.sampled_from(list(CODECS)), st.binary(max_size=200), st.integers(0, 2**31 - 1))
def test_any_bytes_can_be_read(codec: str, packed: bytes, count: int) -> None:
    """Whatever a batch is made of, reading it ends, where the batch ends, and raises nothing."""
    with patch.object(Record, "parts", lambda _self, _delta: [packed]):
        raw = bytearray(batch(codec, [Record(None)]).raw)
    raw[57:61] = count.to_bytes(4, "big")
    raw[23:27] = max(count - 1, 0).to_bytes(4, "big")

    plain = [(piece.plain, piece.unread) for piece in PackedBatch(bytes(raw))]

    assert header_of(bytes(raw)).last_offset == header_of(plain[-1][0]).last_offset


@given(st.sampled_from(list(CODECS)), st.binary(max_size=60), st.integers(0, 10_000))
def test_any_packed_bytes_can_be_read(codec: str, garbage: bytes, at: int) -> None:
    """Nor do bytes that were changed after they were packed."""
    whole: Batch = batch(codec, [Record(b"first", b"k", [(b"a", b"b")]), Record(5000), Record(b"last")])
    at = 61 + at % (len(whole.raw) - 61)
    raw = whole.raw[:at] + garbage + whole.raw[at + len(garbage) :]

    pieces = list(PackedBatch(raw))

    assert header_of(raw).last_offset == header_of(pieces[-1].plain).last_offset


def test_an_unread_value_is_like_an_empty_one() -> None:
    """Readers that do not know of it see nothing."""
    assert (b"", 0) == (Unread.because(ErrorCode.TOO_LARGE, ""), len(Unread.because(ErrorCode.TOO_LARGE, "")))


def test_a_record_as_long_as_kafka_takes_it_is_read() -> None:
    """Unpacked it may be as long as it might have come."""
    (record,) = read(batch("zstd", [Record(MAX_MESSAGE_BYTES - 20)]).raw)

    assert MAX_MESSAGE_BYTES - 20 == len(record.value)
