"""⑦ The ends of attempts → rows, many in one transaction, each only if its fence still holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from orchestra.store.database import Database, Transaction, as_json, few
from orchestra.store.turns import (
    KEYS,
    Announcement,
    Ref,
    announce,
    empty,
    lock_conversations,
    promote,
    refs_json,
)
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.status import Status


@dataclass(frozen=True)
class Ending:
    """How one attempt ended. ``status`` pending: back into the queue in ``delay`` seconds.

    ``question`` is the message to store before the reply, as (role, content); both only when completed.
    ``error``: why the attempt failed, whether another follows or not. ``log`` is a row for the logs table, as
    (type, message).
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    fence: int
    status: Status
    question: tuple[str, str] | None = None
    reply: str | None = None
    usage: Usage | None = None
    error: tuple[ErrorCode, str] | None = None
    delay: float = 0.0
    give_try_back: bool = False
    log: tuple[str, str] | None = None

    @property
    def ref(self) -> Ref:
        """Tenant and id."""
        return self.tenant, self.id

    @property
    def conversation(self) -> Ref:
        """Tenant and id of the conversation."""
        return self.tenant, self.conversation_id


@dataclass
class Finished:
    """What became of a batch of endings. ``announcements``: all that is not published of the same conversations."""

    announcements: list[Announcement] = field(default_factory=list)
    fenced: list[Ref] = field(default_factory=list)
    promoted: int = 0


_END_COLUMNS = (
    "tenant text, id uuid, fence integer, status text, delay float8, tries_back integer, usage jsonb, error_code text, "
    "error_detail text"
)

_END = f"""
UPDATE requests r SET
    worker_id = NULL,
    status = CASE WHEN r.deleted_at IS NOT NULL THEN 'cancelled'
                  WHEN f.status = 'pending' AND r.cancel_requested_at IS NOT NULL THEN 'cancelled'
                  ELSE f.status END,
    finished_at = CASE WHEN f.status = 'pending' AND r.cancel_requested_at IS NULL AND r.deleted_at IS NULL
        THEN NULL ELSE now() END,
    run_at = CASE WHEN f.status = 'pending' THEN now() + make_interval(secs => f.delay) ELSE r.run_at END,
    tries = r.tries - f.tries_back,
    usage = f.usage,
    error_code = CASE WHEN f.status = 'failed' AND r.deleted_at IS NULL THEN f.error_code END,
    error_detail = CASE WHEN f.status = 'failed' AND r.deleted_at IS NULL THEN f.error_detail END
FROM {few("rows", _END_COLUMNS)} AS f
WHERE r.tenant = f.tenant AND r.id = f.id AND r.fence = f.fence
    AND r.status || '' = 'in_progress' -- Not to be read from the index of all that runs.
RETURNING r.tenant, r.id, r.fence, r.status
"""

_MESSAGES = """
INSERT INTO messages (tenant, conversation_id, request_id, role, content)
SELECT m.tenant, m.conversation_id, m.request_id, m.role, m.content
FROM json_to_recordset(CAST(:rows AS json)) AS m(
    place integer, tenant text, conversation_id uuid, request_id uuid, role text, content text
)
ORDER BY m.place
"""

_LOGS = """
INSERT INTO logs (tenant, type, message)
SELECT l.tenant, l.type, l.message
FROM json_to_recordset(CAST(:rows AS json)) AS l(tenant text, type text, message text)
"""

_ATTEMPT_ERRORS = """
INSERT INTO attempt_errors (tenant, request_id, attempt, code, detail)
SELECT e.tenant, e.request_id, e.attempt, e.code, e.detail
FROM json_to_recordset(CAST(:rows AS json)) AS e(tenant text, request_id uuid, attempt integer, code text, detail text)
ON CONFLICT DO NOTHING
"""

_EXPIRE = """
SELECT tenant, id, conversation_id FROM requests
WHERE finished_at IS NULL AND worker_id IS NULL AND deadline_at <= now()
ORDER BY deadline_at LIMIT :limit
"""

_EXPIRE_THESE = f"""
UPDATE requests r SET status = 'expired', finished_at = now()
FROM {KEYS} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND r.status IN ('waiting', 'pending') AND r.deadline_at <= now()
RETURNING r.tenant, r.id
"""


async def finish(database: Database, endings: Sequence[Ending]) -> Finished:
    """Write a batch of endings in one transaction; those whose fence no longer holds change nothing.

    Raises ``DataRefusedError`` (halve the batch) or ``DatabaseUnavailableError``: then it may or may not be
    committed, and doing it again is safe.
    """
    conversations = {ending.conversation for ending in endings}
    async with database.transaction() as tx:
        deleted = await lock_conversations(tx, conversations)
        endings = [_in_deleted(ending) if ending.conversation in deleted else ending for ending in endings]
        rows = await tx.run(_END, rows=as_json(_rows(endings)))
        # By fence too: an old attempt's ending may be in the batch of the new one's.
        ended = {((row.tenant, row.id), row.fence): row.status for row in rows}
        written = [ending for ending in endings if (ending.ref, ending.fence) in ended]
        await _store_messages(tx, [each for each in written if ended[each.ref, each.fence] == "completed"])
        await _store_logs(tx, written)
        await _store_errors(tx, written)
        over = [ref for (ref, _), status in ended.items() if status != "pending"]
        announcements = await announce(tx, conversations, over)
        promoted = await promote(tx, conversations)
        await empty(tx, deleted)
    fenced = [ending.ref for ending in endings if (ending.ref, ending.fence) not in ended]
    return Finished(announcements, fenced, promoted)


async def expire(database: Database, limit: int) -> list[Announcement]:
    """End requests whose deadline has passed and that nobody runs."""
    due = await database.run(_EXPIRE, limit=limit)
    if not due:
        return []
    conversations = [(row.tenant, row.conversation_id) for row in due]
    async with database.transaction() as tx:
        await lock_conversations(tx, conversations)
        rows = await tx.run(_EXPIRE_THESE, refs=refs_json([(row.tenant, row.id) for row in due]))
        announcements = await announce(tx, conversations, [(row.tenant, row.id) for row in rows])
        await promote(tx, conversations)
    return announcements


def _in_deleted(ending: Ending) -> Ending:
    # An answer to a conversation that was deleted meanwhile is thrown away.
    return Ending(ending.tenant, ending.id, ending.conversation_id, ending.fence, Status.CANCELLED)


def _rows(endings: Sequence[Ending]) -> list[dict[str, Any]]:
    return [
        {
            "tenant": ending.tenant,
            "id": ending.id,
            "fence": ending.fence,
            "status": ending.status,
            "delay": ending.delay,
            "tries_back": int(ending.give_try_back),
            "usage": ending.usage and ending.usage.model_dump(),
            "error_code": ending.error and ending.error[0],
            "error_detail": ending.error and ending.error[1],
        }
        for ending in endings
    ]


async def _store_messages(tx: Transaction, completed: Sequence[Ending]) -> None:
    texts = [(ending, *text) for ending in completed for text in _texts(ending)]
    rows = [
        {
            "place": place,
            "tenant": ending.tenant,
            "conversation_id": ending.conversation_id,
            "request_id": request_id,
            "role": role,
            "content": content,
        }
        for place, (ending, request_id, role, content) in enumerate(texts)
    ]
    if rows:
        await tx.run(_MESSAGES, rows=as_json(rows))


def _texts(ending: Ending) -> Iterator[tuple[UUID | None, str, str]]:
    if ending.question:
        role, content = ending.question
        # A request has one assistant message, its answer: a question that an assistant's message is belongs to none.
        yield None if role == "assistant" else ending.id, role, content
    if ending.reply is not None:
        yield ending.id, "assistant", ending.reply


async def _store_logs(tx: Transaction, endings: Sequence[Ending]) -> None:
    rows = [
        {"tenant": ending.tenant, "type": ending.log[0], "message": ending.log[1]} for ending in endings if ending.log
    ]
    if rows:
        await tx.run(_LOGS, rows=as_json(rows))


async def _store_errors(tx: Transaction, endings: Sequence[Ending]) -> None:
    rows = [
        {
            "tenant": ending.tenant,
            "request_id": ending.id,
            "attempt": ending.fence,
            "code": ending.error[0],
            "detail": ending.error[1],
        }
        for ending in endings
        if ending.error
    ]
    if rows:
        await tx.run(_ATTEMPT_ERRORS, rows=as_json(rows))
