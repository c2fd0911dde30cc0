"""Promises of schemas/dead_letters.py: a dead letter keeps all that came, and says why."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import OFFSET, PARTITION, REASON, TOPIC, dead_letter_headers
from schemas.errors import ErrorCode
from schemas.topics import MAX_HEADERS


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())), st.sampled_from(ErrorCode))
def test_headers_come_first_as_they_came(headers: list[tuple[str, bytes | None]], reason: ErrorCode) -> None:
    """Headers stay as they came, repeated and null ones too; reason and place come after them."""
    kept = dead_letter_headers(headers, reason, "why", "llm.requests", 3, 42)

    assert headers == kept[: len(headers)]
    assert {REASON: reason.encode(), TOPIC: b"llm.requests", PARTITION: b"3", OFFSET: b"42"}.items() <= dict(
        kept[len(headers) :]
    ).items()


def test_a_dead_letter_has_no_more_headers_than_can_be_read() -> None:
    """Of a record with as many as it may have the last give way: readers of ours would not see why it is there."""
    kept = dead_letter_headers([("x", b"")] * MAX_HEADERS, ErrorCode.NOT_JSON, "why", "llm.requests", 3, 42)

    assert MAX_HEADERS == len(kept)
    assert {REASON, TOPIC, PARTITION, OFFSET} < dict(kept).keys()
