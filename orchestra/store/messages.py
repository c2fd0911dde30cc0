"""The history of conversations, one row per message."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, bindparam, func, select

from orchestra.store.compose import composed, matches
from orchestra.store.conversations import visible
from orchestra.store.database import Database, as_json
from orchestra.store.pages import measured, page_rows, within_page
from orchestra.store.tables import conversations, messages
from orchestra.store.turns import PAGE_BYTES, ConversationRef
from schemas.api.conversations import StoredMessage
from schemas.generation import ChatMessage

_MIN_BYTES_PER_MESSAGE = 8

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

_NEXT = (
    select(messages)
    .join(
        conversations,
        and_(
            conversations.c.tenant == messages.c.tenant,
            conversations.c.id == messages.c.conversation_id,
            conversations.c.deleted_at.is_(None),
            visible,
        ),
    )
    .where(
        matches(messages.c.tenant),
        messages.c.conversation_id == bindparam("id"),
        messages.c.id > bindparam("after"),
    )
    .order_by(messages.c.id)
    .limit(bindparam("limit"))
    .subquery("n")
)
_MEASURED = measured(select(_NEXT), func.octet_length(_NEXT.c.content), _NEXT.c.id)
_SHOWN = ("id", "role", "content", "created_at", "request_id", "finish_reason", "found")
_PAGE = composed(select(*(_MEASURED.c[name] for name in _SHOWN)).where(within_page(_MEASURED)).order_by(_MEASURED.c.id))


@dataclass(frozen=True)
class Recall:
    """A conversation whose history to load, and how many bytes of it fit."""

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
                    "most": max(2, min(want.budget // _MIN_BYTES_PER_MESSAGE, 10_000)),
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
            continue  # The answer to a question that did not fit.
        messages.append(ChatMessage.model_construct(role=row.role, content=row.content))
    return found


async def page(
    database: Database, conversation: ConversationRef, after: int, limit: int, only: str | None = None
) -> tuple[list[StoredMessage], bool]:
    """Up to ``limit`` messages of a conversation after the message with id ``after``, oldest first.

    Also True if there are more. Long texts make a page shorter, but never empty.
    ``only``: nothing unless the conversation is this owner's.
    """
    tenant, id = conversation
    rows = await database.run(
        _PAGE, tenant=tenant, id=id, after=after, limit=limit + 1, only=only, max_bytes=PAGE_BYTES
    )
    found, more = page_rows(rows, limit)
    return [StoredMessage.model_validate(dict(row)) for row in found], more
