"""``python -m benchmarks migrations``: what each migration of a large database locks, for how long, and what waits."""

import argparse
import asyncio
import re
import socket
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import asyncpg

from benchmarks.bench import folder_on_disk
from benchmarks.growth.seeds import loading, put_rows
from benchmarks.report import lines
from orchestra.devstack.child import Child
from orchestra.devstack.ports import HOST
from orchestra.devstack.postgres import postgres_part

_ROWS = 1_000_000
RELEASED = "0008"
"""The last migration of the last release."""
# The tables that grow with the number of requests and that every request reads and writes.
_LARGE = ("requests", "messages", "conversations")
_PAUSE_SECONDS = 0.002
_SIDES = re.compile(r"-- migrate:up\n(.*)-- migrate:down\n(.*)", re.DOTALL)
# Tables that exist outside of this transaction, and the strongest of its locks on each, if that blocks anything but
# other changes of the table.
_LOCKS = """
SELECT c.relname AS name, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
    AND c.relname = ANY($1) AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""
_STRENGTH = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")


@dataclass(frozen=True)
class Migration:
    """A migration's SQL in both directions."""

    name: str
    up: str
    down: str


@dataclass(frozen=True)
class Change:
    """One migration in one direction: its locks by table, and seconds: its own, and the longest wait beside it."""

    locks: dict[str, str]
    seconds: float
    reads: float
    writes: float

    @property
    def row(self) -> list[str]:
        """The cells of a table, in milliseconds."""
        locks = ", ".join(f"`{table}` {lock.removesuffix('Lock')}" for table, lock in sorted(self.locks.items()))
        return [locks or "-", *(f"{1000 * each:,.0f}" for each in (self.seconds, self.reads, self.writes))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's arguments."""
    parser.description = (
        "Fills the tables of a release, then applies and undoes each later migration in a transaction, as `orchestra "
        "migrate` does, while readers and writers try each large table every 2 ms."
    )
    parser.add_argument("--rows", type=int, default=_ROWS, help=f"requests in the table ({_ROWS:,})")
    parser.add_argument("--prepared", type=Path, metavar="FILE", help="statements to run before the first migration")
    parser.add_argument("--after", default=RELEASED, help=f"number of the release's last migration ({RELEASED})")


async def migrations(told: argparse.Namespace) -> int:
    """Measure everything; returns 0."""
    older = [each for each in known() if each.name[:4] <= told.after]
    newer = known()[len(older) :]
    async with _postgres() as url:
        connection = await asyncpg.connect(url)
        for each in older:
            await connection.execute(each.up)
        began = time.monotonic()
        async with loading(url) as session:
            await put_rows(session, told.rows)
        print(f"{told.rows:,} requests written in {time.monotonic() - began:.0f} s", flush=True)
        for statement in told.prepared.read_text("utf-8").split(";")[:-1] if told.prepared else ():
            await connection.execute(statement)
        up = [await _measured(url, connection, each.up) for each in newer]
        down = [await _measured(url, connection, each.down) for each in reversed(newer)]
        await connection.close()
    head = ("locks", "ms", "longest read ms", "longest write ms")
    print(lines(("up", *head), [[each.name, *change.row] for each, change in zip(newer, up, strict=True)]))
    print()
    print(lines(("down", *head), [[each.name, *change.row] for each, change in zip(newer[::-1], down, strict=True)]))
    return 0


def known() -> list[Migration]:
    """All migrations of this version, in order."""
    found = sorted((each for each in files("migrations").iterdir() if each.name.endswith(".sql")), key=lambda e: e.name)
    return [Migration(each.name.removesuffix(".sql"), *sides(each.read_text("utf-8"))) for each in found]


def sides(text: str) -> tuple[str, str]:
    """The statements of a migration's file: those that apply it, and those that undo it."""
    match = _SIDES.search(text)
    assert match
    return match[1], match[2]


async def _measured(url: str, connection: asyncpg.Connection, statements: str) -> Change:
    tables = [each["relname"] for each in await connection.fetch("SELECT relname FROM pg_class WHERE relkind = 'r'")]
    done = asyncio.Event()
    probes = [
        asyncio.create_task(_longest(url, statement.format(table), done))
        for statement in ("SELECT 1 FROM {} LIMIT 1", "DELETE FROM {} WHERE false")
        for table in _LARGE
    ]
    await asyncio.sleep(0.2)  # Until all are connected.
    began = time.monotonic()
    async with connection.transaction():
        await connection.execute(statements)
        locks = strongest(await connection.fetch(_LOCKS, tables))
    seconds = time.monotonic() - began
    done.set()
    longest = await asyncio.gather(*probes)
    return Change(locks, seconds, max(longest[: len(_LARGE)]), max(longest[len(_LARGE) :]))


def strongest(locks: Sequence[asyncpg.Record | dict[str, str]]) -> dict[str, str]:
    """The strongest mode of each table."""
    modes: dict[str, list[str]] = defaultdict(list)
    for each in locks:
        modes[each["name"]].append(each["mode"])
    return {table: max(each, key=_STRENGTH.index) for table, each in modes.items()}


async def _longest(url: str, statement: str, done: asyncio.Event) -> float:
    """Run a statement again and again until the event; the longest time that it took."""
    connection, longest = await asyncpg.connect(url), 0.0
    while not done.is_set():
        began = time.monotonic()
        await connection.execute(statement)
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(_PAUSE_SECONDS)
    await connection.close()
    return longest


@asynccontextmanager
async def _postgres() -> AsyncIterator[str]:
    """The URL of a new server, as `orchestra up` starts it; its data is deleted afterwards."""
    folder = folder_on_disk()
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    part, url = await postgres_part(folder.postgres, port, lambda _: None)
    server = Child(part, folder.log("postgres"))
    try:
        await server.start()
        yield url
    finally:
        await server.stop()
        folder.wipe()
