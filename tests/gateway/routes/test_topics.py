"""Promises of gateway/routes/topics.py: a record is shown as it is, within bounds, to the tenant that it belongs to."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway.routes.topics import _number, _record
from gateway.topics import moment
from orchestra.kafka.packed_records import Unread
from schemas.api.topics import TopicRecord
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import EVENTS, REQUESTS


def shown(value: bytes | None, topic: str = REQUESTS.name, theirs: str | None = "default", **more: Any) -> TopicRecord:
    """A record as an admin of the tenant `default` sees it."""
    record = SimpleNamespace(**{"offset": 7, "timestamp": 0, "key": None, "headers": (), "value": value, **more})
    return _record(topic, record, "default", theirs, {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"a":  1.0}', ("json", '{"a":  1.0}', 11, False)),
        (b"{", ("text", "{", 1, False)),
        (b"\xff\x00", ("base64", "/wA=", 2, False)),
        (b"", ("text", "", 0, False)),
        (None, ("none", None, None, False)),
        ("ä".encode() * 10_000, ("text", "ä" * 8192, 20_000, True)),
        (b"a" + "ä".encode() * 10_000, ("text", "a" + "ä" * 8191, 20_001, True)),
        (Unread.because(ErrorCode.TOO_LARGE, "too large", 99), ("unread", "too large", 99, True)),
    ],
)  # fmt: skip
def test_a_value_is_shown_unchanged_up_to_a_length(value: bytes | None, expected: tuple[Any, ...]) -> None:
    """JSON and text are shown as they are, other bytes in base64; what is cut says so."""
    record = shown(value)

    assert expected == (record.format, record.value, record.value_bytes, record.cut)


@pytest.mark.parametrize(
    ("headers", "theirs", "seen"),
    [
        ((), "default", True),
        ((), "acme", False),
        ((), None, False),
        ((("orchestra-tenant", b"default"),), "acme", True),
        ((("orchestra-tenant", b"acme"),), "default", False),
        ((("orchestra-tenant", None),), None, False),
    ],
)
def test_a_record_of_another_tenant_has_no_content(
    headers: tuple[tuple[str, bytes | None], ...], theirs: str | None, seen: bool
) -> None:
    """A record belongs to the tenant that it names, otherwise to its topic's."""
    record = shown(b"secret", theirs=theirs, headers=headers, key=b"key")

    assert seen == record.shown
    content = ("secret", "key", False) if seen else (None, None, True)
    assert content == (record.value, record.key, record.headers is None)
    assert 6 == record.value_bytes


def test_headers_are_bounded() -> None:
    """A hundred headers of 4 KiB are shown; the record says that there is more."""
    record = shown(b"{}", headers=tuple((f"h{n}", b"x" * 5000) for n in range(1000)))

    assert record.headers
    assert (100, 4096, True) == (len(record.headers), len(record.headers[0].value or ""), record.cut)


def test_a_record_leads_to_its_request() -> None:
    """A request names its id, an event its subject; anything else leads nowhere."""
    id = uuid4()
    name = str(id).encode()

    assert id == shown(b"{}", headers=(("ce_id", name),)).request_id
    assert id == shown(b"{}", EVENTS.name, headers=(("ce_id", b"x"), ("ce_subject", name))).request_id
    assert shown(b"{}", headers=(("ce_id", b"\xff"),)).request_id is None
    made: dict[int, UUID] = {7: id}
    record = SimpleNamespace(offset=7, timestamp=0, key=None, headers=(), value=b"")
    assert id == _record(REQUESTS.name, record, "default", "default", made).request_id


@pytest.mark.parametrize("milliseconds", [-1, 0, 2**63 - 1])
def test_any_time_of_a_producer_can_be_shown(milliseconds: int) -> None:
    """A producer may write any time into its records."""
    assert 1970 <= moment(milliseconds).year <= 9999


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0", "²", "99999999999999", "4294967296"])
def test_what_is_no_partition_is_not_found(text: str) -> None:
    """There is no such partition, so it is a 404."""
    with pytest.raises(OrchestraError) as refused:
        _number(text)
    assert ErrorCode.NOT_FOUND is refused.value.code
