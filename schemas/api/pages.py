"""Pages of lists. Each list has a class of its own, after which generated clients name theirs."""

from datetime import datetime
from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, Field

from schemas.content import absent
from schemas.json_schema import described

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    data: Annotated[list[Item], described("The items of the page.")]
    next: Annotated[
        str | None, described("The `cursor` of the following page; null on the last one.", "WzE3Njk4NjA3OTgsImEiXQ")
    ]


class SearchedPage(Page[Item]):
    """One page of a list, of which a call looks at a limited number of items. It may be empty and not the last."""

    searched_to: Annotated[
        datetime | None,
        Field(exclude_if=absent),
        described(
            "A call looks at a limited number of items. If it stopped there before the page was full, this is the "
            "creation time of the last one, and `next` goes on from there; absent otherwise.",
            "2026-01-31T11:00:00Z",
        ),
    ] = None
