"""Promises of schemas/errors.py: one closed list, nothing in it without its meaning."""

import pytest

from schemas.errors import ERRORS, ErrorCode, OrchestraError


def test_every_code_has_its_meaning() -> None:
    """Each code has a status, a title and a word on trying again, and nothing else has."""
    assert set(ErrorCode) == set(ERRORS)


@pytest.mark.parametrize("code", ErrorCode)
def test_codes_are_fit_for_http(code: ErrorCode) -> None:
    """Each code has the status of an error and a title that is a sentence of its own."""
    kind = ERRORS[code]

    assert 400 <= kind.status <= 599
    assert kind.title[0].isupper()
    assert not kind.title.endswith(".")


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_speaks_by_itself(code: ErrorCode) -> None:
    """An error raised without a detail says what its code means."""
    error = OrchestraError(code)

    assert ERRORS[code].title == error.detail == str(error)
    assert error.retry_after is None


def test_titles_tell_codes_apart() -> None:
    """No two codes have the same title."""
    assert len(ERRORS) == len({kind.title for kind in ERRORS.values()})
