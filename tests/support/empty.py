"""One database for a folder of tests, emptied before each: making one for each would take longer than they do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestra.store.database import Database
from tests.support.stack import Stack
from tests.support.store import connect

_TABLES = (
    "models dead_letters intake_progress early_cancels outbox requests workers logs messages branches conversations "
    "api_keys users owner_totals files request_minutes pauses audit erasures"
)

FORGET = (
    "DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
)
"""Forgets the statistics of all tables."""


@asynccontextmanager
async def open_database(stack: Stack) -> AsyncIterator[Database]:
    """A pool on a new database, migrated."""
    opened = connect(await stack.fresh_database())
    yield opened
    await opened.close()


async def empty(database: Database) -> None:
    """Delete every row, and what the planner knows of them."""
    async with database.transaction() as tx:
        for table in _TABLES.split():
            await tx.run(f"DELETE FROM {table}")
        await tx.run(FORGET)
