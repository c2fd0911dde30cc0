"""The history: what was said in a conversation, one row a message."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from orchestra.store.database import Database, as_json
from orchestra.store.turns import PAGE_BYTES, ConversationRef
from schemas.api.conversations import StoredMessage
from schemas.generation import ChatMessage

_LEAST_BYTES_A_MESSAGE = 8

_RECALL = """
SELECT k.tenant, k.id AS conversation_id, m.role, m.content, m.request_id
FROM json_to_recordset(CAST(:rows AS json)) AS k(tenant text, id uuid, budget bigint, most integer)
CROSS JOIN LATERAL (
    SELECT newest.*, sum(octet_length(newest.content)) OVER (ORDER BY newest.id DESC) AS so_far
    FROM (
        SELECT id, role, content, request_id FROM messages
        WHERE tenant = k.tenant AND conversation_id = k.id ORDER BY id DESC LIMIT k.most
    ) AS newest
) AS m
WHERE m.so_far <= k.budget
ORDER BY k.tenant, k.id, m.id
"""

_PAGE = """
SELECT p.id, p.role, p.content, p.created_at, p.request_id, p.finish_reason, p.found FROM (
    SELECT n.*, count(*) OVER () AS found, row_number() OVER w AS place, sum(octet_length(n.content)) OVER w AS so_far
    FROM (
        SELECT m.* FROM messages m
        JOIN conversations c ON c.tenant = m.tenant AND c.id = m.conversation_id AND c.deleted_at IS NULL
            AND (CAST(:only AS text) IS NULL OR coalesce(c.owner, c.user_id::text) = :only)
        WHERE m.tenant = :tenant AND m.conversation_id = :id AND m.id > :after
        ORDER BY m.id LIMIT :limit
    ) AS n
    WINDOW w AS (ORDER BY n.id)
) AS p
WHERE p.place = 1 OR p.so_far <= :most_bytes
ORDER BY p.id
"""


@dataclass(frozen=True)
class Recall:
    """Which history is wanted, and how many bytes of it fit."""

    conversation: ConversationRef
    budget: int


async def recall(database: Database, wanted: Sequence[Recall]) -> dict[ConversationRef, list[ChatMessage]]:
    """The newest whole turns of each conversation that fit its budget, oldest first."""
    rows = await database.run(
        _RECALL,
        rows=as_json(
            [
                {
                    "tenant": want.conversation[0],
                    "id": want.conversation[1],
                    "budget": want.budget,
                    "most": max(2, min(want.budget // _LEAST_BYTES_A_MESSAGE, 10_000)),
                }
                for want in wanted
                if want.budget > 0
            ]
        ),
    )
    found: dict[ConversationRef, list[ChatMessage]] = defaultdict(list)
    for row in rows:
        messages = found[ConversationRef(row.tenant, row.conversation_id)]
        if not messages and row.role == "assistant":
            continue  # The answer of a turn whose question did not fit.
        messages.append(ChatMessage.model_construct(role=row.role, content=row.content))
    return found


async def page(
    database: Database, conversation: ConversationRef, after: int, limit: int, only: str | None = None
) -> tuple[list[StoredMessage], bool]:
    """Up to ``limit`` messages of a conversation (of ``only`` this owner's) after the one with id ``after``.

    Oldest first; True when there are more. Long texts make a page shorter, but never empty.
    """
    tenant, id = conversation
    rows = await database.run(
        _PAGE, tenant=tenant, id=id, after=after, limit=limit + 1, only=only, most_bytes=PAGE_BYTES
    )
    found = [StoredMessage.model_validate(dict(row)) for row in rows[:limit]]
    return found, bool(rows) and rows[0].found > min(len(rows), limit)
