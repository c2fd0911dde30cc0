"""Promises of orchestra/kafka_records.py: any record that a broker takes can be read."""

from typing import Any, Self

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from hypothesis import given
from hypothesis import strategies as st

from orchestra.kafka_records import _Records

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
Header = tuple[str, bytes | None]


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


def read(*batches: bytes) -> list[Any]:
    """All records of a fetch."""
    records = _Records(b"".join(batches))
    found = []
    while records.has_next():
        batch = records.next_batch()
        assert batch.validate_crc()
        found += list(batch)
    return found


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_header_name_that_is_no_text_is_shown_as_its_bytes(codec: int) -> None:
    """The records before it, it, and those behind it are read, packed or not; each once, in order."""
    bad: list[Header] = [(Name(b"\xffx"), b"\xfe"), ("good", None)]
    batch = fetched([(b"k", b"0", [("a", b"1")]), (None, b"1", bad), (b"k", None, [])], codec)

    records = read(batch, fetched([(None, b"3", [])]))

    assert [b"0", b"1", None, b"3"] == [each.value for each in records]
    assert [b"k", None, b"k", None] == [each.key for each in records]
    assert [("\\xffx", b"\xfe"), ("good", None)] == list(records[1].headers)
    assert [0, 1, 2, 0] == [each.offset for each in records]


@given(
    st.lists(
        st.tuples(
            st.none() | st.binary(max_size=5),
            st.none() | st.binary(max_size=20),
            st.lists(st.tuples(st.binary(max_size=5), st.none() | st.binary(max_size=5)), max_size=3),
        ),
        min_size=1,
        max_size=6,
    )
)
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
