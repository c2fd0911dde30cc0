"""③ Leases: how long a worker's claims are valid, and how its turns go back once the lease has expired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ValidationError

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
from orchestra.store.worker_state import WorkerState

LEASE_SECONDS = 15


@dataclass(frozen=True)
class Lost:
    """How many workers lost their lease, and how many requests were taken from them."""

    workers: int
    returned: int
    announcements: list[Announcement]


@dataclass(frozen=True)
class Beat:
    """What a worker learns when it renews its lease: its requests to cancel, and whether it may take something new."""

    cancelled: list[RequestRef]
    drains: bool


@dataclass(frozen=True)
class KnownWorker:
    """A worker that has registered and not left. ``alive``: its lease is valid.

    ``drain_requested_at``: since when it is to take nothing new; None: it may.
    ``state``: what it said of itself when it last renewed its lease. None: nothing yet, or it is of another release.
    """

    id: UUID
    started_at: datetime
    lease_until: datetime
    alive: bool
    drain_requested_at: datetime | None
    state: WorkerState | None

    @property
    def drains(self) -> bool:
        """Whether it takes nothing new, or is to do so soon."""
        return self.drain_requested_at is not None or bool(self.state and self.state.draining)

    def until(self, seconds: float) -> datetime:
        """The time that was ``seconds`` ahead when the worker renewed its lease."""
        return self.lease_until + timedelta(seconds=seconds - LEASE_SECONDS)


_REGISTER = """
INSERT INTO workers (id, lease_until, drain_requested_at)
VALUES (:worker_id, now() + make_interval(secs => :lease), CASE WHEN CAST(:drains AS boolean) THEN now() END)
"""

_RENEW = """
WITH beat AS (
    UPDATE workers SET lease_until = now() + make_interval(secs => :lease),
        state = coalesce(CAST(:state AS jsonb), state)
    WHERE id = :worker_id RETURNING id, drain_requested_at
)
SELECT b.drain_requested_at IS NOT NULL AS drains, r.tenant, r.id
FROM beat b LEFT JOIN requests r
    ON r.worker_id = b.id AND r.status = 'in_progress' AND r.cancel_requested_at IS NOT NULL
"""

_KNOWN = """
SELECT id, started_at, lease_until, lease_until >= now() AS alive, drain_requested_at, CAST(state AS text) AS state
FROM workers
"""
_EVERY = f"{_KNOWN} ORDER BY started_at DESC, id LIMIT :limit"
_ONE = f"{_KNOWN} WHERE id = :worker_id"

_DRAIN = """
UPDATE workers w SET
    drain_requested_at = CASE WHEN CAST(:drains AS boolean) THEN coalesce(w.drain_requested_at, now()) END
FROM (SELECT id, drain_requested_at FROM workers WHERE id = :worker_id FOR UPDATE) AS before
WHERE w.id = before.id
RETURNING before.drain_requested_at IS NOT NULL AS drained
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


async def register(database: Database, worker_id: UUID, *, drains: bool = False) -> None:
    """Take a lease under a new worker id. ``drains``: the worker takes nothing new under this id either."""
    await database.run(_REGISTER, worker_id=worker_id, lease=LEASE_SECONDS, drains=drains)


async def renew(database: Database, worker_id: UUID, state: WorkerState | None = None) -> Beat | None:
    """Renew the lease, and store what the worker says of itself; None: what it said last stays.

    Returns None if the lease is lost.
    """
    said = state and state.model_dump_json()
    rows = await database.run(_RENEW, worker_id=worker_id, lease=LEASE_SECONDS, state=said)
    if not rows:
        return None
    return Beat([RequestRef(row.tenant, row.id) for row in rows if row.id is not None], rows[0].drains)


async def drain(tx: Transaction, worker_id: UUID, *, drains: bool) -> bool | None:
    """Have a worker take nothing new, or let it again. Returns whether it drained before; None: no such worker."""
    rows = await tx.run(_DRAIN, worker_id=worker_id, drains=drains)
    return rows[0].drained if rows else None


async def every(database: Database, limit: int) -> list[KnownWorker]:
    """Up to ``limit`` workers, the one that started last first."""
    rows = await database.run(_EVERY, limit=limit)
    return [KnownWorker(**{**row, "state": _read(row.state)}) for row in rows]


async def one(database: Database, worker_id: UUID) -> KnownWorker | None:
    """A worker by its id."""
    rows = await database.run(_ONE, worker_id=worker_id)
    return KnownWorker(**{**rows[0], "state": _read(rows[0].state)}) if rows else None


def _read(state: Any) -> WorkerState | None:
    try:
        return None if state is None else WorkerState.model_validate_json(state)
    except ValidationError:
        return None  # Of a later release.


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
