"""Cancels and deletions: they end a request from outside, even before its row exists."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestra.store.database import Database, Transaction
from orchestra.store.turns import (
    KEYS,
    Announcement,
    ConversationRef,
    RequestRef,
    announce,
    empty,
    lock_conversations,
    promote,
    refs_json,
)

# How long an intake that has begun is awaited; it writes for milliseconds.
_SETTLE_SECONDS = 2.0
_LOOK_SECONDS = 0.01


@dataclass
class CancelledBatch:
    """What a batch of cancels did. ``running``: requests still running; their workers learn of it by heartbeat."""

    announcements: list[Announcement] = field(default_factory=list)
    running: list[RequestRef] = field(default_factory=list)


@dataclass(frozen=True)
class Life:
    """When a conversation was created, and whether it is deleted."""

    created_at: datetime
    deleted: bool


_FIND = f"""
SELECT k.tenant, k.id, r.conversation_id
FROM {KEYS} AS k
LEFT JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
"""

# An early cancel (e) counts for a request without an owner and, if a gateway signed it, for the owner it was signed
# for. ``signed`` is null in rows of releases that did not have these columns.
_EARLY_COUNTS = (
    "(CAST({user} AS text) IS NULL OR e.signed IS NULL OR (e.signed AND (e.owner IS NULL OR e.owner = {user})))"
)

# An earlier cancel must not weaken a later one. A signed cancel from two owners counts for every owner.
_KEEP = """
INSERT INTO early_cancels AS e (tenant, id, signed, owner)
SELECT k.tenant, k.id, CAST(:signed AS boolean), CAST(:owner AS text)
FROM json_to_recordset(CAST(:refs AS json)) AS k(tenant text, id uuid)
ORDER BY k.tenant, k.id
ON CONFLICT (tenant, id) DO UPDATE SET signed = true,
    owner = CASE WHEN e.signed AND e.owner IS DISTINCT FROM excluded.owner THEN NULL ELSE excluded.owner END
WHERE excluded.signed AND NOT (e.signed AND e.owner IS NULL)
"""

_IS_EARLY = f"""
SELECT FROM early_cancels e
WHERE e.tenant = :tenant AND e.id = :id
    AND (e.signed AND CAST(:any_owner AS boolean) OR {_EARLY_COUNTS.format(user="nullif(:owner, '')")})
"""

_MARK = "SELECT CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS mark"

# `take_in_v1` writes, and so has its transaction id, before it looks for early cancels.
_TAKEN = """
SELECT pg_snapshot_xmin(pg_current_snapshot()) >= CAST(CAST(:mark AS text) AS xid8) AS settled,
    EXISTS (SELECT FROM requests r WHERE r.tenant = :tenant AND r.id = :id AND r.status <> 'cancelled') AS taken
"""

_FORGET = "DELETE FROM early_cancels WHERE tenant = :tenant AND id = :id"

_OWNED = f"""
SELECT r.tenant, r.id FROM {KEYS} AS k
JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
WHERE r.user_name IS NOT NULL
"""

_CANCEL = f"""
UPDATE requests r SET
    status = CASE WHEN r.status = 'in_progress' THEN r.status ELSE 'cancelled' END,
    finished_at = CASE WHEN r.status = 'in_progress' THEN NULL ELSE now() END,
    cancel_requested_at = coalesce(r.cancel_requested_at, now())
FROM {KEYS} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND r.status IN ('waiting', 'pending', 'in_progress')
RETURNING r.tenant, r.id, r.status
"""

_DELETE = f"""
WITH gone AS (
    UPDATE conversations c SET deleted_at = coalesce(c.deleted_at, now()), metadata = '{{}}'
    FROM {KEYS} AS k
    WHERE c.tenant = k.tenant AND c.id = k.id
    RETURNING c.tenant, c.id
), emptied AS (
    DELETE FROM messages m USING gone g WHERE m.tenant = g.tenant AND m.conversation_id = g.id
)
SELECT r.tenant, r.id FROM requests r JOIN gone g ON r.tenant = g.tenant AND r.conversation_id = g.id
WHERE r.finished_at IS NULL
"""

# Another worker may have inserted the request at the moment its cancel was kept as an early one.
_UNSETTLED = f"""
SELECT r.tenant, r.id FROM early_cancels e CROSS JOIN LATERAL (
    SELECT r.tenant, r.id FROM requests r
    WHERE r.tenant = e.tenant AND r.id = e.id AND r.finished_at IS NULL AND r.cancel_requested_at IS NULL
        AND {_EARLY_COUNTS.format(user="r.user_name")}
    OFFSET 0 -- One look into the index for each, not one over all requests.
) AS r
WHERE e.created_at > now() - interval '5 minutes'
"""

_LIFE = """
SELECT created_at, deleted_at IS NOT NULL AS deleted FROM conversations
WHERE tenant = :tenant AND id = :id AND (CAST(:only AS text) IS NULL OR coalesce(owner, user_id::text) = :only)
"""

_MARK_DELETED = """
UPDATE conversations SET deleted_at = now() WHERE tenant = :tenant AND id = :id AND deleted_at IS NULL
"""


async def cancel(tx: Transaction, refs: Collection[RequestRef]) -> CancelledBatch:
    """Cancel requests that have not ended, and keep the cancels of requests that have no row yet.

    A cancel kept here counts only for a request without an owner. The gateway keeps those for owned requests with
    ``keep_early``.
    """
    if not refs:
        return CancelledBatch()
    found = await tx.run(_FIND, refs=refs_json(refs))
    early = [RequestRef(row.tenant, row.id) for row in found if row.conversation_id is None]
    known = [RequestRef(row.tenant, row.id) for row in found if row.conversation_id is not None]
    conversations = _conversations(found)
    if early:
        await tx.run(_KEEP, refs=refs_json(early), signed=False, owner=None)
    if not conversations:
        return CancelledBatch()
    await lock_conversations(tx, conversations)
    # Not the early ones, even if their rows exist by now: their conversations are not locked. `settle_early` does it.
    rows = await tx.run(_CANCEL, refs=refs_json(known))
    ended = [RequestRef(row.tenant, row.id) for row in rows if row.status == "cancelled"]
    announcements = await announce(tx, conversations if ended else (), ended)
    await promote(tx, conversations)
    return CancelledBatch(
        announcements, [RequestRef(row.tenant, row.id) for row in rows if row.status == "in_progress"]
    )


async def keep_early(database: Database, ref: RequestRef, owner: str | None) -> None:
    """Keep the cancel of a request that has no row yet. If the request is ``owner``'s, it is cancelled on arrival.

    ``owner`` None: whatever its owner.
    """
    await database.run(_KEEP, refs=refs_json([ref]), signed=True, owner=owner)


async def prevent(database: Database, ref: RequestRef, owner: str | None) -> bool:
    """Keep a request from being run, when it is not known whether it was accepted. False if that is not certain.

    An intake that began before the cancel does not see it, so it is awaited, for a bounded time. A request that it took
    in goes on.
    """
    await keep_early(database, ref, owner)
    (now,) = await database.run(_MARK)
    limit = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < limit:
        (found,) = await database.run(_TAKEN, mark=now.mark, tenant=ref.tenant, id=ref.id)
        if found.taken:
            await database.run(_FORGET, tenant=ref.tenant, id=ref.id)
            return False
        if found.settled:
            return True
        await asyncio.sleep(_LOOK_SECONDS)
    return False


async def is_cancelled_early(database: Database, ref: RequestRef, owner: str, *, any_owner: bool) -> bool:
    """Whether a request without a row, if it is this owner's (empty: the tenant's), will be cancelled on arrival.

    ``any_owner``: a cancel of any owner's that a gateway accepted counts, too.
    """
    return bool(await database.run(_IS_EARLY, tenant=ref.tenant, id=ref.id, owner=owner, any_owner=any_owner))


async def owned_among(tx: Transaction, requests: Collection[RequestRef]) -> set[RequestRef]:
    """The requests among these that have an owner."""
    rows = await tx.run(_OWNED, refs=refs_json(requests)) if requests else ()
    return {RequestRef(row.tenant, row.id) for row in rows}


async def conversations_of(tx: Transaction, requests: Collection[RequestRef]) -> set[ConversationRef]:
    """The conversations of the requests among these that have a row."""
    found = await tx.run(_FIND, refs=refs_json(requests)) if requests else ()
    return _conversations(found)


def _conversations(found: Sequence[Any]) -> set[ConversationRef]:
    return {ConversationRef(row.tenant, row.conversation_id) for row in found if row.conversation_id is not None}


async def delete_conversations(tx: Transaction, refs: Collection[ConversationRef]) -> list[Announcement]:
    """Delete conversations with their messages and cancel their open requests. Their rows stay as tombstones."""
    if not refs:
        return []
    await lock_conversations(tx, refs)
    open_requests = [RequestRef(row.tenant, row.id) for row in await tx.run(_DELETE, refs=refs_json(refs))]
    # Before `cancel`: it returns unpublished replies too, and they must go out without their texts.
    await empty(tx, refs)
    return (await cancel(tx, open_requests)).announcements


async def settle_early(database: Database) -> list[Announcement]:
    """Cancel requests that are open although their cancel came first."""
    refs = [RequestRef(row.tenant, row.id) for row in await database.run(_UNSETTLED)]
    if not refs:
        return []
    async with database.transaction() as tx:
        return (await cancel(tx, refs)).announcements


async def life_of(database: Database, ref: ConversationRef, only: str | None = None) -> Life | None:
    """Since when there is a conversation (if ``only``, then of that owner). None: there is no such conversation."""
    rows = await database.run(_LIFE, tenant=ref.tenant, id=ref.id, only=only)
    return Life(**rows[0]) if rows else None


async def mark_deleted(database: Database, ref: ConversationRef) -> None:
    """Hide a conversation at once; its deletion record does the rest."""
    await database.run(_MARK_DELETED, tenant=ref.tenant, id=ref.id)
