"""Promises of migrations/0026_hidden_conversations.sql: what is not kept is marked, and lists leave hidden ones out."""

import asyncio
import re
from pathlib import Path
from uuid import UUID

import asyncpg

from orchestra.cli.migrate import dbmate
from orchestra.store.conversations import page
from orchestra.store.database import Database
from tests.support.stack import Stack
from tests.support.store import claim_one, connect, count, finish, request, take
from tests.support.tree import ROOT

_ROWS_READ = """
SELECT coalesce(sum(idx_tup_read), 0) AS n FROM pg_stat_user_indexes
WHERE indexrelname IN ('conversations_newest', 'conversations_owned')
"""
_FILL = """
INSERT INTO conversations (id, owner)
SELECT CAST(overlay(CAST(gen_random_uuid() AS text) PLACING :version FROM 15) AS uuid), 'alice'
FROM generate_series(1, :n)
"""


async def test_requests_that_must_not_be_kept_are_marked(database: Database) -> None:
    """Whatever the release of the worker that takes them in, and only if their body says so."""
    bodies = [{"store": False}, {"store": True}, {}, {"store": "false else"}]
    asked = [request() for _ in bodies]
    for each, more in zip(asked, bodies, strict=True):
        each.body.update(more)

    await take(database, *asked)

    rows = await database.run("SELECT id, store FROM requests")
    assert {asked[0].id: False} == {row.id: row.store for row in rows if row.store is not None}


async def test_indexes_may_be_made_before(stack: Stack) -> None:
    """With the statements of the page on upgrades run first, the migrations leave the same tables and indexes."""
    page = (ROOT / "docs/howto/upgrade.md").read_text("utf-8")
    (block,) = [each for each in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "CONCURRENTLY" in each]
    prepared, plain = await stack.fresh_database(), await stack.fresh_database()
    for _ in [path for path in (ROOT / "migrations").glob("*.sql") if path.name > "0026"]:
        assert dbmate("down", url=prepared).returncode == 0
    connection = await asyncpg.connect(prepared)
    for statement in block.split(";")[:-1]:
        await connection.execute(statement)
    await connection.close()
    assert dbmate("up", url=prepared).returncode == 0

    assert await _indexes(plain) == await _indexes(prepared)


async def _indexes(url: str) -> set[tuple[str, bool]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT pg_get_indexdef(i.indexrelid) AS text, i.indisvalid AS valid FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace"
    )
    await connection.close()
    return {(row["text"], row["valid"]) for row in rows}


async def test_hidden_conversations_cost_lists_nothing(stack: Stack) -> None:
    """A page of a list reads its own rows, however many hidden conversations there are."""
    database = connect(await stack.fresh_database(), database_pool_size=1)
    await database.run(_FILL, version="4", n=30)
    await database.run(_FILL, version="8", n=3000)
    for only in (None, "alice"):
        before = await _read(database)
        assert 10 == len(await page(database, "default", None, 10, only))
        assert await _read(database) - before <= 60
    await database.close()


async def _read(database: Database) -> int:
    await database.run("SELECT pg_stat_force_next_flush()")
    return int((await database.run(_ROWS_READ))[0].n)


async def test_the_way_back_keeps_everything(stack: Stack) -> None:
    """Down: hidden conversations and requests that must not be kept are ordinary ones."""
    url = await stack.fresh_database()
    database = connect(url)
    id = UUID("01890a5d-ac96-8b7c-9f39-0d9b6f0f6a01")
    asked = request(id, id=id)
    asked.body["store"] = False
    await take(database, asked)
    await finish(database, await claim_one(database))
    await database.close()

    for _ in [file for file in Path("migrations").glob("*.sql") if file.name >= "0025"]:
        done = await asyncio.to_thread(dbmate, "down", url=url)
        assert done.returncode == 0, done.stdout + done.stderr

    database = connect(url)
    counts = [await count(database, table) for table in ("conversations", "requests", "messages")]
    await database.close()
    assert [1, 1, 2] == counts
