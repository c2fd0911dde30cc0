"""Retention: what is old, hidden or not to be kept is deleted.

A conversation of one request (hidden) has the request's id, of version 8. It goes with its request, but not before the
last of its branches.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any
from uuid import UUID

from orchestra.store.cancels import delete_conversations
from orchestra.store.database import Database
from orchestra.store.turns import HIDDEN, KEYS, ConversationRef, lock_conversations, refs_json

_EARLY_CANCEL_DAYS = 7
_MIN_DAYS = 7
# A client that has the answer may still resume its stream.
_KEPT_MINUTES = 10
_MESSAGES_AT_ONCE = 5000

_OF_HIDDEN = f"r.id = r.conversation_id AND {HIDDEN.format(id='r.id')}"
_OLD = "{moment} < now() - make_interval(days => :days)"
# Not EXISTS, which the planner may turn into a join that reads a whole index.
_ANY = "(SELECT true FROM {rows} LIMIT 1) IS NOT NULL"
_NONE = "(SELECT true FROM {rows} LIMIT 1) IS NULL"
# Not IS NULL, so that no partial index is read whole for one row.
_THERE = "coalesce({row}.deleted_at, 'infinity') = 'infinity'"

_SWEEP = (
    f"""DELETE FROM requests WHERE (tenant, id) IN (
        SELECT r.tenant, r.id FROM requests r
        WHERE {_OLD.format(moment="r.finished_at")} AND NOT ({_OF_HIDDEN}) LIMIT :limit)
    RETURNING 1""",
    f"""DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE {_OLD.format(moment="published_at")} LIMIT :limit)
    RETURNING 1""",
    f"""DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters WHERE {_OLD.format(moment="created_at")} LIMIT :limit)
    RETURNING 1""",
    f"""DELETE FROM logs WHERE id IN (
        SELECT id FROM logs WHERE {_OLD.format(moment="created_at")} LIMIT :limit)
    RETURNING 1""",
    """DELETE FROM request_minutes WHERE (minute, tenant, model, outcome) IN (
        SELECT minute, tenant, model, outcome FROM request_minutes
        WHERE minute < now() - make_interval(days => :days) LIMIT :limit)
    RETURNING 1""",
)

_AUDIT = f"""
DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE {_OLD.format(moment="created_at")} ORDER BY created_at LIMIT :limit)
RETURNING 1
"""

_EARLY_CANCELS = f"DELETE FROM early_cancels WHERE {_OLD.format(moment='created_at')} RETURNING 1"

# The request goes last: it is what leads to the conversation.
_OTHERS = "requests o WHERE o.tenant = r.tenant AND o.conversation_id = r.conversation_id AND o.id <> r.id"
_LAST_OF_HIDDEN = f"{_OF_HIDDEN} AND {_OLD.format(moment='r.finished_at')} AND {_NONE.format(rows=_OTHERS)}"
_OLD_HIDDEN = f"""
SELECT r.tenant, r.id FROM requests r WHERE r.finished_at IS NOT NULL AND {_LAST_OF_HIDDEN}
ORDER BY r.finished_at LIMIT :limit
"""
_DELETE_LAST = f"""
DELETE FROM requests r USING {KEYS} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND {HIDDEN.format(id="k.id")}
    AND CAST(r.conversation_id AS text) = CAST(k.id AS text) -- As text: not to be read from the index of hidden ones.
    AND {_OLD.format(moment="r.finished_at")} AND {_NONE.format(rows=_OTHERS)}
RETURNING 1
"""
_PARENTS = f"""
SELECT b.tenant, b.parent_id AS id FROM branches b JOIN {KEYS} AS k ON b.tenant = k.tenant AND b.conversation_id = k.id
"""

_BRANCHES = "branches d WHERE d.tenant = c.tenant AND d.parent_id = c.id"
_PARENT = "branches b WHERE b.tenant = c.tenant AND b.conversation_id = c.id"
_REQUESTS = "requests r WHERE r.tenant = c.tenant AND r.conversation_id = c.id"
_MESSAGES = "messages m WHERE m.tenant = c.tenant AND m.conversation_id = c.id"
_WITHOUT_REQUESTS = (
    f"{HIDDEN.format(id='c.id')} AND {_OLD.format(moment='c.created_at')} AND {_NONE.format(rows=_REQUESTS)}"
)
_DEAD = f"(c.deleted_at IS NOT NULL OR ({_WITHOUT_REQUESTS})) AND {_NONE.format(rows=_BRANCHES)}"
_CUT = f"""
DELETE FROM branches b USING conversations c, {KEYS} AS k
WHERE b.tenant = k.tenant AND b.conversation_id = k.id AND c.tenant = k.tenant AND c.id = k.id AND {_DEAD}
RETURNING b.tenant, b.parent_id AS id
"""
_REMOVE_HIDDEN = f"""
WITH gone AS (
    DELETE FROM conversations c USING {KEYS} AS k
    WHERE c.tenant = k.tenant AND c.id = k.id AND {_WITHOUT_REQUESTS}
        AND {_NONE.format(rows=_BRANCHES)} AND {_NONE.format(rows=_PARENT)}
    RETURNING c.tenant, c.id
)
DELETE FROM messages m USING gone g WHERE m.tenant = g.tenant AND m.conversation_id = g.id
"""
_DEAD_ONE = f"conversations c WHERE c.tenant = p.tenant AND c.id = p.id AND {_DEAD}"
_PAGE_OF_BRANCHES = f"""
SELECT p.tenant, p.id, {_ANY.format(rows=_DEAD_ONE)} AS dead
FROM (
    SELECT tenant, conversation_id AS id FROM branches WHERE (tenant, conversation_id) > (:tenant, :after)
    ORDER BY tenant, conversation_id LIMIT :limit
) AS p
ORDER BY p.tenant, p.id
"""

_UNPUBLISHED = "outbox o WHERE o.tenant = r.tenant AND o.request_id = r.id AND o.published_at IS NULL"
_NOT_KEPT = f"""
SELECT r.tenant, r.id, r.conversation_id FROM requests r
WHERE r.finished_at IS NOT NULL AND r.deleted_at IS NULL AND r.store = false
    AND r.finished_at < now() - interval '{_KEPT_MINUTES} minutes'
    AND {_NONE.format(rows=_UNPUBLISHED)}
ORDER BY r.finished_at LIMIT :limit
"""
_EMPTY = f"""
WITH emptied AS (
    UPDATE requests r SET body = NULL, deleted_at = now()
    FROM {KEYS} AS k WHERE r.tenant = k.tenant AND r.id = k.id AND {_THERE.format(row="r")}
    RETURNING r.tenant, r.id, r.conversation_id
), said AS (
    DELETE FROM messages m USING emptied e
    WHERE m.tenant = e.tenant AND m.conversation_id = e.conversation_id AND m.request_id = e.id
)
UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' - 'output' || '{{"reply": null}}')::text
FROM emptied e WHERE o.tenant = e.tenant AND o.request_id = e.id
"""

_TAKE_WALK = """
UPDATE totals_due SET due_at = now() + make_interval(secs => :every)
WHERE what = 'conversations' AND due_at <= now() RETURNING what
"""
# What is open has a head. Of what has ended, the newest turn and the newest message count.
_ENDED = _OLD.format(moment="greatest(r.created_at, r.finished_at)")
_UNUSED = f"""{_THERE.format(row="c")} AND NOT {HIDDEN.format(id="c.id")} AND {_OLD.format(moment="c.created_at")}
    AND {_NONE.format(rows=_BRANCHES)}
    AND {_NONE.format(rows=_REQUESTS + " AND r.status IN ('pending', 'in_progress')")}
    AND coalesce((SELECT {_ENDED} FROM {_REQUESTS} ORDER BY r.seq DESC LIMIT 1), true)
    AND coalesce((SELECT {_OLD.format(moment="m.created_at")} FROM {_MESSAGES} ORDER BY m.id DESC LIMIT 1), true)"""
_HAS_TEXTS = f"({_ANY.format(rows=_MESSAGES)} OR {_ANY.format(rows=_REQUESTS + ' AND ' + _THERE.format(row='r'))})"
_FORGOTTEN = f"""c.deleted_at < now() - interval '{_MIN_DAYS} days' AND {_OLD.format(moment="c.deleted_at")}
    AND {" AND ".join(_NONE.format(rows=rows) for rows in (_MESSAGES, _REQUESTS, _BRANCHES, _PARENT))}"""
_PAGE_OF_CONVERSATIONS = f"""
SELECT c.tenant, c.id, {_UNUSED} AS unused, c.deleted_at IS NOT NULL AND {_HAS_TEXTS} AS half_deleted,
    {_FORGOTTEN} AS forgotten
FROM (
    SELECT tenant, id, created_at, deleted_at FROM conversations WHERE (tenant, id) > (:tenant, :after)
    ORDER BY tenant, id LIMIT :limit
) AS c
ORDER BY c.tenant, c.id
"""
_MARK_UNUSED = f"""
UPDATE conversations c SET deleted_at = now(), metadata = '{{}}' FROM {KEYS} AS k
WHERE c.tenant = k.tenant AND c.id = k.id AND {_UNUSED}
RETURNING c.tenant, c.id
"""
_DELETE_MESSAGES = f"""
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM messages m JOIN {KEYS} AS k ON m.tenant = k.tenant AND m.conversation_id = k.id LIMIT :limit
) RETURNING 1
"""
_REMOVE_FORGOTTEN = f"""
DELETE FROM conversations c USING {KEYS} AS k WHERE c.tenant = k.tenant AND c.id = k.id AND {_FORGOTTEN}
"""


async def sweep_old(database: Database, days: int, limit: int) -> int:
    """Delete up to ``limit`` rows of each kind older than ``days``. Returns how many rows were deleted.

    ``days`` below 7 count as 7: late duplicates must still be recognised. Early cancels go after 7 days, without a
    limit. Messages are deleted only with their conversation. A hidden conversation goes with its request.
    """
    days = max(days, _MIN_DAYS)
    gone = len(await database.run(_EARLY_CANCELS, days=_EARLY_CANCEL_DAYS))
    for statement in _SWEEP:
        gone += len(await database.run(statement, days=days, limit=limit))
    return gone + await _forget(database, _refs(await database.run(_OLD_HIDDEN, days=days, limit=limit)), days)


async def sweep_audit(database: Database, days: int, limit: int) -> int:
    """Delete up to ``limit`` entries of the audit older than ``days``. Returns how many were deleted."""
    return len(await database.run(_AUDIT, days=days, limit=limit))


async def empty_not_kept(database: Database, limit: int) -> int:
    """Remove what up to ``limit`` requests with ``store: false`` said and were answered. Returns how many.

    They ended at least 10 minutes ago, and their replies are published.
    """
    async with database.transaction() as tx:
        found = await tx.run(_NOT_KEPT, limit=limit)
        if found:
            await lock_conversations(tx, {ConversationRef(row.tenant, row.conversation_id) for row in found})
            await tx.run(_EMPTY, refs=refs_json(_refs(found)))
    return len(found)


async def take_walk(database: Database, every: float) -> bool:
    """Whether this process is to walk through the conversations now. Then the next walk is due in ``every`` seconds."""
    return bool(await database.run(_TAKE_WALK, every=every))


async def walk_branches(database: Database, days: int, limit: int) -> None:
    """Detach branches that are deleted, and delete hidden conversations that only those needed.

    This is what an interrupted sweep leaves behind, too. ``days``: as in ``sweep_old``.
    """
    days = max(days, _MIN_DAYS)
    async for page in _pages(database, _PAGE_OF_BRANCHES, limit=limit, days=days):
        await _forget(database, _refs(row for row in page if row.dead), days)


async def walk_conversations(database: Database, days: int, limit: int) -> int:
    """Delete conversations, ``limit`` at a time, in which nothing has happened for ``days``. Returns how many.

    A conversation with an open turn stays, and so does one with a branch: it is looked at again when that is gone.
    Hidden ones go with their request. A row without anything goes after as many days, at least 7.
    """
    deleted = 0
    async for page in _pages(database, _PAGE_OF_CONVERSATIONS, limit=limit, days=days):
        unused = _refs(row for row in page if row.unused)
        half_deleted = _refs(row for row in page if row.half_deleted)
        forgotten = _refs(row for row in page if row.forgotten)
        if unused:
            async with database.transaction() as tx:
                await lock_conversations(tx, unused)
                unused = _refs(await tx.run(_MARK_UNUSED, refs=refs_json(unused), days=days))
        deleted += len(unused)
        if gone := unused | half_deleted:
            await _delete_texts(database, gone)
        if forgotten:
            async with database.transaction() as tx:
                await lock_conversations(tx, forgotten)
                await tx.run(_REMOVE_FORGOTTEN, refs=refs_json(forgotten), days=days)
    return deleted


async def _delete_texts(database: Database, deleted: Collection[ConversationRef]) -> None:
    """Finish the deletion of these conversations. The messages go first, in statements of a bounded length."""
    refs = refs_json(deleted)
    while len(await database.run(_DELETE_MESSAGES, refs=refs, limit=_MESSAGES_AT_ONCE)) == _MESSAGES_AT_ONCE:
        pass
    async with database.transaction() as tx:
        await delete_conversations(tx, deleted)


async def _forget(database: Database, refs: Collection[ConversationRef], days: int) -> int:
    """Detach those of these conversations that are dead, and remove hidden ones. Returns how many requests went.

    Then the same for what they were branches of. If that is interrupted, `walk_branches` finds the rest: whatever is
    left is itself a branch.
    """
    gone = 0
    while refs:
        async with database.transaction() as tx:
            parents = _refs(await tx.run(_PARENTS, refs=refs_json(refs)))
            await lock_conversations(tx, {*refs, *parents})
            gone += len(await tx.run(_DELETE_LAST, refs=refs_json(refs), days=days))
            cut = _refs(await tx.run(_CUT, refs=refs_json(refs), days=days))
            await tx.run(_REMOVE_HIDDEN, refs=refs_json({*refs, *parents}), days=days)
        refs = cut
    return gone


async def _pages(database: Database, statement: str, **parameters: Any) -> AsyncIterator[Sequence[Any]]:
    """The pages of a walk through a whole table in the order of its key."""
    tenant, after = "", UUID(int=0)
    while page := await database.run(statement, tenant=tenant, after=after, **parameters):
        tenant, after = page[-1].tenant, page[-1].id
        yield page


def _refs(rows: Any) -> set[ConversationRef]:
    return {ConversationRef(row.tenant, row.id) for row in rows}
