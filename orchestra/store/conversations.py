"""Conversations as a gateway creates, lists and shows them.

``only``: restrict the result to this owner's conversations. None: those of every owner.
"""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Text, and_, bindparam, cast, func, or_, select, union_all
from sqlalchemy.dialects.postgresql import JSONB, insert

from orchestra.store.compose import composed, matches, parameters
from orchestra.store.database import Database
from orchestra.store.pages import applied, conditions, newest_page
from orchestra.store.tables import branches, conversations, messages, requests
from orchestra.store.turns import ConversationRef
from schemas.api.conversations import ConversationResource

conversation_owner = func.coalesce(conversations.c.owner, cast(conversations.c.user_id, Text))
"""The owner of a conversation: exactly the indexed expression."""

_ONE = matches(conversations.c.tenant, conversations.c.id)

_CREATE = composed(
    insert(conversations)
    .values(**parameters("tenant", "id", "owner"), metadata=cast(bindparam("metadata"), JSONB))
    .on_conflict_do_nothing()
    .returning(conversations.c.id)
)

_MAX_OPEN = 1000
_OWNED = composed(select(conversations.c.id).where(_ONE, conversation_owner.is_not(None)))


def _turns(*statuses: str) -> Select[Any]:
    of_conversation = and_(
        requests.c.tenant == conversations.c.tenant, requests.c.conversation_id == conversations.c.id
    )
    return select(requests.c.id).where(of_conversation, requests.c.status.in_(statuses)).correlate(conversations)


# By the indexes of heads and of waiting turns: those that have ended may be many thousands.
_HEAD, _WAITING = _turns("pending", "in_progress"), _turns("waiting")
_OPEN_REQUESTS = union_all(
    _HEAD, _WAITING.order_by(requests.c.tenant, requests.c.conversation_id, requests.c.seq).limit(_MAX_OPEN)
)
_PARENT = select(branches.c.parent_id).where(
    branches.c.tenant == conversations.c.tenant, branches.c.conversation_id == conversations.c.id
)
_THERE = select(
    conversations.c.id,
    conversations.c.created_at,
    conversations.c.metadata,
    _PARENT.scalar_subquery().label("branch_of"),
    func.array(_OPEN_REQUESTS.scalar_subquery()).label("open_requests"),
).where(matches(conversations.c.tenant), conversations.c.deleted_at.is_(None))

_ONLY = cast(bindparam("only"), Text)
_GET = composed(_THERE.where(matches(conversations.c.id), or_(_ONLY.is_(None), conversation_owner == _ONLY)))

# Instructions, and the results of calls, can come before what a user says first.
_FIRST = (
    select(messages.c.role, messages.c.content)
    .where(messages.c.tenant == conversations.c.tenant, messages.c.conversation_id == conversations.c.id)
    .order_by(messages.c.id)
    .limit(8)
    .correlate(conversations)
    .subquery()
)
# `substr` reads only the beginning of a long text.
_BEGINNING = select(func.nullif(func.substr(_FIRST.c.content, 1, 100), "")).where(_FIRST.c.role == "user").limit(1)

# Exactly the predicate of the indexes: the conversation of one request, with its id, is not listed.
_LISTED = _THERE.add_columns(_BEGINNING.scalar_subquery().label("beginning")).where(
    func.substr(cast(conversations.c.id, Text), 15, 1) != "8"
)

_CONDITIONS = conditions(conversations, only=conversation_owner == bindparam("only"))


async def create(database: Database, ref: ConversationRef, owner: str | None, metadata: dict[str, str]) -> bool:
    """Create a conversation. False if this id is or was in use, by any owner."""
    return bool(await database.run(_CREATE, tenant=ref[0], id=ref[1], owner=owner, metadata=json.dumps(metadata)))


async def get(database: Database, ref: ConversationRef, only: str | None = None) -> ConversationResource | None:
    """The conversation, or None if there is no such conversation or it is deleted."""
    rows = await database.run(_GET, tenant=ref[0], id=ref[1], only=only)
    return _resource(rows[0]) if rows else None


async def is_owned(database: Database, ref: ConversationRef) -> bool:
    """Whether the conversation has an owner. Counts deleted conversations too."""
    return bool(await database.run(_OWNED, tenant=ref[0], id=ref[1]))


async def page(
    database: Database, tenant: str, before: tuple[datetime, UUID] | None, limit: int, only: str | None = None
) -> list[ConversationResource]:
    """Conversations older than ``before`` (creation time and id), newest first. Hidden ones are left out."""
    where, values = applied(_CONDITIONS, only=only, before=before)
    rows = await database.run(newest_page(_LISTED, conversations, where), **values, tenant=tenant, limit=limit)
    return [_resource(row) for row in rows]


def _resource(row: Any) -> ConversationResource:
    return ConversationResource.model_validate(dict(row))
