"""Promises of schemas/dead_letters.py: a dead letter keeps all that came, and says why."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.dead_letters import OFFSET, PARTITION, REASON, TOPIC, dead_letter_headers
from schemas.errors import ErrorCode


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())), st.sampled_from(ErrorCode))
def test_headers_come_first_as_they_came(headers: list[tuple[str, bytes | None]], reason: ErrorCode) -> None:
    """Headers stay as they came, repeated and null ones too; reason and place come after them."""
    kept = dead_letter_headers(headers, reason, "why", "llm.requests", 3, 42)

    assert headers == kept[: len(headers)]
    assert {REASON: reason.encode(), TOPIC: b"llm.requests", PARTITION: b"3", OFFSET: b"42"}.items() <= dict(
        kept[len(headers) :]
    ).items()
