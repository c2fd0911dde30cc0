"""What the planner knows of young tables: autovacuum looks once a minute, and a system fills them in seconds."""

from orchestra.store.database import Database

# By tenant alone an empty table's statistics make every index look as good as the key itself.
_TABLES = ["conversations", "messages", "outbox", "requests"]

_GROWN = """
SELECT s.relname AS name FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE s.schemaname = current_schema() AND s.relname = ANY(:tables)
    AND s.n_mod_since_analyze > greatest(1000, 10 * c.reltuples)
"""


async def analyze_grown(database: Database) -> list[str]:
    """Gather statistics of tables that are many times as large as when that was last done; their names.

    Sessions then plan anew. It takes the rights of the tables' owner, or ``MAINTAIN``; without, Postgres skips it.
    """
    grown = [row.name for row in await database.run(_GROWN, tables=_TABLES)]
    for name in grown:
        await database.run(f"ANALYZE {name}")
    return grown
