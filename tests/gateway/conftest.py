"""An empty database for the tests of what a gateway asks Postgres."""

from collections.abc import AsyncIterator

import pytest

from orchestra.store.database import Database
from tests.support.empty import empty, open_database
from tests.support.stack import Stack


@pytest.fixture(scope="session")
async def gateway_database(stack: Stack) -> AsyncIterator[Database]:
    """A pool on a database of these tests."""
    async with open_database(stack) as opened:
        yield opened


@pytest.fixture
async def database(gateway_database: Database) -> Database:
    """The same, with all migrations and no rows."""
    await empty(gateway_database)
    return gateway_database
