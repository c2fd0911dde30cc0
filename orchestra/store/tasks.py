"""Tasks as a gateway lists, counts, shows and removes them: the requests that have a task_type.

``only``: the owner whose tasks there are, and no others; None: everybody's. A removed task is not there, nor is one
whose conversation is deleted.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.store.database import Database
from orchestra.store.turns import PAGE_BYTES, ConversationRef, RequestRef, lock_conversations
from schemas.api.tasks import TaskFilter, TaskResource, prompt_and_history
from schemas.ids import conversation_id_for_request
from schemas.requests import Message
from schemas.status import Status

_OPEN = "r.status IN ('waiting', 'pending', 'in_progress')"

_THERE = """
FROM requests r
JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id AND c.deleted_at IS NULL
WHERE r.tenant = :tenant AND r.task_type IS NOT NULL AND r.deleted_at IS NULL
"""

_COLUMNS = """
SELECT p.id, p.id AS task_id, p.user_name AS user_id, p.task_type, p.body -> 'messages' AS messages,
    CASE WHEN p.status = 'waiting' THEN 'pending' ELSE p.status END AS status,
    CASE p.status WHEN 'completed' THEN m.content WHEN 'failed' THEN p.error_detail END AS result,
    p.created_at, p.started_at, p.finished_at AS completed_at, p.conversation_id, p.model, p.priority, p.not_before,
    p.deadline_at AS deadline, p.fence AS attempts, p.usage, p.cancel_requested_at IS NOT NULL AS cancel_requested,
    p.retry_of, m.finish_reason, p.body -> 'metadata' AS metadata,
    CASE WHEN p.error_code IS NOT NULL AND p.status IN ('waiting', 'pending', 'in_progress', 'expired')
        THEN json_build_object('code', p.error_code, 'detail', p.error_detail) END AS last_error, (
        SELECT coalesce(json_agg(json_build_object(
            'attempt', e.attempt, 'code', e.code, 'detail', e.detail, 'at', e.created_at) ORDER BY e.attempt), '[]')
        FROM attempt_errors e WHERE e.tenant = p.tenant AND e.request_id = p.id
    ) AS errors
"""
_ANSWER = "LEFT JOIN messages m ON m.tenant = p.tenant AND m.request_id = p.id AND m.role = 'assistant'"

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
    UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' || '{"reply": null}')::text
    FROM removed g WHERE g.ended AND o.tenant = g.tenant AND o.request_id = g.id
)
SELECT id FROM removed
"""

_ALONE = """
SELECT NOT EXISTS (
    SELECT 1 FROM requests WHERE tenant = :tenant AND conversation_id = :conversation_id AND id <> :id
        AND deleted_at IS NULL
) AND NOT EXISTS (
    SELECT 1 FROM messages WHERE tenant = :tenant AND conversation_id = :conversation_id
        AND request_id IS DISTINCT FROM :id
) AS alone
"""

_UNSETTLED = f"""
SELECT count(*) AS n FROM requests r
WHERE r.tenant = :tenant AND r.id = ANY(:ids) AND {_OPEN} AND r.cancel_requested_at IS NULL
"""


@dataclass(frozen=True)
class OpenTask:
    """A task that has not ended, and the conversation that its cancel goes to."""

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
    """Up to ``limit`` tasks older than ``before`` (creation time and id), newest first; True when there are more.

    Long texts make a page shorter, but never empty.
    """
    where, parameters = _where(tenant, only, filter)
    if before:
        where += " AND (r.created_at, r.id) < (CAST(:before AS timestamptz), CAST(:before_id AS uuid))"
        parameters |= {"before": before[0], "before_id": before[1]}
    newest = f"SELECT r.* {where} ORDER BY r.created_at DESC, r.id DESC LIMIT :limit"
    sql = f"""
    {_COLUMNS}, p.found FROM (
        SELECT n.*, count(*) OVER () AS found, row_number() OVER w AS place,
            sum(pg_column_size(n.body) + coalesce(octet_length(a.content), 0)) OVER w AS so_far
        FROM ({newest}) AS n
        LEFT JOIN messages a ON a.tenant = n.tenant AND a.request_id = n.id AND a.role = 'assistant'
        WINDOW w AS (ORDER BY n.created_at DESC, n.id DESC)
    ) AS p {_ANSWER}
    WHERE p.place = 1 OR p.so_far <= {PAGE_BYTES}
    ORDER BY p.created_at DESC, p.id DESC
    """
    rows = await database.run(sql, **parameters, limit=limit + 1)
    return [_task(row) for row in rows[:limit]], bool(rows) and rows[0].found > min(len(rows), limit)


async def get(database: Database, ref: RequestRef, only: str | None) -> TaskResource | None:
    """A task, with the errors of its attempts."""
    where, parameters = _where(ref[0], only, TaskFilter())
    sql = f"{_COLUMNS} FROM (SELECT r.* {where} AND r.id = :id) AS p {_ANSWER}"
    rows = await database.run(sql, **parameters, id=ref[1])
    return _task(rows[0]) if rows else None


async def body(database: Database, ref: RequestRef, only: str | None) -> dict[str, Any] | None:
    """What a task asked for, as it came."""
    where, parameters = _where(ref[0], only, TaskFilter())
    rows = await database.run(f"SELECT r.body {where} AND r.id = :id AND r.body IS NOT NULL", **parameters, id=ref[1])
    return dict(rows[0].body) if rows else None


async def count_by_status(database: Database, tenant: str, only: str | None) -> dict[str, int]:
    """How many tasks there are in each state; every state is named."""
    where, parameters = _where(tenant, only, TaskFilter())
    rows = await database.run(f"SELECT r.status, count(*) AS n {where} GROUP BY r.status", **parameters)
    found = {row.status: row.n for row in rows}
    found["pending"] = found.get("pending", 0) + found.get("waiting", 0)
    return {status.value: found.get(status.value, 0) for status in Status}


async def count_by_type(database: Database, tenant: str, only: str | None) -> dict[str, int]:
    """How many tasks there are of each type, by name."""
    where, parameters = _where(tenant, only, TaskFilter())
    sql = f"SELECT r.task_type, count(*) AS n {where} GROUP BY r.task_type ORDER BY r.task_type"
    return {row.task_type: row.n for row in await database.run(sql, **parameters)}


async def open_tasks(
    database: Database, tenant: str, only: str | None, filter: TaskFilter, limit: int
) -> list[OpenTask]:
    """Up to ``limit`` tasks that have not ended and that nobody has asked to cancel, oldest first."""
    where, parameters = _where(tenant, only, filter)
    sql = f"""
    SELECT r.id, r.conversation_id {where} AND {_OPEN} AND r.cancel_requested_at IS NULL
    ORDER BY r.created_at, r.id LIMIT :limit
    """
    return [OpenTask(row.id, row.conversation_id) for row in await database.run(sql, **parameters, limit=limit)]


async def untouched(database: Database, tenant: str, ids: Collection[UUID]) -> int:
    """How many of these requests no cancel has reached, though they are open."""
    return int((await database.run(_UNSETTLED, tenant=tenant, ids=list(ids)))[0].n)


async def remove(database: Database, ref: RequestRef, conversation_id: UUID, only: str | None) -> bool:
    """Take a task away, with its texts once it has ended; False when it is not there.

    One that is open keeps them until its cancel, or its own end, empties it.
    """
    async with database.transaction() as tx:
        await lock_conversations(tx, [ConversationRef(ref.tenant, conversation_id)])
        return bool(await tx.run(_REMOVE, tenant=ref.tenant, id=ref.id, only=only))


async def alone(database: Database, ref: RequestRef, conversation_id: UUID) -> bool:
    """True when the task's conversation was made for it and holds nothing else, so that it may go with the task."""
    if conversation_id != conversation_id_for_request(ref[1]):
        return False
    rows = await database.run(_ALONE, tenant=ref.tenant, id=ref.id, conversation_id=conversation_id)
    return bool(rows[0].alone)


def _where(tenant: str, only: str | None, filter: TaskFilter) -> tuple[str, dict[str, Any]]:
    # Only the conditions that are asked for, so that each kind of list has a plan with the index that fits it.
    conditions = {
        "only": "r.user_name = :only",
        "status": f"r.status {_IN_STATUS if filter.status is Status.PENDING else '= :status'}",
        "type": "r.task_type = :type",
        "user": "r.user_name = :user",
        "created_after": "r.created_at >= :created_after",
        "created_before": "r.created_at < :created_before",
    }
    given = {name: value for name, value in {"only": only, **filter.model_dump()}.items() if value is not None}
    where = "".join(f" AND {conditions[name]}" for name in given)
    if filter.status is Status.PENDING:
        del given["status"]
    return _THERE + where, {"tenant": tenant, **given}


_IN_STATUS = "IN ('waiting', 'pending')"


def _task(row: Any) -> TaskResource:
    fields = dict(row)
    fields["prompt"], fields["history"] = prompt_and_history(_messages(fields.pop("messages")))
    fields.pop("found", None)
    return TaskResource.model_validate(fields)


def _messages(stored: Sequence[dict[str, str]] | None) -> list[Message]:
    return [Message.model_construct(role=each["role"], content=each["content"]) for each in stored or ()]  # type: ignore[arg-type]
