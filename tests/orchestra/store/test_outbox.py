"""Promises of orchestra/store/outbox.py: unpublished replies are found again."""

import re

from orchestra.store import outbox
from orchestra.store.database import Database
from tests.support.plans import plan_of
from tests.support.store import claim_one, finish, request, take


async def test_what_was_not_marked_is_found_again_the_same(database: Database) -> None:
    """Unpublished replies come oldest first, with the same event id and the same bytes; a marked one is gone."""
    announced = []
    for _ in range(3):
        await take(database, request())
        announced += (await finish(database, await claim_one(database))).announcements

    assert announced == await outbox.unpublished(database, 0, 10)
    assert announced[:2] == await outbox.unpublished(database, 0, 2)
    await outbox.mark_published(database, [announced[0].id, announced[2].id])
    assert [announced[1]] == await outbox.unpublished(database, 0, 10)


async def test_what_is_young_is_left_to_its_worker(database: Database) -> None:
    """Only replies that have been unpublished for the given time are sent again."""
    await take(database, request())
    await finish(database, await claim_one(database))
    assert await outbox.unpublished(database, 5, 10) == []

    await database.run("UPDATE outbox SET created_at = now() - interval '6 seconds'")

    assert 1 == len(await outbox.unpublished(database, 5, 10))


async def test_a_backlog_is_not_read_whole(database: Database) -> None:
    """While Kafka is away, a look reads the beginning of the index of unpublished replies, and sorts only that."""
    plan = await plan_of(database, outbox._UNPUBLISHED, older_than=5, limit=500, read=5000)

    assert re.search(r"Limit[^\n]*\n\s+-> +Index Scan using outbox_unpublished", plan), plan


async def test_a_mark_twice_keeps_the_first_time(database: Database) -> None:
    """Marking a reply again does not change when it was published."""
    await take(database, request())
    (announced,) = (await finish(database, await claim_one(database))).announcements
    await outbox.mark_published(database, [announced.id])
    before = await database.run("SELECT published_at FROM outbox")

    await outbox.mark_published(database, [announced.id])

    assert before == await database.run("SELECT published_at FROM outbox")
