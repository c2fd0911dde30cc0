"""Pages of lists, and their cursors: opaque to clients, JSON in base64url inside."""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol, TypeVar
from uuid import UUID

import orjson
from fastapi import Query

from orchestra.credentials import is_key_id
from orchestra.store.pages import Found
from schemas import fields
from schemas.api.pages import SearchedPage
from schemas.errors import ErrorCode, OrchestraError

Limit = Annotated[int, Query(ge=1, le=100, description=fields.LIMIT.description, examples=fields.LIMIT.examples)]
Cursor = Annotated[
    str | None, Query(max_length=512, description=fields.CURSOR.description, examples=fields.CURSOR.examples)
]
_HIGHEST_ID = 2**63 - 1

Value = datetime | UUID | str | int | None


class Listed(Protocol):
    """An item of a list by age; items of the same time are ordered by id."""

    @property
    def created_at(self) -> datetime | None:
        """Time of its creation."""

    @property
    def id(self) -> UUID | str | int:
        """Its id."""


Item = TypeVar("Item", bound=Listed)
_SearchedPage = TypeVar("_SearchedPage", bound=SearchedPage[Any])


def cut(found: list[Item], limit: int) -> tuple[list[Item], str | None]:
    """At most ``limit`` of the items, and the cursor of the next page if there are more."""
    page = found[:limit]
    return page, next_after(page, more=len(found) > limit)


def next_after(page: Sequence[Listed], *, more: bool) -> str | None:
    """The cursor of the page after this one, if there are ``more`` items."""
    return write_cursor(page[-1].created_at, page[-1].id) if more else None


def searched(page: type[_SearchedPage], found: Found[Any], **more: Any) -> _SearchedPage:
    """The page of a search, with the cursor of the next one and these fields ``more``."""
    following = write_cursor(*found.next) if found.next else None
    return page(data=found.data, next=following, searched_to=found.searched_to, **more)


def write_cursor(*values: Value) -> str:
    """A cursor with these values."""
    return base64.urlsafe_b64encode(orjson.dumps(values, default=str)).rstrip(b"=").decode()


def read_time_cursor(text: str | None) -> tuple[datetime, UUID] | None:
    """The time and id in a cursor. Raises ``INVALID_REQUEST``."""
    if text is None:
        return None
    try:
        moment, id = _values(text, 2)
        return _moment(moment), UUID(id)
    except (ValueError, TypeError, AttributeError):
        raise _refused() from None


def read_key_cursor(text: str | None) -> tuple[datetime, str] | None:
    """The time and the id of an API key in a cursor. Raises ``INVALID_REQUEST``."""
    if text is None:
        return None
    try:
        moment, id = _values(text, 2)
        if not is_key_id(id):
            raise ValueError("not the id of a key")
        return _moment(moment), id
    except (ValueError, TypeError):
        raise _refused() from None


def read_number_cursor(text: str | None) -> int | None:
    """The number in a cursor. Raises ``INVALID_REQUEST``."""
    if text is None:
        return None
    try:
        (number,) = _values(text, 1)
    except ValueError:
        raise _refused() from None
    if type(number) is not int or not 0 <= number <= _HIGHEST_ID:
        raise _refused()
    return number


def read_letter_cursor(text: str | None, times: int = 1) -> tuple[list[datetime], int] | None:
    """The ``times`` times and the number in a cursor. Raises ``INVALID_REQUEST``."""
    if text is None:
        return None
    try:
        *moments, number = _values(text, times + 1)
        read = [_moment(moment) for moment in moments]
    except (ValueError, TypeError):
        raise _refused() from None
    if type(number) is not int or not 0 <= number <= _HIGHEST_ID:
        raise _refused()
    return read, number


def read_place_cursor(text: str | None) -> tuple[datetime, tuple[datetime, UUID, int]] | None:
    """The end of a selection of requests and the place in it. Raises ``INVALID_REQUEST``."""
    if text is None:
        return None
    try:
        until, moment, conversation, number = _values(text, 4)
        place = _moment(moment), UUID(conversation), number
        if type(number) is not int or not 0 <= number <= _HIGHEST_ID:
            raise ValueError("not the number of a turn")
        return _moment(until), place
    except (ValueError, TypeError, AttributeError):
        raise _refused() from None


def _moment(text: Any) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no zone")
    return at


def _values(text: str, count: int) -> list[Any]:
    try:
        values = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, UnicodeError) as error:
        raise ValueError("not base64") from error
    if not isinstance(values, list) or len(values) != count:
        raise ValueError("not a list of that length")
    return values


def _refused() -> OrchestraError:
    return OrchestraError(ErrorCode.INVALID_REQUEST, "cursor: not a cursor of this list")
