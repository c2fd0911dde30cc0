"""The turns of conversations in their order, as streams of conversations need them: by number, without their texts."""

import json
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from orchestra.store.database import Database, lookup_rows
from orchestra.store.turns import ConversationRef, RequestRef

MAX_TURNS = 20


class NextTurn(NamedTuple):
    """The number of a turn within its conversation, its request, and its owner, if it has one."""

    seq: int
    id: UUID
    owner: str | None = None


class Following(NamedTuple):
    """The next turns of a conversation.

    ``deleted``: there is no such conversation any more. Its turns are those that were open just before; their rows
    cannot be read.
    """

    turns: list[NextTurn]
    deleted: bool


# Of a deleted conversation, a turn that has ended is shown for as long as gateways know its events.
_SHOWN_SECONDS = 5
_TURNS = "SELECT r.seq, r.id, r.user_name AS owner, r.finished_at FROM requests r"
_BEHIND = "r.tenant = p.tenant AND r.conversation_id = p.id AND r.seq > p.after"
# One index lookup per place, of one of the two kinds.
_NEXT = f"""
SELECT p.place, c.id IS NULL OR c.deleted_at IS NOT NULL AS deleted, t.seq, t.id, t.owner
FROM {lookup_rows("places", "tenant text, id uuid, place int, after bigint")} AS p
LEFT JOIN conversations c ON c.tenant = p.tenant AND c.id = p.id
LEFT JOIN LATERAL (
    (
        {_TURNS} WHERE c.deleted_at IS NULL AND {_BEHIND} AND r.deleted_at IS NULL ORDER BY r.seq LIMIT {MAX_TURNS}
    ) UNION ALL (
        SELECT * FROM (
            {_TURNS} WHERE c.deleted_at IS NOT NULL AND {_BEHIND} ORDER BY r.seq DESC LIMIT {MAX_TURNS}
        ) AS last
        WHERE last.finished_at IS NULL OR last.finished_at > now() - interval '{_SHOWN_SECONDS} seconds'
    )
) AS t ON true
ORDER BY p.place, t.seq
"""

_SEQ = "SELECT seq FROM requests WHERE tenant = :tenant AND id = :id AND conversation_id = :conversation_id"


async def next_turns(database: Database, places: Sequence[tuple[ConversationRef, int]]) -> list[Following]:
    """For each place, a conversation and the number of a turn in it: up to ``MAX_TURNS`` turns behind that one."""
    if not places:
        return []
    given = [
        {"tenant": ref.tenant, "id": str(ref.id), "place": place, "after": after}
        for place, (ref, after) in enumerate(places)
    ]
    found = [Following([], deleted=True) for _ in places]
    for row in await database.run(_NEXT, places=json.dumps(given)):
        turns = found[row.place].turns
        if row.seq is not None:
            turns.append(NextTurn(row.seq, row.id, row.owner))
        found[row.place] = Following(turns, row.deleted)
    return found


async def number_of(database: Database, conversation: ConversationRef, request: RequestRef) -> int | None:
    """The number of a request's turn in this conversation; None if it has none there."""
    rows = await database.run(_SEQ, tenant=request.tenant, id=request.id, conversation_id=conversation.id)
    return int(rows[0].seq) if rows else None
