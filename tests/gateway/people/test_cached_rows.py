import asyncio

import pytest

from gateway.people.cached_rows import CachedRows
from gateway.timings import Timings
from orchestra.store.database import DatabaseUnavailableError
from tests.support.fakes import away, steps
from tests.support.people import Clock


class Table:
    """Rows by key. Counts queries; fails while ``away``; returns only when released while ``slow``."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {"a": "1"}
        self.looks = 0
        self.away = False
        self.told = asyncio.Event()
        self.told.set()

    async def load(self, key: str) -> str | None:
        self.looks += 1
        found = self.rows.get(key)
        await self.told.wait()
        if self.away:
            raise away()
        return found


@pytest.fixture
async def table() -> Table:
    return Table()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rows(table: Table, clock: Clock) -> CachedRows[str, str]:
    return CachedRows(table.load, clock, most=3)


async def test_twenty_seconds(rows: CachedRows[str, str], table: Table, clock: Clock) -> None:
    """A row is queried once in twenty seconds, and a change is visible after that."""
    assert await rows.get("a") == "1"
    table.rows["a"] = "2"
    clock.now += 19.9
    assert await rows.get("a") == "1"
    clock.now += 0.1
    assert await rows.get("a") == "2"
    assert table.looks == 2


async def test_while_postgres_is_away(rows: CachedRows[str, str], table: Table, clock: Clock) -> None:
    """While Postgres is away a row counts for 55 seconds in all; then it is an error."""
    await rows.get("a")
    table.away = True
    clock.now += 54.9
    assert await rows.get("a") == "1"
    clock.now += 0.1
    for key in ("a", "b"):
        with pytest.raises(DatabaseUnavailableError):
            await rows.get(key)


async def test_while_postgres_hangs(table: Table, clock: Clock) -> None:
    """A query that hangs delays no call for long: an older row counts, and without one it is an error."""
    rows = CachedRows(table.load, clock, Timings(look_with_stale_row=0.01, look_without_row=0.02))
    await rows.get("a")
    table.told.clear()
    clock.now += 30
    assert await rows.get("a") == "1"
    with pytest.raises(DatabaseUnavailableError):
        await rows.get("b")
    table.told.set()


async def test_one_look_for_all(rows: CachedRows[str, str], table: Table) -> None:
    """A hundred calls at once cause one query, even when the first of them leaves."""
    table.told.clear()
    first, *others = [asyncio.create_task(rows.get("a")) for _ in range(100)]
    await steps()
    first.cancel()
    table.told.set()

    assert await asyncio.gather(*others) == ["1"] * 99
    assert table.looks == 1


async def test_what_is_forgotten_is_looked_up_anew(rows: CachedRows[str, str], table: Table) -> None:
    """A forgotten row is queried again, even while an earlier query runs, whose result is not kept."""
    table.told.clear()
    before = asyncio.create_task(rows.get("a"))
    await steps()
    table.rows["a"] = "2"
    rows.forget("a")
    table.told.set()

    assert await rows.get("a") == "2"
    assert await before == "1"
    assert await rows.get("a") == "2"
    table.rows["a"] = "3"
    rows.forget_where(lambda row: row == "1")
    assert await rows.get("a") == "2"
    rows.forget_where(lambda row: row == "2")
    assert await rows.get("a") == "3"


async def test_what_is_gone_is_gone(rows: CachedRows[str, str], table: Table, clock: Clock) -> None:
    """A deleted row is gone, and stays gone if Postgres goes away after that."""
    await rows.get("a")
    del table.rows["a"]
    clock.now += 20
    assert await rows.get("a") is None
    table.away = True
    with pytest.raises(DatabaseUnavailableError):
        await rows.get("a")


async def test_it_does_not_grow_without_end(rows: CachedRows[str, str], table: Table) -> None:
    """The least recently used row is dropped first; unknown keys take no room."""
    table.rows |= {"b": "2", "c": "3", "d": "4"}
    for key in ("a", "b", "c", "a", "x", "y", "z", "d"):
        await rows.get(key)

    assert table.looks == 7
    assert set(rows._known) == {"a", "c", "d"}
    assert not rows._loading
