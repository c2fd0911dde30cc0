"""Plans of statements that do not depend on what else a test's database has held."""

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from benchmarks.console import rows
from orchestra.store.database import Database, Row
from tests.support.empty import FORGET

# A plan follows a table's statistics, which the rows of other tests leave behind and autovacuum renews at any time.
_AS_NEW = (
    """DO $$ BEGIN EXECUTE (
        SELECT 'TRUNCATE ' || string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'
    ); END $$""",
    FORGET,
    "SET LOCAL enable_seqscan = off",
)


class _RolledBackError(Exception):
    pass


async def plan_of(database: Database, sql: str, **values: Any) -> str:
    """How Postgres would run a statement in a new database, by indexes wherever there are any. Nothing is changed."""
    text = ""
    try:
        async with database.transaction() as tx:
            for each in _AS_NEW:
                await tx.run(each)
            text = "\n".join(row[0] for row in await tx.run(f"EXPLAIN {sql}", **values))
            raise _RolledBackError
    except _RolledBackError:
        return text


@contextmanager
def noted(method: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The statements that are given to this method of databases meanwhile, with their values."""
    asked: list[tuple[str, dict[str, Any]]] = []
    run = getattr(Database, method)

    async def noting(self: Database, sql: str, **values: Any) -> Sequence[Row]:
        asked.append((sql, values))
        found: Sequence[Row] = await run(self, sql, **values)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, method, noting)
        yield asked


async def rows_read(run: Callable[..., Awaitable[Sequence[Row]]], sql: str, **values: Any) -> float:
    """How many rows of tables and indexes a statement reads. No large table is scanned. ``run``: of the database."""
    ((plan,),) = await run(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", **values)
    node = json.loads(plan)[0]["Plan"] if isinstance(plan, str) else plan[0]["Plan"]
    assert not _scanned(node) & {"requests", "conversations", "messages", "dead_letters", "audit"}
    return rows.rows_read(node)


def _scanned(node: Any) -> set[str]:
    here = {node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set()
    return here.union(*map(_scanned, node.get("Plans", ())))
