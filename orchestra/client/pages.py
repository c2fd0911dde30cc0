"""Lists that are read page by page."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel

from orchestra.client.caller import Call, Caller
from schemas.api.pages import Page

Item = TypeVar("Item", bound=BaseModel)
# The items of a page, and the parameters with which the next one follows; None on the last page.
ReadPage = Callable[[Any], tuple[Sequence[Item], Mapping[str, Any] | None]]


class AsyncItems(Generic[Item]):
    """The items of a list, each page of which is requested when it is needed. Iterating raises ``ClientError``."""

    def __init__(
        self, caller: Caller, path: str, page: type[Any], params: Mapping[str, Any], read: ReadPage[Item]
    ) -> None:
        self._caller = caller
        self._path = path
        self._page = page
        self._params: Mapping[str, Any] | None = {name: value for name, value in params.items() if value is not None}
        self._read = read
        self._items: deque[Item] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        while not self._items:
            if self._params is None:
                raise StopAsyncIteration
            answer = await self._caller.call(Call("GET", self._path, params=self._params))
            items, following = self._read(answer.read(self._page))
            self._items.extend(items)
            self._params = None if following is None else {**self._params, **following}
        return self._items.popleft()


def items_by_cursor(caller: Caller, path: str, page: type[Page[Item]], params: Mapping[str, Any]) -> AsyncItems[Item]:
    """The items of a list of our own API, whose pages are linked by cursors."""
    return AsyncItems(caller, path, page, params, _by_cursor)


def _by_cursor(page: Page[Item]) -> tuple[Sequence[Item], Mapping[str, Any] | None]:
    return page.data, None if page.next is None else {"cursor": page.next}
