"""An empty database for every test of the store."""

from collections.abc import AsyncIterator

import pytest

from orchestra.store.database import Database
from tests.support.empty import empty, open_database
from tests.support.stack import Stack


@pytest.fixture(scope="package")
async def opened_database(stack: Stack) -> AsyncIterator[Database]:
    """A pool on an empty database, for the tests of this folder."""
    async with open_database(stack) as opened:
        yield opened


@pytest.fixture
async def database(opened_database: Database) -> Database:
    """A pool on a database with all migrations and no rows."""
    await empty(opened_database)
    return opened_database
