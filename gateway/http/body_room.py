"""The memory of a gateway for large bodies: taken as they arrive, given back when they are accepted or refused."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Self, TypeVar

from orchestra.store.claims import Owner
from schemas.errors import ErrorCode, OrchestraError

# Of all large bodies at a gateway.
MAX_HELD_BYTES = 128 * 1024 * 1024
# A body takes memory in steps of this size, and never for what it only claims to be.
_STEP_BYTES = 1024 * 1024
_RETRY_SECONDS = 5.0

T = TypeVar("T")
_held: ContextVar["Hold | None"] = ContextVar("held", default=None)


def release_body() -> None:
    """Give back the memory of the body of the current call, which is no longer needed."""
    if hold := _held.get():
        hold.release()


class BodyRoom:
    """The memory for large bodies at one gateway. One owner may have half of it, unless all callers are one owner."""

    def __init__(self, max_bytes: int, *, shared: bool, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        """``max_bytes``: the limit of one body. ``max_held_bytes``: of all. ``shared``: there may be many owners."""
        self.max_bytes = max_bytes
        self._free = max_held_bytes
        self._of_one = max_held_bytes // 2 if shared else max_held_bytes
        self._held: dict[Owner, int] = {}
        self._alone = asyncio.Lock()

    def hold(self, owner: Owner) -> "Hold":
        """Memory for one body."""
        return Hold(self, owner)

    async def apart(self, work: Callable[[], T]) -> T:
        """Do work on a large body in a thread, one at a time: it needs some more memory meanwhile."""
        async with self._alone:
            return await asyncio.to_thread(work)

    def take(self, owner: Owner, size: int) -> None:
        """Take memory. Raises ``OVERLOADED`` if there is not enough, or the owner would have too much of it."""
        held = self._held.get(owner, 0) + size
        if size > self._free or held > self._of_one:
            detail = "large bodies take all the memory that this gateway has for them"
            raise OrchestraError(ErrorCode.OVERLOADED, detail, retry_after=_RETRY_SECONDS)
        self._free -= size
        self._held[owner] = held

    def give(self, owner: Owner, size: int) -> None:
        """Give memory back."""
        self._free += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]


class Hold:
    """The memory that one large body takes, within a ``with`` statement."""

    __slots__ = ("_owner", "_room", "_size", "max_bytes")

    def __init__(self, room: BodyRoom, owner: Owner) -> None:
        self.max_bytes = room.max_bytes
        self._room = room
        self._owner = owner
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def grow(self, size: int) -> int:
        """Take memory for a body that has ``size`` bytes by now. Returns the size up to which there is memory.

        Raises ``TOO_LARGE`` and ``OVERLOADED``.
        """
        if size > self.max_bytes:
            raise OrchestraError(ErrorCode.TOO_LARGE)
        wanted = min(self.max_bytes, -(-size // _STEP_BYTES) * _STEP_BYTES)
        self._room.take(self._owner, wanted - self._size)
        self._size = wanted
        _held.set(self)
        return wanted

    def add(self, size: int) -> None:
        """Take memory for ``size`` more bytes. Raises ``OVERLOADED``."""
        self._room.take(self._owner, size)
        self._size += size

    def release(self) -> None:
        """Give it back. It may be called again."""
        size, self._size = self._size, 0
        if size:
            self._room.give(self._owner, size)
