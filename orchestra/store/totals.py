"""Totals per owner and tenant: open turns, parked turns, stored bytes. One worker counts them now and then.

Nothing here is on a request's path. Gateways read which owners and tenants have too much; accepting, claiming and
ending a request write nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestra.store.database import Database
from orchestra.store.pauses import COULD_RUN

# Stored bytes are estimated from this many randomly chosen pages of each table.
_SAMPLE_PAGES = 1000


@dataclass(frozen=True)
class Quota:
    """Thresholds from which an owner or tenant counts as having too much."""

    open_turns: int
    parked_turns: int
    stored_bytes: int
    age_seconds: float


@dataclass(frozen=True)
class Total:
    """The totals of one owner. ``owner`` None: the whole tenant. ``owner`` empty: the tenant's own.

    ``next_due``: when the first parked turn may run. ``age_seconds``: how long the owner's oldest runnable turn has
    waited; 0 for a whole tenant.
    """

    tenant: str
    owner: str | None
    open_turns: int
    parked_turns: int
    next_due: datetime | None
    age_seconds: float
    stored_bytes: int


# One worker counts; the others find the row locked, or not due.
_DUE = "SELECT what FROM totals_due WHERE what = :what AND due_at <= now() FOR UPDATE SKIP LOCKED"
# Counting takes at most one twentieth of the time, however much there is to count.
_COUNTED = """
UPDATE totals_due SET due_at = clock_timestamp() + make_interval(secs => :every) + 20 * (clock_timestamp() - now())
WHERE what = :what
"""

# One query per state, so that each uses its own index.
_OPEN = " UNION ALL ".join(
    "SELECT tenant, user_name, model, status, not_before, run_at, deadline_at, error_code FROM requests "
    f"WHERE status = '{status}'"
    for status in ("waiting", "pending", "in_progress")
)
_COUNT_TURNS = f"""
WITH counted AS MATERIALIZED (
    SELECT tenant, grouping(coalesce(user_name, '')) = 1 AS whole, coalesce(coalesce(user_name, ''), '') AS owner,
        count(*) AS open_turns,
        count(*) FILTER (WHERE not_before > now()) AS parked_turns,
        min(not_before) FILTER (WHERE not_before > now()) AS next_due,
        min(run_at) FILTER (WHERE status = 'pending' AND {COULD_RUN}) AS runnable_since
    FROM ({_OPEN}) AS r GROUP BY GROUPING SETS ((tenant, coalesce(user_name, '')), (tenant))
), gone AS (
    UPDATE owner_totals t SET open_turns = 0, parked_turns = 0, next_due = NULL, runnable_since = NULL
    WHERE t.open_turns > 0 AND NOT EXISTS (
        SELECT FROM counted c WHERE c.tenant = t.tenant AND c.whole = t.whole AND c.owner = t.owner
    )
)
INSERT INTO owner_totals AS t (tenant, whole, owner, open_turns, parked_turns, next_due, runnable_since)
SELECT tenant, whole, owner, open_turns, parked_turns, next_due, runnable_since FROM counted
ON CONFLICT (tenant, whole, owner) DO UPDATE SET open_turns = excluded.open_turns,
    parked_turns = excluded.parked_turns, next_due = excluded.next_due, runnable_since = excluded.runnable_since
WHERE (t.open_turns, t.parked_turns, t.next_due, t.runnable_since)
    IS DISTINCT FROM (excluded.open_turns, excluded.parked_turns, excluded.next_due, excluded.runnable_since)
"""

# The percentage comes from the table's present size, so that a sample has the same number of pages at any size.
_SAMPLED = """
    SELECT {tenant} AS tenant, {owner} AS owner, sum({bytes}) * 100 / s.percent AS stored_bytes
    FROM (
        SELECT least(100, 100.0 * {pages} / greatest(1, pg_relation_size('{table}') / 8192)) AS percent
    ) AS s CROSS JOIN LATERAL (SELECT * FROM {table} TABLESAMPLE SYSTEM (s.percent)) AS r {join}
    GROUP BY 1, 2, s.percent
"""
_KEPT = " UNION ALL ".join(
    _SAMPLED.format(table=table, tenant="r.tenant", owner=owner, bytes=bytes, join=join, pages=_SAMPLE_PAGES)
    for table, owner, bytes, join in (
        (
            "messages",
            "coalesce(c.owner, c.user_id::text, '')",
            " + ".join(f"coalesce(pg_column_size(r.{name}), 0)" for name in ("content", "parts", "output", "state")),
            "JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id",
        ),
        ("requests", "coalesce(r.user_name, '')", "coalesce(pg_column_size(r.body), 0)", ""),
        ("conversations", "coalesce(r.owner, r.user_id::text, '')", "pg_column_size(r.metadata)", ""),
    )
)
_COUNT_BYTES = f"""
WITH counted AS MATERIALIZED (
    SELECT tenant, grouping(owner) = 1 AS whole, coalesce(owner, '') AS owner,
        CAST(sum(stored_bytes) AS bigint) AS stored_bytes
    FROM ({_KEPT}) AS kept GROUP BY GROUPING SETS ((tenant, owner), (tenant))
), gone AS (
    UPDATE owner_totals t SET stored_bytes = 0
    WHERE t.stored_bytes > 0 AND NOT EXISTS (
        SELECT FROM counted c WHERE c.tenant = t.tenant AND c.whole = t.whole AND c.owner = t.owner
    )
)
INSERT INTO owner_totals AS t (tenant, whole, owner, stored_bytes)
SELECT tenant, whole, owner, stored_bytes FROM counted
ON CONFLICT (tenant, whole, owner) DO UPDATE SET stored_bytes = excluded.stored_bytes
WHERE t.stored_bytes <> excluded.stored_bytes
"""
_FORGET = "DELETE FROM owner_totals WHERE open_turns = 0 AND stored_bytes = 0"

_TOO_MUCH = """
SELECT tenant, CASE WHEN NOT whole THEN owner END AS owner, open_turns, parked_turns, next_due, stored_bytes,
    CASE WHEN whole OR runnable_since IS NULL THEN 0
        ELSE CAST(extract(epoch FROM now() - runnable_since) AS float8) END AS age_seconds
FROM owner_totals
WHERE NOT whole AND (
        open_turns >= :open_turns OR parked_turns >= :parked_turns OR stored_bytes >= :stored_bytes
        OR runnable_since < now() - make_interval(secs => :age_seconds))
    OR whole AND (open_turns >= :open_whole OR parked_turns >= :parked_whole OR stored_bytes >= :bytes_whole)
"""


_PARKED = """
SELECT CASE WHEN NOT whole THEN owner END AS owner, parked_turns FROM owner_totals
WHERE tenant = :tenant AND (whole OR owner = ANY(:owners))
"""


async def count_turns(database: Database, every: float) -> bool:
    """Count the open turns if a count is due; the next one is due in at least ``every`` seconds. True if counted."""
    return await _count(database, "turns", _COUNT_TURNS, every)


async def count_bytes(database: Database, every: float) -> bool:
    """Estimate the stored bytes, on the same terms as ``count_turns``."""
    return await _count(database, "bytes", _COUNT_BYTES, every)


async def too_much(database: Database, owner: Quota, tenant: Quota) -> Sequence[Total]:
    """The owners and tenants that had reached any of these thresholds when they were last counted."""
    rows = await database.run(
        _TOO_MUCH,
        open_turns=owner.open_turns,
        parked_turns=owner.parked_turns,
        stored_bytes=owner.stored_bytes,
        age_seconds=owner.age_seconds,
        open_whole=tenant.open_turns,
        parked_whole=tenant.parked_turns,
        bytes_whole=tenant.stored_bytes,
    )
    return [Total(**row) for row in rows]


async def parked(database: Database, tenant: str, owners: Collection[str]) -> dict[str | None, int]:
    """The parked turns of these owners and, as None, of the whole tenant, when they were last counted."""
    rows = await database.run(_PARKED, tenant=tenant, owners=list(owners))
    return {row.owner: row.parked_turns for row in rows}


async def _count(database: Database, what: str, statement: str, every: float) -> bool:
    async with database.transaction() as tx:
        if not await tx.run(_DUE, what=what):
            return False
        await tx.run(statement)
        await tx.run(_FORGET)
        await tx.run(_COUNTED, what=what, every=every)
        return True
