"""Planner statistics of new tables: autovacuum runs once a minute, but the tables can fill up in seconds."""

from orchestra.store.database import Database

# With statistics of an empty table, any index on the tenant looks as good as the primary key.
_TABLES = ["conversations", "messages", "outbox", "requests"]

_GROWN = """
SELECT s.relname AS name FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = current_schema() AND s.relname = ANY(:tables)
    AND s.n_mod_since_analyze > greatest(1000, 10 * c.reltuples)
"""


async def analyze_grown(database: Database) -> list[str]:
    """Analyze tables that have grown many times over since the last time. Returns their names.

    Sessions then plan again. Requires ownership of the tables or ``MAINTAIN``; otherwise Postgres skips them.
    """
    grown = [row.name for row in await database.run(_GROWN, tables=_TABLES)]
    for name in grown:
        await database.run(f"ANALYZE {name}")
    return grown
