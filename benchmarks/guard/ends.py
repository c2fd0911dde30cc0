"""Replacements of Kafka and Postgres at the outermost edges."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.guard.path import Tally
from orchestra.store.database import Database, DatabaseUnavailableError
from schemas.topics import EVENTS, REQUESTS


class Producer:
    """Accepts records and acknowledges each at once."""

    def __init__(self, tally: Tally) -> None:
        self.client = self
        self._tally = tally
        self._more = asyncio.Event()
        self.last: dict[str, bytes | None] = {}
        self.value = b""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Any]:
        """Nothing to connect to, nothing to close."""
        yield self

    async def fetch_all_metadata(self) -> "Producer":
        """The cluster, for callers that check whether it is there."""
        return self

    def topics(self) -> set[str]:
        """The topics of the cluster."""
        return {REQUESTS.name}

    async def send(
        self, _topic: str, value: bytes | None, *, key: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> "asyncio.Future[None]":
        """Accept a record."""
        self._tally.records += 1
        self._tally.bytes += len(key or b"") + len(value or b"")
        self._tally.bytes += sum(len(name) + len(text or b"") for name, text in headers)
        self.last, self.value = dict(headers), value or b""
        self._more.set()
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def until(self, records: int) -> None:
        """Wait until this many records were sent."""
        while self._tally.records < records:
            self._more.clear()
            await self._more.wait()


@dataclass
class Record:
    """A record as a consumer returns it."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    topic: str = EVENTS.name
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_700_000_000_000


@dataclass
class Consumer:
    """Returns what is put into it, one record at a time, as on an idle system."""

    queue: "asyncio.Queue[Record]" = field(default_factory=asyncio.Queue)

    async def getmany(self, **_: Any) -> dict[str, list[Record]]:
        """The next record."""
        return {"partition": [await self.queue.get()]}

    def assignment(self) -> set[str]:
        """The only partition."""
        return {"partition"}

    async def offsets_for_times(self, _times: Any) -> dict[str, None]:
        """Nothing existed before."""
        return {"partition": None}

    async def end_offsets(self, _partitions: Any) -> dict[str, int]:
        """Nothing existed before."""
        return {"partition": 0}

    def seek(self, _partition: str, _offset: int) -> None:
        """There is only one position."""

    def highwater(self, _partition: str) -> int:
        """Nothing is ever pending."""
        return 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["Consumer"]:
        """Itself."""
        yield self


class Away(Database):
    """A Postgres that cannot be reached."""

    async def run(self, sql: str, **parameters: Any) -> Any:  # noqa: ARG002  the base class's signature
        """Raise ``DatabaseUnavailableError``."""
        raise DatabaseUnavailableError("away")


class Silent(Database):
    """A Postgres that accepts every statement and has no rows."""

    async def run(self, sql: str, **parameters: Any) -> Any:  # noqa: ARG002  the base class's signature
        """Nothing."""
        return ()


class Settle:
    """``await`` it: everything that is ready runs, and what that makes ready, without a counted step."""

    def __init__(self, turns: int = 10) -> None:
        self._turns = turns

    def __await__(self) -> Any:
        for _ in range(self._turns):
            yield
