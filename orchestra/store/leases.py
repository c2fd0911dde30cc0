"""③ Leases: how long a worker's claims are valid, and how its turns go back once the lease has expired."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from orchestra.store.database import Database, Transaction
from orchestra.store.turns import (
    Announcement,
    ConversationRef,
    RequestRef,
    announce,
    empty,
    lock_conversations,
    promote,
)

LEASE_SECONDS = 15


@dataclass(frozen=True)
class Lost:
    """How many workers lost their lease, and how many requests were taken from them."""

    workers: int
    returned: int
    announcements: list[Announcement]


_REGISTER = """
INSERT INTO workers (id, lease_until) VALUES (:worker_id, now() + make_interval(secs => :lease))
"""

_RENEW = """
WITH beat AS (
    UPDATE workers SET lease_until = now() + make_interval(secs => :lease) WHERE id = :worker_id RETURNING id
)
SELECT b.id AS worker, r.tenant, r.id
FROM beat b LEFT JOIN requests r
    ON r.worker_id = b.id AND r.status = 'in_progress' AND r.cancel_requested_at IS NOT NULL
"""

_ANY_EXPIRED = "SELECT EXISTS (SELECT FROM workers WHERE lease_until < now()) AS found"

_EXPIRED_WORKERS = """
DELETE FROM workers WHERE id IN (
    SELECT id FROM workers WHERE lease_until < now() ORDER BY id FOR UPDATE SKIP LOCKED
) RETURNING id
"""

_HELD = """
SELECT tenant, id, conversation_id FROM requests WHERE worker_id = ANY(:workers) AND status = 'in_progress'
"""

# Runnable at once after the first loss, with back-off from the second. A cancelled or exhausted request ends here.
_GIVE_BACK_LOST = """
WITH given AS (
UPDATE requests r SET
    worker_id = NULL,
    losses = r.losses + 1,
    status = CASE WHEN r.cancel_requested_at IS NOT NULL THEN 'cancelled'
                  WHEN r.tries >= r.max_tries THEN 'failed'
                  ELSE 'pending' END,
    finished_at = CASE WHEN r.cancel_requested_at IS NOT NULL OR r.tries >= r.max_tries THEN now() END,
    error_code = CASE WHEN r.cancel_requested_at IS NULL THEN 'worker_lost' END,
    error_detail = CASE WHEN r.cancel_requested_at IS NOT NULL THEN NULL
                        WHEN r.tries >= r.max_tries THEN 'every worker that took the request was lost'
                        ELSE 'the worker that ran it was lost' END,
    run_at = now() + CASE WHEN r.losses = 0 THEN interval '0'
        ELSE make_interval(secs => least(30, power(2, r.losses)) * (0.5 + random() / 2)) END
WHERE r.worker_id = ANY(:workers) AND r.status = 'in_progress'
RETURNING r.tenant, r.id, r.fence, r.status
), noted AS (
INSERT INTO attempt_errors (tenant, request_id, attempt, code, detail)
SELECT tenant, id, fence, 'worker_lost', 'the worker that ran it was lost' FROM given
ON CONFLICT DO NOTHING
)
SELECT tenant, id, status FROM given
"""


async def register(database: Database, worker_id: UUID) -> None:
    """Take a lease under a new worker id."""
    await database.run(_REGISTER, worker_id=worker_id, lease=LEASE_SECONDS)


async def renew(database: Database, worker_id: UUID) -> list[RequestRef] | None:
    """Renew the lease. Returns this worker's requests that are to be cancelled, or None if the lease is lost."""
    rows = await database.run(_RENEW, worker_id=worker_id, lease=LEASE_SECONDS)
    return [RequestRef(row.tenant, row.id) for row in rows if row.id is not None] if rows else None


async def give_back_lost(database: Database) -> Lost:
    """Put the requests of workers whose lease has expired back into the queue."""
    if not (await database.run(_ANY_EXPIRED))[0].found:  # One round trip instead of three.
        return Lost(0, 0, [])
    async with database.transaction() as tx:
        workers = [row.id for row in await tx.run(_EXPIRED_WORKERS)]
        return await _take_from(tx, workers) if workers else Lost(0, 0, [])


async def leave(database: Database, worker_id: UUID) -> Lost:
    """Give up a lease and every turn held under it: for a worker that stops and may hold turns it does not know of."""
    async with database.transaction() as tx:
        await tx.run("DELETE FROM workers WHERE id = :id", id=worker_id)
        return await _take_from(tx, [worker_id])


async def _take_from(tx: Transaction, workers: Sequence[UUID]) -> Lost:
    held = await tx.run(_HELD, workers=workers)
    if not held:
        return Lost(len(workers), 0, [])
    conversations = [ConversationRef(row.tenant, row.conversation_id) for row in held]
    deleted = await lock_conversations(tx, conversations)
    rows = await tx.run(_GIVE_BACK_LOST, workers=workers)
    over = [RequestRef(row.tenant, row.id) for row in rows if row.status != "pending"]
    await empty(tx, deleted)
    announcements = await announce(tx, conversations if over else (), over)
    await promote(tx, conversations)
    return Lost(len(workers), len(rows), announcements)
