"""Promises of orchestra/store/retention.py: what is old enough is deleted, and nothing else."""

import pytest

from orchestra.store import outbox, retention
from orchestra.store.database import Database
from tests.support.store import claim, claim_one, count, finish, letter, messages, new_worker, request, take

_AGE = {
    "requests": "finished_at",
    "outbox": "published_at",
    "dead_letters": "created_at",
    "logs": "created_at",
    "early_cancels": "created_at",
}


async def fill(database: Database) -> None:
    """One ended, published and logged request, one dead letter, one early cancel."""
    await take(database, request(), dead_letters=[letter()], cancels=[("default", request().id)])
    done = await finish(database, await claim_one(database), log=("type", "text"))
    await outbox.mark_published(database, [each.id for each in done.announcements])


async def age(database: Database, days: float) -> None:
    """Make everything this old."""
    for table, column in _AGE.items():
        await database.run(f"UPDATE {table} SET {column} = now() - make_interval(secs => :s)", s=days * 86_400)


@pytest.mark.parametrize(("days", "kept"), [(29.9, True), (30.1, False)])
async def test_rows_are_kept_for_their_days(database: Database, days: float, kept: bool) -> None:
    """Ended requests, published replies, dead letters and logs go after the days that are set."""
    await fill(database)
    await age(database, days)

    await retention.sweep_old(database, 30, 100)

    tables = ("requests", "outbox", "dead_letters", "logs")
    assert [int(kept)] * 4 == [await count(database, table) for table in tables]


async def test_nothing_goes_before_seven_days(database: Database) -> None:
    """However few days are set, late duplicates are still recognised; early cancels are kept as long."""
    await fill(database)
    await age(database, 6.9)
    assert await retention.sweep_old(database, 0, 100) == 0

    await age(database, 7.1)
    assert await retention.sweep_old(database, 0, 100) == 5


async def test_what_is_open_or_unpublished_stays(database: Database) -> None:
    """A request that has not ended and a reply that was not published are never too old."""
    await take(database, request(), request())
    await finish(database, (await claim(database, await new_worker(database)))[0])
    await database.run("UPDATE requests SET created_at = now() - interval '1 year'")
    await database.run("UPDATE outbox SET created_at = now() - interval '1 year'")

    assert await retention.sweep_old(database, 7, 100) == 0


async def test_history_goes_only_with_its_conversation(database: Database) -> None:
    """Messages outlive the request that they came from."""
    await take(database, asked := request())
    await finish(database, await claim_one(database))
    await age(database, 365)

    await retention.sweep_old(database, 7, 100)

    assert await count(database, "requests") == 0
    assert 2 == len(await messages(database, asked.conversation_id))


async def test_a_sweep_is_no_longer_than_its_limit(database: Database) -> None:
    """Many rows go in many short sweeps."""
    await take(database, dead_letters=[letter() for _ in range(5)])
    await age(database, 31)

    assert [2, 2, 1, 0] == [await retention.sweep_old(database, 30, 2) for _ in range(4)]
