"""The history of conversations, one row per message."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Uuid, bindparam, func, select, text, true

from orchestra.store.branches import LAST_ID, MAX_DEPTH, SEGMENTS
from orchestra.store.compose import composed, matches
from orchestra.store.database import Database, as_json
from orchestra.store.pages import measured, page_rows, size_of_json, within_page
from orchestra.store.tables import messages
from orchestra.store.turns import PAGE_BYTES, ConversationRef
from schemas.api.conversations import StoredMessage
from schemas.content import calls_in, refusal_in
from schemas.generation import ChatMessage

_MIN_BYTES_PER_MESSAGE = 8
# An image counts a fixed number of tokens in a prompt, whatever its size: the size of media has a limit of its own.
MAX_BYTES_OF_PARTS = 16 * 1024 * 1024

# With a limit, so that the planner looks up one row for each conversation, and cannot join in the reverse order.
_BRANCH = "SELECT parent_id, up_to FROM branches WHERE tenant = k.tenant AND conversation_id = {id} LIMIT 1"
_COLUMNS = "id, role, content, parts, tool_call_id, output, state, weight"
# What the messages of a conversation take of the budget: of what it is a branch of (b), only the rest is read.
_TAKEN = """
    SELECT coalesce(sum(coalesce(o.weight, octet_length(o.content))), 0) AS bytes, count(*) AS messages
    FROM (
        SELECT weight, content FROM messages
        WHERE tenant = k.tenant AND conversation_id = {id} AND id > b.up_to AND id <= {up_to}
        ORDER BY id DESC LIMIT {most}
    ) AS o
"""

# The reasoning in an answer is not part of a prompt. `inherited`: what a branch goes back to, the nearest conversation
# first; ids of messages are in the order of the whole history. A branch of which nothing fits has a row without a role.
_RECALL = f"""
SELECT k.tenant, k.id AS conversation_id, m.role, m.content, m.parts, m.tool_call_id, m.state,
    jsonb_path_query_array(m.output, '$[*] ? (@.type <> "reasoning")') AS output,
    num_nulls(m.parts, m.tool_call_id, m.output, m.state) = 4 AS plain
FROM json_to_recordset(CAST(:rows AS json)) AS k(tenant text, id uuid, budget bigint, most integer)
LEFT JOIN LATERAL ({_BRANCH.format(id="k.id")}) AS b ON true
LEFT JOIN LATERAL (
    SELECT newest.*, sum(coalesce(newest.weight, octet_length(newest.content))) OVER newer AS so_far,
        sum(coalesce(pg_column_size(newest.parts), 0)) OVER newer AS bytes_of_parts
    FROM (
        (
            SELECT {_COLUMNS} FROM messages
            WHERE tenant = k.tenant AND conversation_id = k.id ORDER BY id DESC LIMIT k.most
        ) UNION ALL (
            WITH RECURSIVE inherited AS (
                SELECT b.parent_id AS id, b.up_to, k.budget - t.bytes AS budget, k.most - t.messages AS most, 2 AS depth
                FROM ({_TAKEN.format(id="k.id", up_to=LAST_ID, most="k.most")}) AS t
                WHERE b.parent_id IS NOT NULL
                UNION ALL
                SELECT b.parent_id, least(b.up_to, i.up_to), i.budget - t.bytes, i.most - t.messages, i.depth + 1
                FROM inherited i CROSS JOIN LATERAL ({_BRANCH.format(id="i.id")}) AS b
                CROSS JOIN LATERAL ({_TAKEN.format(id="i.id", up_to="i.up_to", most="greatest(i.most, 0)")}) AS t
                WHERE i.budget > 0 AND i.most > 0 AND i.depth < {MAX_DEPTH}
            )
            SELECT n.* FROM inherited i
            CROSS JOIN LATERAL (
                SELECT deleted_at FROM conversations WHERE tenant = k.tenant AND id = i.id LIMIT 1
            ) AS c
            CROSS JOIN LATERAL (
                SELECT {_COLUMNS} FROM messages
                WHERE tenant = k.tenant AND conversation_id = i.id AND id <= i.up_to
                ORDER BY id DESC LIMIT greatest(i.most, 0)
            ) AS n
            WHERE i.budget > 0 AND c.deleted_at IS NULL
            ORDER BY n.id DESC LIMIT k.most
        )
    ) AS newest
    WINDOW newer AS (ORDER BY newest.id DESC)
) AS m ON m.so_far <= k.budget AND m.bytes_of_parts <= {MAX_BYTES_OF_PARTS}
WHERE m.id IS NOT NULL OR b.parent_id IS NOT NULL
ORDER BY k.tenant, k.id, m.id
"""
# The rest of a turn that did not fit whole.
_NEVER_FIRST = ("assistant", "tool")

_SEGMENTS = (
    text(f"WITH RECURSIVE {SEGMENTS} SELECT id, up_to FROM segments").columns(id=Uuid, up_to=BigInteger).subquery("s")
)
_OF_SEGMENT = (
    select(messages)
    .where(
        matches(messages.c.tenant),
        messages.c.conversation_id == _SEGMENTS.c.id,
        messages.c.id > bindparam("after"),
        messages.c.id <= _SEGMENTS.c.up_to,
    )
    .order_by(messages.c.id)
    .limit(bindparam("limit"))
    .lateral("m")
)
_NEXT = (
    select(_OF_SEGMENT)
    .select_from(_SEGMENTS.join(_OF_SEGMENT, true()))
    .order_by(_OF_SEGMENT.c.id)
    .limit(bindparam("limit"))
    .subquery("n")
)
_BYTES = func.octet_length(_NEXT.c.content) + size_of_json(_NEXT.c.parts) + size_of_json(_NEXT.c.output)
_MEASURED = measured(select(_NEXT), _BYTES, _NEXT.c.id)
_SHOWN = (
    "id", "role", "content", "created_at", "request_id", "finish_reason", "parts", "tool_call_id", "output", "found",
)  # fmt: skip
_PAGE = composed(select(*(_MEASURED.c[name] for name in _SHOWN)).where(within_page(_MEASURED)).order_by(_MEASURED.c.id))


@dataclass(frozen=True)
class Recall:
    """A conversation whose history to load, and how many bytes of it fit."""

    conversation: ConversationRef
    budget: int


async def recall(database: Database, wanted: Sequence[Recall]) -> dict[ConversationRef, list[ChatMessage]]:
    """The newest whole turns of each conversation that fit its budget, oldest first.

    A branch goes on with what it is a branch of, through at most ``MAX_DEPTH`` conversations. It has an empty list if
    nothing fits.
    """
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
        if row.role is not None and (messages or row.role not in _NEVER_FIRST):
            plain = ChatMessage.model_construct(role=row.role, content=row.content)
            messages.append(plain if row.plain else _message(row))
    return found


def answer(text: str, output: Sequence[dict[str, Any]], state: dict[str, Any] | None) -> ChatMessage:
    """An answer of the model with these items, as a message of a prompt. Reasoning is not part of it."""
    calls, refusal = calls_in(output) or None, refusal_in(output)
    content = None if not text and (calls or refusal) else text
    return ChatMessage.model_construct(
        role="assistant", content=content, tool_calls=calls, refusal=refusal, state=state
    )


def _message(row: Any) -> ChatMessage:
    if row.output is not None:
        return answer(row.content, row.output, row.state)
    content = row.content if row.parts is None else row.parts
    return ChatMessage.model_construct(role=row.role, content=content, tool_call_id=row.tool_call_id)


async def page(
    database: Database, conversation: ConversationRef, after: int, limit: int, only: str | None = None
) -> tuple[list[StoredMessage], bool]:
    """Up to ``limit`` messages in the history of a conversation after the one with id ``after``, oldest first.

    Also True if there are more. Long texts make a page shorter, but never empty. A branch shows what it inherits, too.
    ``only``: nothing unless the conversation is this owner's.
    """
    tenant, id = conversation
    rows = await database.run(
        _PAGE, tenant=tenant, id=id, after=after, limit=limit + 1, only=only, max_bytes=PAGE_BYTES
    )
    found, more = page_rows(rows, limit)
    return [StoredMessage.model_validate(dict(row)) for row in found], more
