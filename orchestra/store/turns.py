"""What every change of a conversation's turns shares: lock the conversation, announce endings, promote the next turn.

Lock order everywhere: conversations by (tenant, id), then requests. The transaction that ends a head also promotes the
next turn.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from orchestra.store.database import Transaction, as_json, lookup_rows
from schemas.events import MAX_REPLY_BYTES_IN_RECORD


class RequestRef(NamedTuple):
    """A request: its tenant and id."""

    tenant: str
    id: UUID


class ConversationRef(NamedTuple):
    """A conversation: its tenant and id."""

    tenant: str
    id: UUID


PAGE_BYTES = 8 * 1024 * 1024
"""Largest page of a list, whatever its limit: texts may be long, and a gateway holds a whole page in memory."""

KEYS = lookup_rows("refs", "tenant text, id uuid")
"""The refs in the parameter ``refs``, as rows to join."""


@dataclass(frozen=True)
class Announcement:
    """A row of the outbox: the reply record of a request that ended, ready to publish.

    ``value`` is the JSON text of ``schemas.replies.Reply``; ``headers`` has correlation_id, traceparent, body_hash.
    """

    id: int
    tenant: str
    request_id: UUID
    conversation_id: UUID
    event_id: UUID
    value: str
    headers: dict[str, str | None]


_LOCK = f"""
SELECT c.tenant, c.id, c.deleted_at IS NOT NULL AS deleted
FROM conversations c
JOIN {KEYS} AS k ON c.tenant = k.tenant AND c.id = k.id
ORDER BY c.tenant, c.id
FOR UPDATE OF c
"""

_PROMOTE = f"""
UPDATE requests r SET status = 'pending', run_at = greatest(r.not_before, now())
FROM {KEYS} AS k
CROSS JOIN LATERAL (
    SELECT w.id FROM requests w
    WHERE w.tenant = k.tenant AND w.conversation_id = k.id AND w.status = 'waiting'
    ORDER BY w.seq LIMIT 1
) AS next
WHERE r.tenant = k.tenant AND r.id = next.id AND NOT EXISTS (
    SELECT 1 FROM requests h
    WHERE h.tenant = k.tenant AND h.conversation_id = k.id AND h.status IN ('pending', 'in_progress')
)
RETURNING r.id
"""

# The emptied rows stay, so that a late duplicate is still dropped. A running request is emptied when it ends.
_EMPTY = f"""
WITH emptied AS (
    UPDATE requests r SET body = NULL, deleted_at = coalesce(r.deleted_at, now())
    FROM {KEYS} AS k
    WHERE r.tenant = k.tenant AND r.conversation_id = k.id AND r.status <> 'in_progress'
    RETURNING r.tenant, r.id
)
UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' || '{{"reply": null}}')::text
FROM emptied e WHERE o.tenant = e.tenant AND o.request_id = e.id
"""

# Also returns earlier unpublished replies: the worker that wrote them may be about to publish them, or dead.
_ANNOUNCE = f"""
WITH written AS (
INSERT INTO outbox (tenant, request_id, conversation_id, value, headers)
SELECT r.tenant, r.id, r.conversation_id,
    left(json_build_object(
        'request_id', r.id,
        'conversation_id', r.conversation_id,
        'status', r.status,
        'reply', CASE WHEN octet_length(m.content) <= {MAX_REPLY_BYTES_IN_RECORD} THEN m.content END,
        'reply_url', CASE WHEN octet_length(m.content) > {MAX_REPLY_BYTES_IN_RECORD} THEN '/v1/requests/' || r.id END,
        'error', CASE WHEN r.status = 'failed'
            THEN json_build_object('code', r.error_code, 'detail', r.error_detail) END,
        'usage', r.usage,
        'attempts', r.fence,
        'model', r.model,
        'source', json_build_object('topic', r.src_topic, 'partition', r.src_partition, 'offset', r.src_offset),
        'finished_at', r.finished_at
    )::text, -1)
        -- What came later is absent where there is none, as it is in older records.
        || coalesce(', "finish_reason" : ' || to_json(m.finish_reason)::text, '')
        || coalesce(', "metadata" : ' || nullif(r.body -> 'metadata', '{{}}')::text, '')
        || '}}',
    jsonb_build_object(
        'correlation_id', r.correlation_id, 'traceparent', r.traceparent, 'body_hash', r.body_hash
    )
FROM requests r
JOIN {KEYS} AS k ON r.tenant = k.tenant AND r.id = k.id
LEFT JOIN messages m ON m.tenant = r.tenant AND m.request_id = r.id AND m.role = 'assistant'
ORDER BY r.tenant, r.conversation_id, r.seq
ON CONFLICT (tenant, request_id, kind) DO NOTHING
RETURNING id, tenant, request_id, conversation_id, event_id, value, headers
)
SELECT * FROM written
UNION ALL
SELECT late.*
FROM {lookup_rows("conversations", "tenant text, id uuid")} AS c
CROSS JOIN LATERAL (
    SELECT o.id, o.tenant, o.request_id, o.conversation_id, o.event_id, o.value, o.headers
    FROM outbox o WHERE o.tenant = c.tenant AND o.conversation_id = c.id AND o.published_at IS NULL
    OFFSET 0 -- One look into the index for each conversation, not one over all that is unpublished.
) AS late
ORDER BY id
"""


def refs_json(refs: Collection[RequestRef] | Collection[ConversationRef]) -> str:
    """Tenants and ids as a JSON parameter, in lock order."""
    return as_json([{"tenant": tenant, "id": id} for tenant, id in sorted(set(refs))])


async def lock_conversations(tx: Transaction, refs: Collection[ConversationRef]) -> set[ConversationRef]:
    """Lock these conversations. Returns the deleted ones."""
    rows = await tx.run(_LOCK, refs=refs_json(refs))
    return {ConversationRef(row.tenant, row.id) for row in rows if row.deleted}


async def announce(
    tx: Transaction, conversations: Collection[ConversationRef], ended: Collection[RequestRef]
) -> list[Announcement]:
    """Write the replies of requests that have just ended in these (locked) conversations to the outbox.

    Returns every unpublished reply of these conversations, in publishing order.
    """
    if not conversations:
        return []
    rows = await tx.run(_ANNOUNCE, refs=refs_json(ended), conversations=refs_json(conversations))
    return [announcement(row) for row in rows]


async def promote(tx: Transaction, conversations: Collection[ConversationRef]) -> int:
    """Make the first waiting turn runnable in each of these (locked) conversations that has no head.

    Returns how many turns were promoted.
    """
    return len(await tx.run(_PROMOTE, refs=refs_json(conversations))) if conversations else 0


async def empty(tx: Transaction, deleted: Collection[ConversationRef]) -> None:
    """Remove the texts of all ended requests in these deleted conversations."""
    if deleted:
        await tx.run(_EMPTY, refs=refs_json(deleted))


def announcement(row: Any) -> Announcement:
    """Build the announcement from a row of the outbox."""
    return Announcement(row.id, row.tenant, row.request_id, row.conversation_id, row.event_id, row.value, row.headers)
