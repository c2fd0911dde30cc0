"""Retention: delete old ended requests, published replies, dead letters, logs and early cancels."""

from orchestra.store.database import Database

_EARLY_CANCEL_DAYS = 7
_MIN_DAYS = 7

_SWEEP = (
    """DELETE FROM requests WHERE (tenant, id) IN (
        SELECT tenant, id FROM requests WHERE finished_at < now() - make_interval(days => :days) LIMIT :limit)
    RETURNING 1""",
    """DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE published_at < now() - make_interval(days => :days) LIMIT :limit)
    RETURNING 1""",
    """DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters WHERE created_at < now() - make_interval(days => :days) LIMIT :limit)
    RETURNING 1""",
    """DELETE FROM logs WHERE id IN (
        SELECT id FROM logs WHERE created_at < now() - make_interval(days => :days) LIMIT :limit)
    RETURNING 1""",
)

_EARLY_CANCELS = "DELETE FROM early_cancels WHERE created_at < now() - make_interval(days => :days) RETURNING 1"


async def sweep_old(database: Database, days: int, limit: int) -> int:
    """Delete up to ``limit`` rows of each kind older than ``days``. Returns how many rows were deleted.

    ``days`` below 7 count as 7: late duplicates must still be recognised. Early cancels go after 7 days, without a
    limit. Messages are deleted only with their conversation.
    """
    gone = len(await database.run(_EARLY_CANCELS, days=_EARLY_CANCEL_DAYS))
    for statement in _SWEEP:
        gone += len(await database.run(statement, days=max(days, _MIN_DAYS), limit=limit))
    return gone
