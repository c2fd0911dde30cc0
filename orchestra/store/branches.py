"""Branches: conversations whose history begins with that of another one, up to a message. Copies of conversations."""

import json
from enum import Enum

from orchestra.store.audit import Author, changing
from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef, RequestRef

MAX_DEPTH = 1000
"""Maximum number of conversations that one history is read from: a branch, its parent, and so on."""
LAST_ID = 2**63 - 1
"""The largest id of a message."""
MAX_COPIED_MESSAGES = 10_000
MAX_COPIED_BYTES = 32 * 1024 * 1024

SEGMENTS = f"""
source AS (
    SELECT c.id, c.metadata FROM conversations c
    WHERE c.tenant = :tenant AND c.id = :id AND c.deleted_at IS NULL
        AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
), line AS (
    SELECT source.id, CAST({LAST_ID} AS bigint) AS up_to, 1 AS depth FROM source
    UNION ALL
    SELECT b.parent_id, least(b.up_to, l.up_to), l.depth + 1
    FROM line l CROSS JOIN LATERAL (
        SELECT parent_id, up_to FROM branches WHERE tenant = :tenant AND conversation_id = l.id LIMIT 1
    ) AS b
    WHERE l.depth < {MAX_DEPTH} AND b.up_to > :after
), segments AS (
    SELECT l.id, l.up_to FROM line l CROSS JOIN LATERAL (
        SELECT deleted_at FROM conversations WHERE tenant = :tenant AND id = l.id LIMIT 1
    ) AS c
    WHERE c.deleted_at IS NULL
)
"""
"""Where the history of the conversation :id is stored: conversations with the last message of each, nearest first.

The parts of a WITH RECURSIVE. ``:only``: nothing unless the conversation is this owner's. ``:after``: only what may
have messages after this one. The limits make the planner look up one row for each.
"""

_POSITION = f"""
WITH RECURSIVE {SEGMENTS}
SELECT coalesce(max(m.id), 0) AS id FROM segments s CROSS JOIN LATERAL (
    SELECT id FROM messages WHERE tenant = :tenant AND conversation_id = s.id AND id <= least(s.up_to, :message)
    ORDER BY id DESC LIMIT 1
) AS m
"""

# The parent must be one that is kept. A conversation of one request has the request's id.
_BRANCH = """
WITH parent AS (
    SELECT c.tenant, c.id, c.metadata FROM conversations c
    WHERE c.tenant = :tenant AND c.id = :parent AND c.deleted_at IS NULL
        AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
        AND NOT EXISTS (SELECT FROM requests r WHERE r.tenant = c.tenant AND r.id = c.id AND r.store IS FALSE)
    FOR KEY SHARE
), made AS (
    INSERT INTO conversations (tenant, id, owner, metadata, next_seq)
    SELECT p.tenant, :id, :owner, coalesce(CAST(:metadata AS jsonb), p.metadata), 2 FROM parent p
    ON CONFLICT DO NOTHING
    RETURNING tenant, id
)
INSERT INTO branches (tenant, conversation_id, parent_id, up_to)
SELECT m.tenant, m.id, p.id, :up_to FROM made m CROSS JOIN parent p
RETURNING conversation_id
"""

_LAST_MESSAGE = """
SELECT r.tenant, r.conversation_id, m.id AS message_id
FROM requests r
JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id AND c.deleted_at IS NULL
JOIN messages m ON m.tenant = r.tenant AND m.request_id = r.id AND m.role = 'assistant'
WHERE r.tenant = :tenant AND r.id = :id AND r.status || '' = 'completed' AND r.deleted_at IS NULL
    AND r.store IS NOT FALSE AND (CAST(:only AS text) IS NULL OR r.user_name = :only)
"""

_PLACE = "SELECT tenant, parent_id, up_to FROM branches WHERE tenant = :tenant AND conversation_id = :id"

# An answer belongs to one request, so the copies belong to none. What must not be kept is not copied.
_COPY = f"""
WITH RECURSIVE {SEGMENTS}, said AS MATERIALIZED (
    SELECT m.id, m.size FROM segments s CROSS JOIN LATERAL (
        SELECT n.id, octet_length(n.content) + coalesce(pg_column_size(n.parts), 0)
            + coalesce(pg_column_size(n.output), 0) + coalesce(pg_column_size(n.state), 0) AS size
        FROM messages n WHERE n.tenant = :tenant AND n.conversation_id = s.id AND n.id <= s.up_to AND NOT EXISTS (
            SELECT FROM requests r WHERE r.tenant = n.tenant AND r.id = n.request_id AND r.store IS FALSE
        )
        ORDER BY n.id DESC LIMIT :max_messages + 1
    ) AS m
    LIMIT :max_messages + 1
), fits AS (
    SELECT count(*) <= :max_messages AND coalesce(sum(size), 0) <= :max_bytes AS so FROM said
), made AS (
    INSERT INTO conversations (tenant, id, owner, metadata)
    SELECT :tenant, :copy, :owner, coalesce(CAST(:metadata AS jsonb), source.metadata)
    FROM source CROSS JOIN fits WHERE fits.so
    ON CONFLICT DO NOTHING
    RETURNING tenant, id
), copied AS (
    INSERT INTO messages (
        tenant, conversation_id, role, content, created_at, finish_reason, parts, tool_call_id, output, state, weight
    )
    SELECT made.tenant, made.id, m.role, m.content, m.created_at, m.finish_reason, m.parts, m.tool_call_id, m.output,
        m.state, m.weight
    FROM made CROSS JOIN said JOIN messages m ON m.id = said.id
    ORDER BY m.id
)
SELECT fits.so AS fits, EXISTS (SELECT FROM made) AS made FROM source CROSS JOIN fits
"""


class Copied(Enum):
    """What became of a copy. ``NOT_MADE``: the id is or was in use, or there is no such conversation."""

    MADE = "made"
    NOT_MADE = "not_made"
    TOO_LARGE = "too_large"


async def branch(
    database: Database,
    conversation: ConversationRef,
    owner: str | None,
    parent: ConversationRef,
    up_to: int,
    metadata: dict[str, str] | None,
    only: str | None = None,
    by: Author | None = None,
) -> bool:
    """Create a conversation whose history begins with that of ``parent`` up to the message with id ``up_to``.

    False, and nothing is created, if the id is or was in use, or if there is no such parent. ``metadata`` None: that of
    the parent. ``only``: the parent must be this owner's.
    """
    async with changing(database) as tx:
        rows = await tx.run(
            _BRANCH,
            tenant=conversation.tenant,
            id=conversation.id,
            owner=owner,
            parent=parent.id,
            up_to=up_to,
            metadata=None if metadata is None else json.dumps(metadata),
            only=only,
        )
        if rows:
            tx.note(by, f"conversations/{conversation.id}", after={"branch_of": str(parent.id)})
        return bool(rows)


async def copy(
    database: Database,
    conversation: ConversationRef,
    owner: str | None,
    original: ConversationRef,
    metadata: dict[str, str] | None,
    only: str | None = None,
    by: Author | None = None,
) -> Copied:
    """Create a conversation with copies of all messages in the history of ``original``, as ``branch`` does.

    At most ``MAX_COPIED_MESSAGES`` messages and ``MAX_COPIED_BYTES`` bytes are copied; a longer history is not.
    """
    async with changing(database) as tx:
        rows = await tx.run(
            _COPY,
            tenant=original.tenant,
            id=original.id,
            only=only,
            after=0,
            copy=conversation.id,
            owner=owner,
            metadata=None if metadata is None else json.dumps(metadata),
            max_messages=MAX_COPIED_MESSAGES,
            max_bytes=MAX_COPIED_BYTES,
        )
        if rows and rows[0].fits and rows[0].made:
            tx.note(by, f"conversations/{conversation.id}", after={"copy_of": str(original.id)})
    if not rows:
        return Copied.NOT_MADE
    if not rows[0].fits:
        return Copied.TOO_LARGE
    return Copied.MADE if rows[0].made else Copied.NOT_MADE


async def position(
    database: Database, conversation: ConversationRef, message: int | None = None, only: str | None = None
) -> int | None:
    """The id of the newest message in the history of a conversation; 0 if it has none.

    ``message``: this one, or None if it is not in the history. ``only``: nothing unless it is this owner's.
    """
    rows = await database.run(
        _POSITION,
        tenant=conversation.tenant,
        id=conversation.id,
        only=only,
        after=0,
        message=LAST_ID if message is None else message,
    )
    newest: int = rows[0].id
    return newest if message in (None, newest) else None


async def last_message(
    database: Database, request: RequestRef, only: str | None = None
) -> tuple[ConversationRef, int] | None:
    """The conversation of a completed request and the id of its answer, the newest message of its turn.

    None if there is no such request, if it has no answer or must not be kept. ``only``: it must be this owner's.
    """
    rows = await database.run(_LAST_MESSAGE, tenant=request.tenant, id=request.id, only=only)
    if not rows:
        return None
    return ConversationRef(rows[0].tenant, rows[0].conversation_id), rows[0].message_id


async def place_of(database: Database, conversation: ConversationRef) -> tuple[ConversationRef, int] | None:
    """What a conversation is a branch of, and up to which message. None if it is not a branch."""
    rows = await database.run(_PLACE, tenant=conversation.tenant, id=conversation.id)
    return (ConversationRef(rows[0].tenant, rows[0].parent_id), rows[0].up_to) if rows else None
