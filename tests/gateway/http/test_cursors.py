from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.cursors import read_letter_cursor, read_number_cursor, read_time_cursor, write_cursor
from schemas.errors import ErrorCode, OrchestraError


@given(st.datetimes(timezones=st.just(UTC)), st.uuids())
def test_time(moment: datetime, id: UUID) -> None:
    """A cursor of a time and an id decodes to exactly these."""
    assert read_time_cursor(write_cursor(moment, id)) == (moment, id)


@given(st.integers(0, 2**63 - 1))
def test_number(number: int) -> None:
    """A cursor of a number decodes to it."""
    assert read_number_cursor(write_cursor(number)) == number


@given(st.lists(st.datetimes(timezones=st.just(UTC)), min_size=1, max_size=2), st.integers(0, 2**63 - 1))
def test_letter(moments: list[datetime], number: int) -> None:
    """A cursor of times and a number decodes to exactly these, and only if as many times are expected."""
    cursor = write_cursor(*moments, number)
    assert read_letter_cursor(cursor, times=len(moments)) == (moments, number)
    with pytest.raises(OrchestraError):
        read_letter_cursor(cursor, times=len(moments) + 1)


@given(st.text(max_size=60) | st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", max_size=60))
def test_any_text(text: str) -> None:
    """A cursor that no list returned is refused as an invalid cursor, and causes no other error."""
    for read in (read_time_cursor, read_number_cursor, read_letter_cursor):
        try:
            read(text)
        except OrchestraError as error:
            assert error.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("values", [(2**63,), (1, 2)])
def test_bad_numbers(values: tuple[int, ...]) -> None:
    """A number that Postgres cannot store is refused, and so is a cursor of another list."""
    with pytest.raises(OrchestraError):
        read_number_cursor(write_cursor(*values))


def test_none() -> None:
    """Without a cursor a list starts at its beginning."""
    assert read_time_cursor(None) is None
    assert read_number_cursor(None) is None
    assert read_letter_cursor(None) is None
