"""Conversations as a gateway creates, lists and shows them.

``only``: the owner whose conversations there are, and no others; None: everybody's.
"""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef
from schemas.api.conversations import ConversationResource

_CREATE = """
INSERT INTO conversations (tenant, id, owner, metadata) VALUES (:tenant, :id, :owner, CAST(:metadata AS jsonb))
ON CONFLICT DO NOTHING RETURNING id
"""

_OWNED = """
SELECT c.id FROM conversations c
WHERE c.tenant = :tenant AND c.id = :id AND coalesce(c.owner, c.user_id::text) IS NOT NULL
"""

_COLUMNS = """
SELECT c.id, c.created_at, c.metadata, ARRAY(
    SELECT r.id FROM requests r WHERE r.tenant = c.tenant AND r.conversation_id = c.id
        AND r.status IN ('waiting', 'pending', 'in_progress')
    ORDER BY r.seq LIMIT 1000
) AS open_requests
FROM conversations c
"""

_GET = (
    _COLUMNS
    + """
WHERE c.tenant = :tenant AND c.id = :id AND c.deleted_at IS NULL
    AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
"""
)

_PAGE = (
    _COLUMNS
    + """
WHERE c.tenant = :tenant AND c.deleted_at IS NULL
    AND (CAST(:before AS timestamptz) IS NULL
        OR (c.created_at, c.id) < (CAST(:before AS timestamptz), CAST(:id AS uuid)))
    {owned}
ORDER BY c.created_at DESC, c.id DESC LIMIT :limit
"""
)
# Two statements, so that each has its own index.
_PAGE_OF_ALL = _PAGE.format(owned="")
_PAGE_OF_ONE = _PAGE.format(owned="AND coalesce(c.owner, c.user_id::text) = :only")


async def create(database: Database, ref: ConversationRef, owner: str | None, metadata: dict[str, str]) -> bool:
    """Make a conversation; False when there is, or was, one by this id, whoever's."""
    return bool(await database.run(_CREATE, tenant=ref[0], id=ref[1], owner=owner, metadata=json.dumps(metadata)))


async def get(database: Database, ref: ConversationRef, only: str | None = None) -> ConversationResource | None:
    """A conversation that is not deleted."""
    rows = await database.run(_GET, tenant=ref[0], id=ref[1], only=only)
    return _resource(rows[0]) if rows else None


async def is_owned(database: Database, ref: ConversationRef) -> bool:
    """True for a conversation of somebody's, deleted or not."""
    return bool(await database.run(_OWNED, tenant=ref[0], id=ref[1]))


async def page(
    database: Database, tenant: str, before: tuple[datetime, UUID] | None, limit: int, only: str | None = None
) -> list[ConversationResource]:
    """Conversations older than ``before`` (creation time and id), newest first."""
    moment, id = before or (None, None)
    place = {"tenant": tenant, "before": moment, "id": id, "limit": limit}
    rows = await (
        database.run(_PAGE_OF_ALL, **place) if only is None else database.run(_PAGE_OF_ONE, **place, only=only)
    )
    return [_resource(row) for row in rows]


def _resource(row: Any) -> ConversationResource:
    return ConversationResource.model_validate(dict(row))
