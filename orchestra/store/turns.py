"""What every change of a conversation's turns shares: lock the conversation, announce endings, promote the next turn.

Lock order everywhere: conversations by (tenant, id), then requests. The transaction that ends a head also promotes the
next turn.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from orchestra.store.database import Transaction, as_json, lookup_rows, read_json
from schemas.status import Status


class RequestRef(NamedTuple):
    """A request: its tenant and id."""

    tenant: str
    id: UUID


class ConversationRef(NamedTuple):
    """A conversation: its tenant and id."""

    tenant: str
    id: UUID


def shown_status(stored: str) -> Status:
    """The state that callers see of a turn: one behind another of its conversation is pending, like one at the head."""
    return Status.PENDING if stored == "waiting" else Status(stored)


HIDDEN = "substr(CAST({id} AS text), 15, 1) = '8'"
"""The condition that a conversation with this id is hidden: its one request has the same id. As indexes have it."""

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

_ANNOUNCE = "SELECT CAST(announce_v2(:ended, :conversations) AS text) AS replies"


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
    rows = await tx.run(_ANNOUNCE, ended=refs_json(ended), conversations=refs_json(conversations))
    return announcements(read_json(rows[0].replies))


async def promote(tx: Transaction, conversations: Collection[ConversationRef]) -> None:
    """Make the first waiting turn runnable in each of these (locked) conversations that has no head."""
    if conversations:
        await tx.run("SELECT promote_v1(:refs)", refs=refs_json(conversations))


async def empty(tx: Transaction, deleted: Collection[ConversationRef]) -> None:
    """Remove the texts of all ended requests in these deleted conversations."""
    if deleted:
        await tx.run("SELECT empty_v2(:refs)", refs=refs_json(deleted))


def announcements(replies: Sequence[dict[str, Any]]) -> list[Announcement]:
    """Build the announcements from what ``announce_v2`` returns."""
    return [
        Announcement(
            reply["id"],
            reply["tenant"],
            UUID(reply["request_id"]),
            UUID(reply["conversation_id"]),
            UUID(reply["event_id"]),
            reply["value"],
            reply["headers"],
        )
        for reply in replies
    ]
