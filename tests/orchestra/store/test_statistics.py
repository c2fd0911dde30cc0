"""Promises of orchestra/store/statistics.py: the planner knows new tables before autovacuum runs."""

from orchestra.store.database import Database
from orchestra.store.statistics import analyze_grown
from tests.support.store import request, take

_ROWS = "SELECT c.reltuples AS n FROM pg_class c WHERE c.oid = CAST('requests' AS regclass)"


async def test_a_table_that_has_grown_is_analyzed_once(database: Database) -> None:
    """Its number of rows is known afterwards, and it is not analyzed again until it has grown many times over."""
    # Autovacuum would do it too, at a moment of its own.
    await database.run("ALTER TABLE requests SET (autovacuum_enabled = false)")
    await database.run("ANALYZE")
    for _ in range(3):
        await take(database, *(request() for _ in range(400)))
    await database.run("SELECT pg_stat_force_next_flush()")

    assert "requests" in await analyze_grown(database)
    assert (await database.run(_ROWS))[0].n >= 1200
    assert "requests" not in await analyze_grown(database)
