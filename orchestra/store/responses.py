"""Requests as OpenAI's Responses API shows them: with their bodies, and each to be removed alone."""

from collections.abc import Collection
from typing import Any

from orchestra.store.audit import Author, changing
from orchestra.store.bodies import from_store
from orchestra.store.database import Database
from orchestra.store.turns import KEYS, ConversationRef, RequestRef, lock_conversations, refs_json

_BODIES = f"""
SELECT r.tenant, r.id, r.body FROM {KEYS} AS k
JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
WHERE r.deleted_at IS NULL AND r.body IS NOT NULL
"""

# Its messages stay: they belong to the conversation.
_REMOVE = """
UPDATE requests r SET deleted_at = now(), body = CASE WHEN r.finished_at IS NULL THEN r.body END
WHERE r.tenant = :tenant AND r.id = :id AND r.deleted_at IS NULL
RETURNING r.id
"""


async def bodies(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, dict[str, Any]]:
    """The bodies of requests, as they were sent; those that are deleted are left out."""
    if not refs:
        return {}
    rows = await database.run(_BODIES, refs=refs_json(refs))
    return {RequestRef(row.tenant, row.id): from_store(dict(row.body)) for row in rows}


async def remove(database: Database, ref: RequestRef, conversation: ConversationRef, by: Author | None = None) -> bool:
    """Remove a request and keep what it added to its conversation. False if there is no such request."""
    async with changing(database) as tx:
        await lock_conversations(tx, [conversation])
        rows = await tx.run(_REMOVE, tenant=ref.tenant, id=ref.id)
        if rows:
            tx.note_once(by, f"requests/{ref.id}")
        return bool(rows)
