"""Promises of orchestra/store/pages.py: a list has a statement per set of conditions, and continues from a place."""

from datetime import UTC, datetime

from sqlalchemy import ColumnElement, bindparam, select

from orchestra.store.pages import applied, conditions, newest_page
from orchestra.store.tables import dead_letters
from schemas.api.dead_letters import DeadLetterFilter
from schemas.errors import ErrorCode

ROWS = select(dead_letters.c.id)
KNOWN = conditions(
    dead_letters,
    reason=dead_letters.c.reason == bindparam("reason"),
    replayed={True: dead_letters.c.replayed_at.is_not(None), False: dead_letters.c.replayed_at.is_(None)},
)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def text(*where: ColumnElement[bool]) -> str:
    """What is asked for, without what every page has."""
    sql = " ".join(newest_page(ROWS, dead_letters, where).split())
    return sql.partition(" WHERE ")[2].partition(" ORDER BY ")[0].replace("dead_letters.", "")


def test_only_what_is_asked_for_is_a_condition() -> None:
    """A condition that was not asked for is not in the statement, nor are its parameters."""
    where, values = applied(KNOWN, DeadLetterFilter(reason=ErrorCode.NOT_JSON), replayed=None)

    assert ("reason = :reason", {"reason": ErrorCode.NOT_JSON}) == (text(*where), values)
    assert ((), {}) == applied(KNOWN, DeadLetterFilter())


def test_a_condition_of_a_value_is_written_out() -> None:
    """What has a condition for each value needs no parameter; False is a value."""
    assert ("replayed_at IS NULL", {}) == (text(*applied(KNOWN, replayed=False)[0]), applied(KNOWN, replayed=False)[1])
    assert text(*applied(KNOWN, replayed=True)[0]) == "replayed_at IS NOT NULL"


def test_a_page_begins_behind_a_place() -> None:
    """A place is a time and an id, compared together."""
    where, values = applied(KNOWN, before=(MOMENT, 7))

    assert text(*where) == "(created_at, id) < (:before, :before_id)"
    assert {"before": MOMENT, "before_id": 7} == values


def test_the_same_list_is_composed_once() -> None:
    """A statement is composed once, because composing costs more than the list."""
    reasons = (ErrorCode.NOT_JSON, ErrorCode.AUTH)
    first, again = (applied(KNOWN, DeadLetterFilter(reason=reason))[0] for reason in reasons)

    assert newest_page(ROWS, dead_letters, first) is newest_page(ROWS, dead_letters, again)
