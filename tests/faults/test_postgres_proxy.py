"""The proxy that cuts Postgres connections after a COMMIT, in front of the real Postgres."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import pytest

from faults.postgres_proxy import PostgresProxy, postgres_proxy
from orchestra.settings import DatabaseSettings
from orchestra.store.database import Database, DatabaseUnavailableError
from tests.support.stack import Stack


@asynccontextmanager
async def through_proxy(stack: Stack) -> AsyncIterator[tuple[PostgresProxy, Database]]:
    split = urlsplit(await stack.fresh_database())
    assert split.hostname
    assert split.port
    async with postgres_proxy(split.hostname, split.port) as opened:
        url = urlunsplit(split._replace(netloc=split.netloc.replace(f":{split.port}", f":{opened.port}")))
        database = Database.connect(DatabaseSettings.model_validate({"database_url": url}), "test")
        yield opened, database
        await database.close()


async def insert(database: Database, kind: str) -> None:
    async with database.transaction() as tx:
        await tx.run("INSERT INTO logs (type, message) VALUES (:kind, 'COMMIT')", kind=kind)


async def kept(database: Database) -> list[str]:
    return [row.type for row in await database.run("SELECT type FROM logs ORDER BY id")]


async def test_a_cut_commit_is_committed_and_its_client_cannot_know(stack: Stack) -> None:
    """The client's connection breaks at its COMMIT; the rows are there all the same, and later commits work."""
    async with through_proxy(stack) as (opened, database):
        await insert(database, "first")
        opened.cut_commits = 1
        with pytest.raises(DatabaseUnavailableError):
            await insert(database, "cut")
        await insert(database, "after")

        assert (1, 0) == (opened.cuts, opened.cut_commits)
        assert ["first", "cut", "after"] == await kept(database)


async def test_only_commits_are_cut(stack: Stack) -> None:
    """Statements that read, roll back, or only mention COMMIT pass."""
    async with through_proxy(stack) as (opened, database):
        opened.cut_commits = 1
        with pytest.raises(ZeroDivisionError):
            async with database.transaction() as tx:
                await tx.run("INSERT INTO logs (type, message) VALUES ('COMMIT', 'COMMIT')")
                raise ZeroDivisionError

        assert (0, 1) == (opened.cuts, opened.cut_commits)
        opened.cut_commits = 0
        assert [] == await kept(database)
