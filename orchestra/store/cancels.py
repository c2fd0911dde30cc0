"""Cancels and deletions: what ends a request from outside, also before it is there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
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


@dataclass
class Cancelled:
    """What a batch of cancels did. ``running``: what a worker is still running; it is told by its heartbeat."""

    announcements: list[Announcement] = field(default_factory=list)
    running: list[RequestRef] = field(default_factory=list)


_FIND = f"""
SELECT k.tenant, k.id, r.conversation_id
FROM {KEYS} AS k
LEFT JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
"""

# Whom an early cancel (e) counts for: what has no owner, and if a gateway signed it, what it was signed for. Where that
# is not known a release before these columns has kept it.
EARLY_COUNTS = (
    "(CAST({user} AS text) IS NULL OR e.signed IS NULL OR (e.signed AND (e.owner IS NULL OR e.owner = {user})))"
)

# Nobody takes a right away by being first. Who cancels for two owners may cancel for any.
_KEEP = """
INSERT INTO early_cancels AS e (tenant, id, signed, owner)
SELECT k.tenant, k.id, CAST(:signed AS boolean), CAST(:owner AS text)
FROM json_to_recordset(CAST(:refs AS json)) AS k(tenant text, id uuid)
ORDER BY k.tenant, k.id
ON CONFLICT (tenant, id) DO UPDATE SET signed = true,
    owner = CASE WHEN e.signed AND e.owner IS DISTINCT FROM excluded.owner THEN NULL ELSE excluded.owner END
WHERE excluded.signed AND NOT (e.signed AND e.owner IS NULL)
"""

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

# The request may have been taken in by another worker in the very moment in which its cancel was kept as an early one.
_UNSETTLED = f"""
SELECT r.tenant, r.id FROM early_cancels e JOIN requests r ON r.tenant = e.tenant AND r.id = e.id
WHERE e.created_at > now() - interval '5 minutes' AND r.finished_at IS NULL AND r.cancel_requested_at IS NULL
    AND {EARLY_COUNTS.format(user="r.user_name")}
"""

_MARK_DELETED = """
UPDATE conversations c SET deleted_at = coalesce(c.deleted_at, now())
FROM (
    SELECT tenant, id, deleted_at FROM conversations
    WHERE tenant = :tenant AND id = :id AND (CAST(:only AS text) IS NULL OR coalesce(owner, user_id::text) = :only)
    FOR UPDATE
) AS before
WHERE c.tenant = before.tenant AND c.id = before.id
RETURNING before.deleted_at IS NOT NULL AS already
"""


async def cancel(tx: Transaction, refs: Collection[RequestRef]) -> Cancelled:
    """Cancel what has not ended; keep the cancels of requests that are not there yet.

    Those count only if their request turns out to have no owner: for one that has, ``keep_early`` was there first.
    """
    if not refs:
        return Cancelled()
    found = await tx.run(_FIND, refs=refs_json(refs))
    early = [RequestRef(row.tenant, row.id) for row in found if row.conversation_id is None]
    known = [RequestRef(row.tenant, row.id) for row in found if row.conversation_id is not None]
    conversations = _conversations(found)
    if early:
        await tx.run(_KEEP, refs=refs_json(early), signed=False, owner=None)
    if not conversations:
        return Cancelled()
    await lock_conversations(tx, conversations)
    # Not the early ones, should they be there by now: their conversations are not locked. They are settled later.
    rows = await tx.run(_CANCEL, refs=refs_json(known))
    ended = [RequestRef(row.tenant, row.id) for row in rows if row.status == "cancelled"]
    announcements = await announce(tx, conversations if ended else (), ended)
    await promote(tx, conversations)
    return Cancelled(announcements, [RequestRef(row.tenant, row.id) for row in rows if row.status == "in_progress"])


async def keep_early(database: Database, ref: RequestRef, owner: str | None) -> None:
    """Keep the cancel of a request that has no row yet, so that it is born cancelled if it is ``owner``'s.

    None: whoever's it is.
    """
    await database.run(_KEEP, refs=refs_json([ref]), signed=True, owner=owner)


async def owned_among(tx: Transaction, requests: Collection[RequestRef]) -> set[RequestRef]:
    """Those of these requests that have an owner."""
    rows = await tx.run(_OWNED, refs=refs_json(requests)) if requests else ()
    return {RequestRef(row.tenant, row.id) for row in rows}


async def conversations_of(tx: Transaction, requests: Collection[RequestRef]) -> set[ConversationRef]:
    """The conversations of those of these requests that are there."""
    found = await tx.run(_FIND, refs=refs_json(requests)) if requests else ()
    return _conversations(found)


def _conversations(found: Sequence[Any]) -> set[ConversationRef]:
    return {ConversationRef(row.tenant, row.conversation_id) for row in found if row.conversation_id is not None}


async def delete_conversations(tx: Transaction, refs: Collection[ConversationRef]) -> list[Announcement]:
    """Delete conversations with their messages and cancel what is open in them. Their rows stay, as tombstones."""
    if not refs:
        return []
    await lock_conversations(tx, refs)
    open_requests = [RequestRef(row.tenant, row.id) for row in await tx.run(_DELETE, refs=refs_json(refs))]
    # First: what was answered and not published yet goes out with the cancels, without its text.
    await empty(tx, refs)
    return (await cancel(tx, open_requests)).announcements


async def settle_early(database: Database) -> list[Announcement]:
    """Cancel what is open although its cancel came before it."""
    refs = [RequestRef(row.tenant, row.id) for row in await database.run(_UNSETTLED)]
    if not refs:
        return []
    async with database.transaction() as tx:
        return (await cancel(tx, refs)).announcements


async def mark_deleted(database: Database, ref: ConversationRef, only: str | None = None) -> bool | None:
    """Hide a conversation (of ``only`` this owner's) at once, in one statement; its record does the rest.

    True: hidden now. False: it already was. None: there is none.
    """
    rows = await database.run(_MARK_DELETED, tenant=ref[0], id=ref[1], only=only)
    return None if not rows else not rows[0].already
