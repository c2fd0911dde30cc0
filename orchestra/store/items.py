"""The messages of a conversation as OpenAI's Conversations API shows and changes them, one by one.

A branch shows those that it begins with, too; they can be changed only where they are stored.

``only``: restrict the result to this owner's conversations. None: those of every owner.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestra.store.audit import Author, changing
from orchestra.store.branches import SEGMENTS
from orchestra.store.database import Database
from orchestra.store.turns import PAGE_BYTES, ConversationRef, lock_conversations
from schemas.api.conversations import StoredMessage

_CONVERSATION = """
SELECT c.tenant, c.id FROM conversations c
WHERE c.tenant = :tenant AND c.id = :id AND c.deleted_at IS NULL
    AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
"""
_SHOWN = "m.id, m.role, m.content, m.created_at, m.request_id, m.finish_reason, m.parts, m.tool_call_id, m.output"
_SIZE = "octet_length(m.content) + coalesce(pg_column_size(m.parts), 0) + coalesce(pg_column_size(m.output), 0)"


_OF_SEGMENT = "m.tenant = :tenant AND m.conversation_id = s.id AND m.id <= s.up_to"


def _page(condition: str, order: str) -> str:
    return f"""
WITH RECURSIVE {SEGMENTS}
SELECT n.* FROM (
    SELECT m.*, sum(m.size) OVER (ORDER BY m.id {order}) - m.size AS before
    FROM segments s CROSS JOIN LATERAL (
        SELECT {_SHOWN}, {_SIZE} AS size FROM messages m
        WHERE {_OF_SEGMENT} AND {condition} ORDER BY m.id {order} LIMIT :limit
    ) AS m
    ORDER BY m.id {order} LIMIT :limit
) AS n
WHERE n.before < :max_bytes ORDER BY n.id {order}
"""


_ASCENDING = _page("m.id >= :start", "")
_DESCENDING = _page("m.id <= :start", "DESC")
_OF_REQUEST = f"""
WITH RECURSIVE {SEGMENTS}
SELECT {_SHOWN} FROM segments s JOIN messages m ON {_OF_SEGMENT}
WHERE m.request_id = :request_id AND m.role = 'assistant'
"""
_ADD = """
INSERT INTO messages (tenant, conversation_id, role, content, parts, tool_call_id, output, weight)
SELECT :tenant, :id, k.role, k.content, k.parts, k.tool_call_id, k.output, k.weight
FROM ROWS FROM (json_to_recordset(CAST(:rows AS json)) AS (
    role text, content text, parts jsonb, tool_call_id text, output jsonb, weight integer
)) WITH ORDINALITY AS k(role, content, parts, tool_call_id, output, weight, n)
ORDER BY k.n
RETURNING id
"""
_DELETE = """
DELETE FROM messages m WHERE m.tenant = :tenant AND m.conversation_id = :id AND m.id = :message RETURNING m.id
"""
_CHANGE = """
UPDATE messages m SET content = :content, output = CAST(:output AS jsonb)
WHERE m.tenant = :tenant AND m.conversation_id = :id AND m.id = :message
RETURNING m.id
"""
_METADATA = """
UPDATE conversations c SET metadata = CAST(:metadata AS jsonb)
WHERE c.tenant = :tenant AND c.id = :id AND c.deleted_at IS NULL
    AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
RETURNING c.id
"""
HIGHEST = 2**63 - 1


async def messages(
    database: Database, conversation: ConversationRef, start: int, limit: int, only: str | None, *, newest: bool
) -> list[StoredMessage]:
    """Up to ``limit`` messages of its history from the one with id ``start`` on, newest or oldest first.

    Long texts make the list shorter, but never empty.
    """
    rows = await database.run(
        _DESCENDING if newest else _ASCENDING, tenant=conversation.tenant, id=conversation.id, only=only, start=start,
        limit=limit, max_bytes=PAGE_BYTES, after=0 if newest else start - 1,
    )  # fmt: skip
    return [_message(row) for row in rows]


async def answer(
    database: Database, conversation: ConversationRef, request_id: Any, only: str | None
) -> StoredMessage | None:
    """The answer to a request in the history of this conversation."""
    rows = await database.run(
        _OF_REQUEST, tenant=conversation.tenant, id=conversation.id, only=only, request_id=request_id, after=0
    )
    return _message(rows[0]) if rows else None


async def add(
    database: Database, conversation: ConversationRef, rows: Sequence[Mapping[str, Any]], only: str | None
) -> list[int] | None:
    """Append messages to a conversation, and return their ids. None if there is no such conversation.

    Each row has ``role`` and ``content``, and what else there is of ``parts``, ``tool_call_id``, ``output``,
    ``weight``.
    """
    tenant, id = conversation
    async with database.transaction() as tx:
        await lock_conversations(tx, [conversation])
        if not await tx.run(_CONVERSATION, tenant=tenant, id=id, only=only):
            return None
        added = await tx.run(_ADD, tenant=tenant, id=id, rows=json.dumps(rows))
        return sorted(row.id for row in added)


async def replace(
    database: Database,
    conversation: ConversationRef,
    message: int,
    rest: tuple[str, Sequence[Any] | None] | None,
    by: Author | None = None,
) -> bool:
    """Keep only ``rest`` of a message, its text and items; None: delete it.

    False: this conversation has no such message of its own.
    """
    tenant, id = conversation
    async with changing(database) as tx:
        await lock_conversations(tx, [conversation])
        if rest is None:
            found = await tx.run(_DELETE, tenant=tenant, id=id, message=message)
        else:
            text, output = rest
            found = await tx.run(
                _CHANGE, tenant=tenant, id=id, message=message, content=text, output=json.dumps(output)
            )
        if found:
            tx.note(by, f"conversations/{id}", after={"message": message})
    return bool(found)


async def set_metadata(
    database: Database,
    conversation: ConversationRef,
    metadata: Mapping[str, str],
    only: str | None,
    by: Author | None = None,
) -> bool:
    """Replace the metadata of a conversation. False if there is no such conversation."""
    tenant, id = conversation
    async with changing(database) as tx:
        rows = await tx.run(_METADATA, tenant=tenant, id=id, metadata=json.dumps(metadata), only=only)
        if rows:
            tx.note(by, f"conversations/{id}")
        return bool(rows)


def _message(row: Any) -> StoredMessage:
    fields = dict(row)
    for name in ("before", "size"):
        fields.pop(name, None)
    return StoredMessage.model_validate(fields)
