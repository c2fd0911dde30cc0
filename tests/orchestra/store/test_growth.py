"""Promises of the store: what a request costs does not grow with what surrounds it."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from orchestra.store import claims, outbox
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from tests.support.stack import Stack
from tests.support.store import connect, finish, new_worker, request, take

SURROUNDINGS = 600
# In all tables and indexes, for the ten statements of one request; it is about 16.
MAX_ROWS = 60

_ROWS_READ = """
SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS n
"""
_ALL_TABLES = "SELECT relname AS name FROM pg_stat_user_tables"


@pytest.fixture(params=["ANALYZE", "VACUUM", "VACUUM ANALYZE"])
async def database(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """One new connection, to tables that were last looked at in a quiet moment: much has ended, and nothing is open.

    Autovacuum stays away: it may come at any moment, and clear away what the test wants to be there.
    """
    url = await stack.fresh_database()
    connected = connect(url, as_worker=True, database_pool_size=1)
    for table in await connected.run(_ALL_TABLES):
        await connected.run(f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)")
    await whole(connected, SURROUNDINGS)
    await connected.run(request.param)
    await connected.close()
    connected = connect(url, as_worker=True, database_pool_size=1)
    yield connected
    await connected.close()


async def whole(database: Database, requests: int) -> None:
    """Run this many requests from intake to the mark of what was published, one after the other."""
    worker = await new_worker(database)
    for _ in range(requests):
        intaken = await take(database, request(), order=ClaimOrder(worker, 1))
        finished = await finish(database, intaken.claimed[0])
        await outbox.mark_published(database, [each.id for each in finished.announcements])


async def rows_read(database: Database) -> int:
    """How many rows this session's statements have read since the database was created."""
    await database.run("SELECT pg_stat_force_next_flush()")
    return int((await database.run(_ROWS_READ))[0].n)


async def test_a_request_reads_as_much_in_a_crowd_as_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that run, that wait behind another, and whose replies Kafka does not take, cost one request nothing."""
    worker, busy = await new_worker(database), uuid4()
    ended = await take(database, *(request() for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, SURROUNDINGS))
    for turn in ended.claimed:
        await finish(database, turn)
    await take(database, *(request() for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, SURROUNDINGS))
    await take(database, *(request(busy) for _ in range(SURROUNDINGS)), order=ClaimOrder(worker, 1))

    read = []
    # By urgency, then by age. The first that comes past the entries that ended turns left in an index marks them dead.
    for drawn in (0.0, 0.99, 0.0, 0.99):
        monkeypatch.setattr(claims.random, "random", lambda drawn=drawn: drawn)
        before = await rows_read(database)
        await whole(database, 1)
        read.append(await rows_read(database) - before)

    assert max(read[2:]) < MAX_ROWS, read
