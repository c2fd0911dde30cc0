"""What the load client did and received: JSON lines on disk, each written before it counts.

async with open_ledger(path) as ledger:
    await ledger.write(Entry("sent", key, conversation, ordinal, way="poll"))
entries = read_ledger(path)
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Literal
from uuid import UUID

What = Literal["sent", "acked", "answered", "cancel_sent", "cancel_acked", "unknown", "refused", "stream"]
Way = Literal[
    "wait",
    "poll",
    "stream",
    "task",
    "kafka",
    "client",
    "chat",
    "chat_stream",
    "response",
    "response_stream",
    "background",
]
CHAT_WAYS: tuple[Way, ...] = ("chat", "chat_stream")
RESPONSE_WAYS: tuple[Way, ...] = ("response", "response_stream", "background")
DOOR_WAYS = (*CHAT_WAYS, *RESPONSE_WAYS)
"""Those by OpenAI's API."""
Part = Literal["original", "duplicate", "impostor"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of one request. ``key``: its Idempotency-Key, or the id from a direct producer.

    ``sent``: written before it goes out. ``acked``: accepted, and ``id`` is known. ``answered``: ``status`` is its
    ending and ``reply`` its text. ``refused``: surely not accepted, ``code`` says why; ``outcome_unknown`` means that
    it is cancelled if it was. ``unknown``: accepted or not.
    ``stream``: what a stream did; ``status`` is ``left``, ``resumed`` or ``repeated`` (from its beginning; ``code``:
    ``same`` or ``other`` gateway), ``restart``, ``gap`` (events are missing or come twice) or ``over`` (``reply``: the
    text assembled from the deltas). ``at``: seconds since 1970. ``own``: the request has a conversation of its own, not
    ``conversation``. ``after``: the request whose answer it goes on from, if it names one.
    """

    what: What
    key: str
    conversation: UUID
    ordinal: int
    id: UUID | None = None
    way: Way = "poll"
    part: Part = "original"
    reply: str | None = None
    status: str | None = None
    code: str | None = None
    own: bool = False
    after: UUID | None = None
    at: float = field(default_factory=time.time)


class Ledger:
    """Entries collect while the last batch is synced; each batch costs one fsync."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._waiting: list[tuple[Entry, asyncio.Future[None]]] = []
        self._something = asyncio.Event()

    async def write(self, entry: Entry) -> None:
        """Return once the entry is on disk."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        self._something.set()
        await asyncio.shield(done)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.shield(asyncio.to_thread(self._append, [entry for entry, _ in batch]))
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    def _append(self, entries: list[Entry]) -> None:
        self._file.writelines(json.dumps(asdict(entry), default=str) + "\n" for entry in entries)
        self._file.flush()
        os.fsync(self._file.fileno())


@asynccontextmanager
async def open_ledger(path: Path) -> AsyncIterator[Ledger]:
    """A ledger that appends to this file."""
    with path.open("a", encoding="utf-8") as file:
        ledger = Ledger(file)
        running = asyncio.create_task(ledger.run())
        try:
            yield ledger
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def read_ledger(path: Path) -> list[Entry]:
    """All complete entries of a file; a last line that was cut off never counted."""
    with path.open(encoding="utf-8") as lines:
        return [_entry(json.loads(line)) for line in lines if line.endswith("\n")]


def _entry(fields: dict[str, object]) -> Entry:
    ids = {name: fields[name] and UUID(str(fields[name])) for name in ("id", "after", "conversation")}
    return Entry(**{**fields, **ids})  # type: ignore[arg-type]
