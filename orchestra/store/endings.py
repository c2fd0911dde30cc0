"""⑦ The ends of attempts → rows, many in one transaction, each only if its fence still holds."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from orchestra.store.claims import CALLER_SECONDS
from orchestra.store.database import Database, Transaction, as_json, lookup_rows
from orchestra.store.turns import (
    KEYS,
    Announcement,
    ConversationRef,
    RequestRef,
    announce,
    empty,
    lock_conversations,
    promote,
    refs_json,
)
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.status import Status

# More seconds than any caller waits.
_FOREVER = 1e9


@dataclass(frozen=True)
class AttemptEnd:
    """How one attempt ended. ``status`` pending: it goes back to the queue for ``delay`` seconds.

    ``question``: the message to store before the reply, as (role, content). ``question``, ``reply`` and
    ``finish_reason`` are set only if completed. ``error``: why the attempt failed, whether or not another follows.
    ``log``: a row for the logs table, as (type, message).
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    fence: int
    status: Status
    question: tuple[str, str] | None = None
    reply: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: tuple[ErrorCode, str] | None = None
    delay: float = 0.0
    give_try_back: bool = False
    log: tuple[str, str] | None = None

    # Built once, because writing a batch reads them many times.
    ref: RequestRef = field(init=False, repr=False, compare=False)
    conversation: ConversationRef = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ref", RequestRef(self.tenant, self.id))
        object.__setattr__(self, "conversation", ConversationRef(self.tenant, self.conversation_id))


@dataclass
class Finished:
    """The result of a batch of endings.

    ``announcements``: every unpublished reply of the same conversations. ``fenced``: requests whose ending changed
    nothing, because its fence no longer holds. ``promoted``: how many turns became runnable.
    """

    announcements: list[Announcement] = field(default_factory=list)
    fenced: list[RequestRef] = field(default_factory=list)
    promoted: int = 0


@dataclass(frozen=True)
class HeldModel:
    """A model that is not called for ``seconds``, and the error it gave."""

    model: str
    code: ErrorCode
    detail: str
    seconds: float


@dataclass(frozen=True)
class Told:
    """A request whose last error now says that its model is held back. ``fence`` counts its attempts so far."""

    tenant: str
    id: UUID
    fence: int
    body_hash: str
    traceparent: str | None
    code: ErrorCode
    detail: str


@dataclass
class HeldBack:
    """The result for requests whose model is held back: ``told`` keep waiting, ``refused`` have failed."""

    told: list[Told] = field(default_factory=list)
    refused: int = 0
    announcements: list[Announcement] = field(default_factory=list)


_END_COLUMNS = (
    "tenant text, id uuid, fence integer, status text, delay float8, tries_back integer, usage jsonb, error_code text, "
    "error_detail text"
)

_FORGETS = """(f.status IN ('completed', 'cancelled') OR r.deleted_at IS NOT NULL
    OR f.status = 'pending' AND r.cancel_requested_at IS NOT NULL)"""

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
    -- Why it failed; or, while it is open and when it expired, why its last attempt did.
    error_code = CASE WHEN {_FORGETS} THEN NULL ELSE coalesce(f.error_code, r.error_code) END,
    error_detail = CASE WHEN {_FORGETS} THEN NULL ELSE coalesce(f.error_detail, r.error_detail) END
FROM {lookup_rows("rows", _END_COLUMNS)} AS f
WHERE r.tenant = f.tenant AND r.id = f.id AND r.fence = f.fence
    AND r.status || '' = 'in_progress' -- Not to be read from the index of all that runs.
RETURNING r.tenant, r.id, r.fence, r.status
"""

_MESSAGES = """
INSERT INTO messages (tenant, conversation_id, request_id, role, content, finish_reason)
SELECT m.tenant, m.conversation_id, m.request_id, m.role, m.content, m.finish_reason
FROM json_to_recordset(CAST(:rows AS json)) AS m(
    place integer, tenant text, conversation_id uuid, request_id uuid, role text, content text, finish_reason text
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


# Only requests without a last error yet, and those whose caller will leave before the hold ends.
_HOPELESS = f"""(r.caller_waits AND r.created_at + interval '{CALLER_SECONDS} seconds' BETWEEN now()
    AND now() + make_interval(secs => CAST(CAST(:held AS jsonb) ->> r.model AS float8)))"""
_BEHIND_HELD = f"""
SELECT r.tenant, r.id, r.conversation_id, r.model, {_HOPELESS} AS hopeless
FROM requests r
WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now() AND CAST(:held AS jsonb) ? r.model
    AND (r.error_code IS NULL OR {_HOPELESS})
ORDER BY r.run_at LIMIT :limit
"""

_WHY = lookup_rows("rows", "tenant text, id uuid, code text, detail text")

_TELL = f"""
UPDATE requests r SET error_code = k.code, error_detail = k.detail
FROM (
    SELECT w.tenant, w.id, k.code, k.detail FROM {_WHY} AS k
    JOIN requests w ON w.tenant = k.tenant AND w.id = k.id
    WHERE w.status = 'pending' AND w.error_code IS NULL
    FOR UPDATE OF w SKIP LOCKED -- Another worker may be writing the same, or claiming one.
) AS k
WHERE r.tenant = k.tenant AND r.id = k.id
RETURNING r.tenant, r.id, r.fence, r.body_hash, r.traceparent, r.error_code AS code, r.error_detail AS detail
"""

_REFUSE = f"""
UPDATE requests r SET status = 'failed', finished_at = now(), error_code = k.code, error_detail = k.detail
FROM {_WHY} AS k
WHERE r.tenant = k.tenant AND r.id = k.id AND r.status = 'pending'
RETURNING r.tenant, r.id
"""


async def finish(database: Database, endings: Sequence[AttemptEnd]) -> Finished:
    """Write a batch of endings in one transaction. An ending whose fence no longer holds changes nothing.

    Raises ``DataRefusedError`` (split the batch) or ``DatabaseUnavailableError`` (it may or may not be committed, and
    repeating it is safe).
    """
    conversations = {ending.conversation for ending in endings}
    async with database.transaction() as tx:
        deleted = await lock_conversations(tx, conversations)
        endings = [_in_deleted(ending) if ending.conversation in deleted else ending for ending in endings]
        rows = await tx.run(_END, rows=as_json(_rows(endings)))
        # By fence too: the batch may hold the endings of an old and of a new attempt.
        ended = {(RequestRef(row.tenant, row.id), row.fence): row.status for row in rows}
        written = [ending for ending in endings if (ending.ref, ending.fence) in ended]
        await _store_messages(tx, [each for each in written if ended[each.ref, each.fence] == "completed"])
        await _store_logs(tx, written)
        await _store_errors(tx, written)
        over = [ref for (ref, _), status in ended.items() if status != "pending"]
        await empty(tx, deleted)  # Before `announce`: replies must not carry texts of a deleted conversation.
        announcements = await announce(tx, conversations, over)
        promoted = await promote(tx, conversations)
    fenced = [ending.ref for ending in endings if (ending.ref, ending.fence) not in ended]
    return Finished(announcements, fenced, promoted)


async def expire(database: Database, limit: int) -> list[Announcement]:
    """Expire up to ``limit`` requests whose deadline has passed and that no worker runs."""
    due = await database.run(_EXPIRE, limit=limit)
    if not due:
        return []
    conversations = [ConversationRef(row.tenant, row.conversation_id) for row in due]
    async with database.transaction() as tx:
        await lock_conversations(tx, conversations)
        rows = await tx.run(_EXPIRE_THESE, refs=refs_json([RequestRef(row.tenant, row.id) for row in due]))
        announcements = await announce(tx, conversations, [RequestRef(row.tenant, row.id) for row in rows])
        await promote(tx, conversations)
    return announcements


async def hold_back(database: Database, held: Sequence[HeldModel], hopeless: Collection[str], limit: int) -> HeldBack:
    """Write into up to ``limit`` requests of models that are held back why they wait. No attempt is made or counted.

    A request whose caller holds a connection open and would leave before the hold ends fails.
    ``hopeless``: models for which such requests fail however short the hold is.
    """
    waits = {each.model: _FOREVER if each.model in hopeless else each.seconds for each in held}
    found = await database.run(_BEHIND_HELD, held=orjson.dumps(waits).decode(), limit=limit)
    if not found:
        return HeldBack()
    by_model = {each.model: each for each in held}
    tell = [_why(row, by_model[row.model]) for row in found if not row.hopeless]
    refuse = [_why(row, by_model[row.model]) for row in found if row.hopeless]
    told = [Told(**row) for row in await database.run(_TELL, rows=as_json(tell))] if tell else []
    if not refuse:
        return HeldBack(told)
    conversations = [ConversationRef(row.tenant, row.conversation_id) for row in found if row.hopeless]
    async with database.transaction() as tx:
        await lock_conversations(tx, conversations)
        rows = await tx.run(_REFUSE, rows=as_json(refuse))
        announcements = await announce(tx, conversations, [RequestRef(row.tenant, row.id) for row in rows])
        await promote(tx, conversations)
    return HeldBack(told, len(rows), announcements)


def _why(row: Any, held: HeldModel) -> dict[str, Any]:
    detail = f"{held.detail} (the model is held back for {held.seconds:.0f} s)"
    return {"tenant": row.tenant, "id": row.id, "code": held.code, "detail": detail}


def _in_deleted(ending: AttemptEnd) -> AttemptEnd:
    # The conversation was deleted meanwhile: discard the answer.
    return AttemptEnd(ending.tenant, ending.id, ending.conversation_id, ending.fence, Status.CANCELLED)


def _rows(endings: Sequence[AttemptEnd]) -> list[dict[str, Any]]:
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


async def _store_messages(tx: Transaction, completed: Sequence[AttemptEnd]) -> None:
    texts = [(ending, *text) for ending in completed for text in _texts(ending)]
    rows = [
        {
            "place": place,
            "tenant": ending.tenant,
            "conversation_id": ending.conversation_id,
            "request_id": request_id,
            "role": role,
            "content": content,
            "finish_reason": finish_reason,
        }
        for place, (ending, request_id, role, content, finish_reason) in enumerate(texts)
    ]
    if rows:
        await tx.run(_MESSAGES, rows=as_json(rows))


def _texts(ending: AttemptEnd) -> Iterator[tuple[UUID | None, str, str, FinishReason | None]]:
    if ending.question:
        role, content = ending.question
        # A request has at most one assistant message, its answer: a question with that role gets no request id.
        yield None if role == "assistant" else ending.id, role, content, None
    if ending.reply is not None:
        yield ending.id, "assistant", ending.reply, ending.finish_reason


async def _store_logs(tx: Transaction, endings: Sequence[AttemptEnd]) -> None:
    rows = [
        {"tenant": ending.tenant, "type": ending.log[0], "message": ending.log[1]} for ending in endings if ending.log
    ]
    if rows:
        await tx.run(_LOGS, rows=as_json(rows))


async def _store_errors(tx: Transaction, endings: Sequence[AttemptEnd]) -> None:
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
