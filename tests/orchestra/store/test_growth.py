"""Promises of the store: what a request costs does not grow with what surrounds it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from orchestra.store import outbox
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from tests.support.stack import Stack
from tests.support.store import connect, finish, new_worker, request, take

SURROUNDINGS = 600
# In all tables and indexes, for the ten statements of one request; it is about 60.
MOST_ROWS = 150

_ROWS_READ = """
SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS n
"""


@pytest.fixture
async def database(stack: Stack) -> AsyncIterator[Database]:
    """One connection, to tables whose statistics are those of a quiet moment: much has ended, and nothing is open."""
    connected = connect(await stack.fresh_database(), database_pool_size=1)
    await whole(connected, SURROUNDINGS)
    await connected.run("ANALYZE")
    yield connected
    await connected.close()


async def whole(database: Database, requests: int) -> None:
    """So many requests from intake to the mark of what was published, one after the other."""
    worker = await new_worker(database)
    for _ in range(requests):
        intaken = await take(database, request(), order=ClaimOrder(worker, 1))
        finished = await finish(database, intaken.claimed[0])
        await outbox.mark_published(database, [each.id for each in finished.announcements])


async def rows_read(database: Database) -> int:
    """How many rows this session's statements have read since the database is there."""
    await database.run("SELECT pg_stat_force_next_flush()")
    return int((await database.run(_ROWS_READ))[0].n)


async def test_a_request_reads_as_much_in_a_crowd_as_alone(database: Database) -> None:
    """Hundreds that run, that wait behind another, and whose replies Kafka does not take, cost one request nothing."""
    worker, busy = await new_worker(database), uuid4()
    ended = await take(database, *(request() for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, SURROUNDINGS))
    for turn in ended.claimed:
        await finish(database, turn)
    await take(database, *(request() for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, SURROUNDINGS))
    await take(database, *(request(busy) for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, 1))

    before = await rows_read(database)
    await whole(database, 1)

    assert await rows_read(database) - before < MOST_ROWS
