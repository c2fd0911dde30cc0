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
            "Set if the call stopped before the page was full, because it examines a limited number of items: when the "
            "last item that it examined was created. `next` continues from there. Absent otherwise.",
            "2026-01-31T11:00:00Z",
        ),
    ] = None
