"""Pages of lists. Each list has a class of its own, after which generated clients name theirs."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel

from schemas.json_schema import described

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    data: Annotated[list[Item], described("The items of the page.")]
    next: Annotated[
        str | None, described("The `cursor` of the following page; null on the last one.", "WzE3Njk4NjA3OTgsImEiXQ")
    ]
