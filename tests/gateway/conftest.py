"""An empty database for the tests of the gateway's queries."""

from collections.abc import AsyncIterator

import pytest

from orchestra.store.database import Database
from tests.support.empty import empty, open_database
from tests.support.stack import Stack


@pytest.fixture(scope="session")
async def gateway_database(stack: Stack) -> AsyncIterator[Database]:
    """A connection pool for a database of these tests."""
    async with open_database(stack) as opened:
        yield opened


@pytest.fixture
async def database(gateway_database: Database) -> Database:
    """The same database with all migrations applied and no rows."""
    await empty(gateway_database)
    return gateway_database
