"""Promises of schemas/envelope.py: headers of strangers are left alone, ours are right or refused, JSON is JSON."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import envelope
from schemas.envelope import MAX_HEADER_BYTES, parse_json, read_headers, write_headers
from schemas.errors import ErrorCode, OrchestraError
from tests.support.bodies import any_json

RawHeaders = list[tuple[str, bytes | None]]


def code_of(call: Any, *arguments: Any) -> ErrorCode:
    with pytest.raises(OrchestraError) as caught:
        call(*arguments)
    return caught.value.code


def test_every_header_is_optional() -> None:
    """A record without any header is as good as another."""
    said = vars(read_headers([]))

    assert not any(said.pop("hints"))
    assert not any(said.values())


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())))
def test_headers_of_strangers_are_left_alone(headers: RawHeaders) -> None:
    """A header that we do not know may hold any bytes, or none."""
    strangers = [(f"x-{name}", value) for name, value in headers]

    assert read_headers([]) == read_headers(strangers)


@given(st.sampled_from(sorted(envelope._KNOWN)), st.none() | st.binary(max_size=2 * MAX_HEADER_BYTES))
def test_known_headers_are_read_or_refused(name: str, value: bytes | None) -> None:
    """Any bytes in a header of ours are read as text that can be kept, or refused as a bad header."""
    try:
        found = read_headers([(name, value)])
    except OrchestraError as error:
        assert ErrorCode.BAD_HEADER == error.code
        assert name in error.detail
    else:
        assert "\0" not in str(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (envelope.ID, b"not-a-uuid"),
        (envelope.DEADLINE, b"tomorrow"),
        (envelope.DEADLINE, b"0001-01-01T00:00:00+14:00"),
        (envelope.CORRELATION_ID, b"\xff\xfe"),
        (envelope.CORRELATION_ID, b"a\0b"),
        (envelope.CORRELATION_ID, b"x" * (MAX_HEADER_BYTES + 1)),
        (envelope.TRACEPARENT, b"\xc3"),
    ],
)
def test_bad_headers_are_named_not_repeated(name: str, value: bytes) -> None:
    """The error names the header and shows nothing of what was in it."""
    with pytest.raises(OrchestraError) as caught:
        read_headers([(name, value)])

    assert ErrorCode.BAD_HEADER == caught.value.code
    assert name in caught.value.detail
    assert value.decode(errors="replace") not in caught.value.detail


def test_a_null_header_is_an_absent_header() -> None:
    """Kafka allows headers without a value."""
    assert read_headers([]) == read_headers([(envelope.ID, None), (envelope.TRACEPARENT, None)])


def test_written_headers_are_read_back() -> None:
    """What one of our services writes, another reads."""
    record_id = uuid4()
    written = write_headers(
        id=record_id,
        type="llm.reply",
        source="workers",
        subject="some request",
        extra=[(envelope.CORRELATION_ID, "any text: ü"), (envelope.TRACEPARENT, None)],
    )

    found = read_headers([(name, value.encode()) for name, value in written])

    assert (record_id, "llm.reply", "any text: ü", None) == (
        found.id,
        found.type,
        found.correlation_id,
        found.traceparent,
    )
    assert (envelope.SPEC_VERSION, "1.0") in written
    assert (envelope.SUBJECT, "some request") in written


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (b"2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (b"2030-01-02T05:04:05+02:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (b"2030-01-02T03:04:05", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (b"", None),
    ],
)
def test_deadlines_are_moments(text: bytes, moment: datetime | None) -> None:
    """A deadline means the same moment however its zone is written; none means UTC."""
    assert moment == read_headers([(envelope.DEADLINE, text)]).deadline


@given(st.uuids())
def test_ids_come_back(record_id: UUID) -> None:
    """A record's id is read as it was written."""
    assert record_id == read_headers([(envelope.ID, str(record_id).encode())]).id


@given(any_json(), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_json_is_parsed(value: Any, mark: bytes) -> None:
    """Every JSON text is read as what it says, also behind a byte order mark."""
    assert value == parse_json(mark + json.dumps(value, allow_nan=False).encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"hello",
        b"{",
        b"NaN",
        b'{"a": Infinity}',
        b"[-Infinity]",
        b"\xff\xfe{}",
        b'"\xc3"',
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b"{}\xef\xbb\xbf",
        b"{} {}",
        b"[" * 200_000,
        b"9" * 10_000,
    ],
)
def test_all_else_is_not_json(raw: bytes) -> None:
    """Whatever is no JSON is refused as such, also where a parser would give up or take it."""
    assert code_of(parse_json, raw) == ErrorCode.NOT_JSON


@given(st.binary())
def test_any_bytes_are_json_or_not(raw: bytes) -> None:
    """No bytes raise anything but that they are not JSON."""
    try:
        parse_json(raw)
    except OrchestraError as error:
        assert ErrorCode.NOT_JSON == error.code
