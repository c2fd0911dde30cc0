"""Tasks as a gateway lists, counts, shows and removes them: the requests that have a task_type.

``only``: restrict the result to this owner's tasks. None: those of every owner. A removed task does not exist here, and
neither does a task whose conversation is deleted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from orchestra.store.audit import Author, changing
from orchestra.store.bodies import from_store
from orchestra.store.compose import composed, matches
from orchestra.store.database import Database
from orchestra.store.pages import applied, page_rows
from orchestra.store.requests import CONDITIONS, answer_of, page_of, shared_columns, visible
from orchestra.store.tables import attempt_errors, messages, requests
from orchestra.store.turns import PAGE_BYTES, ConversationRef, RequestRef, lock_conversations
from schemas.api.tasks import TaskFilter, TaskResource, prompt_and_history
from schemas.ids import conversation_id_for_request
from schemas.requests import Message
from schemas.status import Status

_OPEN = and_(requests.c.status.in_(("waiting", "pending", "in_progress")), requests.c.cancel_requested_at.is_(None))

_CONDITIONS = CONDITIONS | {
    "type": requests.c.task_type == bindparam("type"),
    "user": requests.c.user_name == bindparam("user"),
}


def _visible(*columns: ColumnElement[Any]) -> Select[Any]:
    return visible(*columns).where(requests.c.task_type.is_not(None))


def _resource(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    e = attempt_errors
    error = func.json_build_object("attempt", e.c.attempt, "code", e.c.code, "detail", e.c.detail, "at", e.c.created_at)
    errors = select(func.coalesce(func.json_agg(aggregate_order_by(error, e.c.attempt)), literal_column("'[]'")))
    return (
        *shared_columns(r, m),
        r.c.id.label("task_id"),
        r.c.user_name.label("user_id"),
        func.jsonb_extract_path(r.c.body, "messages").label("messages"),
        case((r.c.status == "completed", m.c.content), (r.c.status == "failed", r.c.error_detail)).label("result"),
        r.c.finished_at.label("completed_at"),
        r.c.priority,
        r.c.not_before,
        r.c.deadline_at.label("deadline"),
        errors.where(e.c.tenant == r.c.tenant, e.c.request_id == r.c.id).scalar_subquery().label("errors"),
    )


@lru_cache
def _page(where: tuple[ColumnElement[bool], ...]) -> str:
    return page_of(_visible(*requests.c).where(*where), _resource, lambda r: func.pg_column_size(r.c.body))


@lru_cache
def _get(where: tuple[ColumnElement[bool], ...]) -> str:
    m = messages.alias("m")
    one = _visible(*_resource(requests, m)).outerjoin(m, answer_of(requests, m))
    return composed(one.where(*where, matches(requests.c.id)))


@lru_cache
def _body(where: tuple[ColumnElement[bool], ...]) -> str:
    body = requests.c.body
    return composed(_visible(body).where(*where, matches(requests.c.id), body.is_not(None)))


@lru_cache
def _count(by: ColumnElement[str], where: tuple[ColumnElement[bool], ...]) -> str:
    return composed(_visible(by, func.count().label("n")).where(*where).group_by(by).order_by(by))


@lru_cache
def _open(where: tuple[ColumnElement[bool], ...]) -> str:
    oldest = _visible(requests.c.id, requests.c.conversation_id).where(*where, _OPEN)
    return composed(oldest.order_by(requests.c.created_at, requests.c.id).limit(bindparam("limit")))


# Keep in step with `turns.empty` and `cancels.delete_conversations`, which empty the same tables.
_REMOVE = """
WITH removed AS (
    UPDATE requests r SET deleted_at = now(), body = CASE WHEN r.finished_at IS NULL THEN r.body END
    FROM conversations c
    WHERE c.tenant = r.tenant AND c.id = r.conversation_id AND c.deleted_at IS NULL
        AND r.tenant = :tenant AND r.id = :id AND r.task_type IS NOT NULL AND r.deleted_at IS NULL
        AND (CAST(:only AS text) IS NULL OR r.user_name = :only)
    RETURNING r.tenant, r.id, r.conversation_id, r.finished_at IS NOT NULL AS ended
), unsaid AS (
    DELETE FROM messages m USING removed g
    WHERE g.ended AND m.tenant = g.tenant AND m.conversation_id = g.conversation_id AND m.request_id = g.id
), emptied AS (
    UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' - 'output' || '{"reply": null}')::text
    FROM removed g WHERE g.ended AND o.tenant = g.tenant AND o.request_id = g.id
)
SELECT id FROM removed
"""

_ANOTHER_REQUEST = exists().where(
    matches(requests.c.tenant, requests.c.conversation_id),
    requests.c.id != bindparam("id"),
    requests.c.deleted_at.is_(None),
)
_ANOTHER_MESSAGE = exists().where(
    matches(messages.c.tenant, messages.c.conversation_id),
    messages.c.request_id.is_distinct_from(bindparam("id")),
)
_ALONE = composed(select(not_(or_(_ANOTHER_REQUEST, _ANOTHER_MESSAGE)).label("alone")))

_UNSETTLED = composed(
    select(func.count().label("n")).where(matches(requests.c.tenant), requests.c.id == any_(bindparam("ids")), _OPEN)
)


@dataclass(frozen=True)
class OpenTask:
    """A task that has not ended, and its conversation, which is the key of the cancel's record."""

    id: UUID
    conversation_id: UUID


async def page(
    database: Database,
    tenant: str,
    only: str | None,
    filter: TaskFilter,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> tuple[list[TaskResource], bool]:
    """Up to ``limit`` tasks, newest first; also True if there are more.

    ``before``: older than this creation time and id. Long texts make a page shorter, but never empty.
    """
    where, values = applied(_CONDITIONS, filter, only=only, before=before)
    rows = await database.run(_page(where), **values, tenant=tenant, limit=limit + 1, max_bytes=PAGE_BYTES)
    found, more = page_rows(rows, limit)
    return [_task(row) for row in found], more


async def get(database: Database, ref: RequestRef, only: str | None) -> TaskResource | None:
    """A task with the errors of its attempts, or None if there is no such task."""
    where, values = applied(_CONDITIONS, only=only)
    rows = await database.run(_get(where), **values, **ref._asdict())
    return _task(rows[0]) if rows else None


async def body(database: Database, ref: RequestRef, only: str | None) -> dict[str, Any] | None:
    """The original body of a task. None if there is no such task, or its body has been removed."""
    where, values = applied(_CONDITIONS, only=only)
    rows = await database.run(_body(where), **values, **ref._asdict())
    return from_store(dict(rows[0].body)) if rows else None


async def count_by_status(database: Database, tenant: str, only: str | None) -> dict[str, int]:
    """How many tasks there are in each state; states without tasks count 0."""
    where, values = applied(_CONDITIONS, only=only)
    rows = await database.run(_count(requests.c.status, where), **values, tenant=tenant)
    found = {row.status: row.n for row in rows}
    found["pending"] = found.get("pending", 0) + found.get("waiting", 0)
    return {status.value: found.get(status.value, 0) for status in Status}


async def count_by_type(database: Database, tenant: str, only: str | None) -> dict[str, int]:
    """How many tasks there are of each type, by name."""
    where, values = applied(_CONDITIONS, only=only)
    rows = await database.run(_count(requests.c.task_type, where), **values, tenant=tenant)
    return {row.task_type: row.n for row in rows}


async def open_tasks(
    database: Database, tenant: str, only: str | None, filter: TaskFilter, limit: int
) -> list[OpenTask]:
    """Up to ``limit`` tasks that have neither ended nor been asked to cancel, oldest first."""
    where, values = applied(_CONDITIONS, filter, only=only)
    rows = await database.run(_open(where), **values, tenant=tenant, limit=limit)
    return [OpenTask(row.id, row.conversation_id) for row in rows]


async def untouched(database: Database, tenant: str, ids: Collection[UUID]) -> int:
    """How many of these requests are open without a cancel."""
    return int((await database.run(_UNSETTLED, tenant=tenant, ids=list(ids)))[0].n)


async def remove(
    database: Database, ref: RequestRef, conversation_id: UUID, only: str | None, by: Author | None = None
) -> bool:
    """Remove a task and, if it has ended, its texts. False if there is no such task.

    An open task keeps its texts until it ends.
    """
    async with changing(database) as tx:
        await lock_conversations(tx, [ConversationRef(ref.tenant, conversation_id)])
        rows = await tx.run(_REMOVE, tenant=ref.tenant, id=ref.id, only=only)
        if rows:
            tx.note_once(by, f"requests/{ref.id}")
        return bool(rows)


async def alone(database: Database, ref: RequestRef, conversation_id: UUID) -> bool:
    """Whether the conversation was created for this task and holds nothing else, so that it may go with the task."""
    if conversation_id != conversation_id_for_request(ref[1]):
        return False
    rows = await database.run(_ALONE, tenant=ref.tenant, id=ref.id, conversation_id=conversation_id)
    return bool(rows[0].alone)


def _task(row: Any) -> TaskResource:
    fields = dict(row)
    fields["prompt"], fields["history"] = prompt_and_history(_messages(fields.pop("messages")))
    fields.pop("found", None)
    return TaskResource.model_validate(fields)


def _messages(stored: Sequence[dict[str, Any]] | None) -> list[Message]:
    return [Message.model_construct(**each) for each in stored or ()]
