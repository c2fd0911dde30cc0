"""Requests as a gateway reads them: state and answer, by id."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
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
    func,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from orchestra.store.compose import composed, keys, matches
from orchestra.store.database import Database
from orchestra.store.pages import conditions, measured, newest, size_of_json, within_page
from orchestra.store.pauses import COULD_RUN
from orchestra.store.queue import MAX_OF_PRIORITY
from orchestra.store.tables import attempt_errors, conversations, messages, requests
from orchestra.store.turns import ConversationRef, RequestRef, refs_json
from schemas.api.requests import MAX_ERRORS, RequestDetail, RequestResource
from schemas.requests import Message
from schemas.status import Status

_YEAR_9999_MS = 253_370_764_800_000
CONDITIONS = conditions(
    requests,
    only=requests.c.user_name == bindparam("only"),
    # Exactly the predicates of the partial indexes of open and of unanswered requests.
    status={status: requests.c.status == status for status in Status}
    | {Status.PENDING: or_(requests.c.status == "pending", requests.c.status == "waiting")},
    model=matches(requests.c.model),
    conversation_id=matches(requests.c.conversation_id),
    task_type=matches(requests.c.task_type),
    door=matches(requests.c.door),
    owner=requests.c.user_name == bindparam("owner"),
    error_code=matches(requests.c.error_code),
    worker=and_(requests.c.status == "in_progress", requests.c.worker_id == bindparam("worker")),
    priority=matches(requests.c.priority),
    attempts_min=requests.c.fence >= bindparam("attempts_min"),
    # An ended request that had no attempt waited until its end.
    waited_min=func.coalesce(requests.c.started_at, requests.c.finished_at, func.now())
    - func.greatest(requests.c.created_at, requests.c.not_before)
    >= func.make_interval(0, 0, 0, 0, 0, 0, bindparam("waited_min")),
    id=requests.c.id == any_(bindparam("id")),
)


_OF_CONVERSATION = and_(conversations.c.tenant == requests.c.tenant, conversations.c.id == requests.c.conversation_id)


def visible(*columns: ColumnElement[Any]) -> Select[Any]:
    """Select columns of a tenant's requests, except those that are deleted or whose conversation is."""
    rows = requests.join(conversations, and_(_OF_CONVERSATION, conversations.c.deleted_at.is_(None)))
    return select(*columns).select_from(rows).where(matches(requests.c.tenant), requests.c.deleted_at.is_(None))


def answer_of(r: FromClause, m: FromClause) -> ColumnElement[bool]:
    """The condition that a message (m) is the answer to a request (r)."""
    return and_(m.c.tenant == r.c.tenant, m.c.request_id == r.c.id, m.c.role == "assistant")


def shared_columns(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    """The columns that requests and tasks share, from a request (r) and its answer (m)."""
    unanswered = and_(r.c.error_code.is_not(None), r.c.status.in_(("waiting", "pending", "in_progress", "expired")))
    return (
        r.c.id,
        case((r.c.status == "waiting", "pending"), else_=r.c.status).label("status"),
        r.c.conversation_id,
        r.c.model,
        r.c.task_type,
        r.c.created_at,
        r.c.started_at,
        r.c.fence.label("attempts"),
        r.c.usage,
        r.c.cancel_requested_at.is_not(None).label("cancel_requested"),
        r.c.retry_of,
        m.c.finish_reason,
        m.c.output,
        case((unanswered, _error(r))).label("last_error"),
        func.jsonb_extract_path(r.c.body, "metadata").label("metadata"),
    )


def _error(r: FromClause) -> ColumnElement[Any]:
    return func.json_build_object("code", r.c.error_code, "detail", r.c.error_detail)


def resource(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    """The columns of a request (r) and its answer (m) that every look at it shows."""
    error = case((r.c.status == "failed", _error(r))).label("error")
    return (*shared_columns(r, m), r.c.finished_at, m.c.content.label("reply"), error, r.c.door)


def listed(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    """The columns of a request (r) and its answer (m) that a list shows."""
    return (*resource(r, m), r.c.user_name.label("owner"), r.c.priority)


_BY_KEY = keys.join(requests, and_(requests.c.tenant == keys.c.tenant, requests.c.id == keys.c.id))
_WITH_CONVERSATION = _BY_KEY.join(conversations, _OF_CONVERSATION)
_M = messages.alias("m")

_FIND = composed(
    select(*resource(requests, _M), requests.c.tenant, requests.c.body_hash, requests.c.user_name.label("owner"))
    .select_from(_WITH_CONVERSATION.outerjoin(_M, answer_of(requests, _M)))
    .where(requests.c.deleted_at.is_(None), conversations.c.deleted_at.is_(None))
)


def _errors() -> ColumnElement[Any]:
    """The newest errors of a request's attempts, oldest first."""
    e = (
        select(attempt_errors)
        .where(attempt_errors.c.tenant == requests.c.tenant, attempt_errors.c.request_id == requests.c.id)
        .order_by(attempt_errors.c.attempt.desc())
        .limit(MAX_ERRORS)
        .correlate(requests)
        .subquery("e")
    )
    error = func.json_build_object("attempt", e.c.attempt, "code", e.c.code, "detail", e.c.detail, "at", e.c.created_at)
    found = func.coalesce(func.json_agg(aggregate_order_by(error, e.c.attempt)), literal_column("'[]'"))
    return select(found).select_from(e).correlate(requests).scalar_subquery()


_RECORD = func.json_build_object(
    "topic", requests.c.src_topic, "partition", requests.c.src_partition, "offset", requests.c.src_offset
)
# A topic that keeps its producers' timestamps may have any number.
_ACCEPTED_AT = case(
    (requests.c.src_timestamp.between(1, _YEAR_9999_MS), func.to_timestamp(requests.c.src_timestamp / 1000.0))
)
_FIND_DETAIL = composed(
    select(
        *listed(requests, _M),
        requests.c.tenant,
        requests.c.body_hash,
        _ACCEPTED_AT.label("accepted_at"),
        requests.c.not_before,
        requests.c.deadline_at.label("deadline"),
        case((requests.c.status != "waiting", requests.c.run_at)).label("runnable_at"),
        requests.c.tries,
        requests.c.max_tries,
        _errors().label("errors"),
        func.jsonb_extract_path(requests.c.body, "messages").label("messages"),
        _RECORD.label("record"),
        func.nullif(func.split_part(requests.c.traceparent, "-", 2), "").label("trace_id"),
        func.jsonb_extract_path(requests.c.usage, "cost").label("cost"),
        requests.c.worker_id.label("worker"),
    )
    .select_from(_WITH_CONVERSATION.outerjoin(_M, answer_of(requests, _M)))
    .where(requests.c.deleted_at.is_(None), conversations.c.deleted_at.is_(None))
)

_KNOWN = composed(
    select(
        requests.c.tenant,
        requests.c.id,
        requests.c.body_hash,
        case((requests.c.status == "waiting", "pending"), else_=requests.c.status).label("status"),
        requests.c.user_name.label("owner"),
    )
    .select_from(_WITH_CONVERSATION)
    .where(requests.c.deleted_at.is_(None), conversations.c.deleted_at.is_(None))
)

_HASHES = composed(select(requests.c.tenant, requests.c.id, requests.c.body_hash).select_from(_BY_KEY))

_OWNED = composed(
    select(requests.c.id).where(matches(requests.c.tenant, requests.c.id), requests.c.user_name.is_not(None))
)

_DELETED = composed(
    select(requests.c.tenant, requests.c.id)
    .select_from(_WITH_CONVERSATION)
    .where(or_(requests.c.deleted_at.is_not(None), conversations.c.deleted_at.is_not(None)))
)

_FROM_RECORDS = """
SELECT src_offset, id FROM requests
WHERE src_topic = :topic AND src_partition = :partition AND src_offset = ANY(:offsets) AND tenant = :tenant
    AND deleted_at IS NULL
"""

_MARKS = composed(
    select(
        requests.c.tenant,
        requests.c.id,
        requests.c.status,
        requests.c.fence,
        requests.c.cancel_requested_at.is_not(None).label("cancelling"),
        requests.c.user_name.label("owner"),
    ).select_from(_BY_KEY)
)

# A turn's age counts from when it could first run. Turns that wait for a model that is held back, or are paused, say
# nothing about the queue. Of each priority only the first ones are read. If none of them counts, there may be others
# behind them: those are counted by a worker.
_FIRST = """
SELECT tenant, model, run_at, deadline_at, error_code FROM requests
WHERE status = 'pending' AND priority BETWEEN p.priority AND p.priority AND run_at <= now()
ORDER BY priority DESC, run_at
"""
_OLDEST_RUNNABLE = f"""
WITH looked AS (
    SELECT p.priority, (
        SELECT run_at FROM ({_FIRST} LIMIT :limit) AS r WHERE {COULD_RUN} ORDER BY run_at LIMIT 1
    ) AS since
    FROM generate_series(0, 9) AS p(priority)
), behind AS (
    SELECT min(runnable_since) AS since FROM owner_totals WHERE whole AND EXISTS (
        SELECT FROM looked p WHERE p.since IS NULL AND EXISTS ({_FIRST} LIMIT 1 OFFSET :limit - 1)
    )
)
SELECT coalesce(extract(epoch FROM now() - least(min(l.since), min(b.since))), 0) AS age FROM looked l, behind b
"""

# Only the index of waiting turns is read, and of conversations only those that are found.
_FULL = """
SELECT w.tenant, w.conversation_id, c.owner
FROM (
    SELECT tenant, conversation_id FROM requests WHERE status = 'waiting'
    GROUP BY tenant, conversation_id HAVING count(*) >= :max_open
) AS w CROSS JOIN LATERAL (
    SELECT coalesce(c.owner, c.user_id::text) AS owner FROM conversations c
    WHERE c.tenant = w.tenant AND c.id = w.conversation_id
    OFFSET 0 -- One look into the index for each.
) AS c
"""

_ESTIMATED_OPEN = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0) AS estimate FROM pg_class
WHERE oid IN (to_regclass('requests_one_head'), to_regclass('requests_waiting'))
"""


@dataclass(frozen=True)
class StoredRequest:
    """A request's row. ``body_hash`` shows whether a repeated id has the same body."""

    resource: RequestResource
    body_hash: str
    owner: str | None = None


@dataclass(frozen=True)
class KnownRequest:
    """What a repeat must know of a request's row."""

    body_hash: str
    status: Status
    owner: str | None


@dataclass(frozen=True)
class Mark:
    """What changes when a request moves on. ``attempt``: the number of its attempt."""

    status: str
    attempt: int
    cancelling: bool
    owner: str | None


async def marks(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, Mark]:
    """The marks of those of these requests that have a row."""
    rows = await database.run(_MARKS, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): Mark(row.status, row.fence, row.cancelling, row.owner) for row in rows}


async def from_records(
    database: Database, tenant: str, topic: str, partition: int, offsets: Collection[int]
) -> dict[int, UUID]:
    """The requests of a tenant that were made from these records, by offset."""
    rows = (
        await database.run(_FROM_RECORDS, tenant=tenant, topic=topic, partition=partition, offsets=list(offsets))
        if offsets
        else ()
    )
    return {row.src_offset: row.id for row in rows}


async def known(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, KnownRequest]:
    """The stored requests among these without their answers, however many; deleted ones are left out."""
    rows = await database.run(_KNOWN, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): KnownRequest(row.body_hash, Status(row.status), row.owner) for row in rows}


async def find(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, StoredRequest]:
    """The stored requests among these; deleted ones are left out."""
    if not refs:
        return {}
    rows = await database.run(_FIND, refs=refs_json(refs))
    return {RequestRef(row.tenant, row.id): _stored(row) for row in rows}


async def find_detail(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, StoredRequest]:
    """As ``find``, with all that is known of each request: each resource is a ``RequestDetail``."""
    if not refs:
        return {}
    rows = await database.run(_FIND_DETAIL, refs=refs_json(refs))
    return {RequestRef(row.tenant, row.id): _detailed(row) for row in rows}


Resource = Callable[[FromClause, FromClause], Sequence[ColumnElement[Any]]]
"""The columns to show of a request and its answer."""


def page_of(
    rows: Select[Any], resource: Resource, size: Callable[[FromClause], ColumnElement[int]], r: FromClause = requests
) -> str:
    """The statement for a page of these rows of ``r``, newest first. ``size``: bytes of one without its answer."""
    n = newest(rows, r).subquery("n")
    a, m = messages.alias("a"), messages.alias("m")
    bytes = size(n) + func.coalesce(func.octet_length(a.c.content), 0) + size_of_json(a.c.output)
    p = measured(select(n).outerjoin(a, answer_of(n, a)), bytes, n.c.created_at.desc(), n.c.id.desc())
    page = select(*resource(p, m), p.c.found).select_from(p).outerjoin(m, answer_of(p, m))
    return composed(page.where(within_page(p)).order_by(p.c.created_at.desc(), p.c.id.desc()))


async def body_hashes(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, str]:
    """The hashes of the bodies stored under these ids, including deleted requests."""
    rows = await database.run(_HASHES, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): row.body_hash for row in rows}


async def is_owned(database: Database, ref: RequestRef) -> bool:
    """Whether the request has a row with an owner, deleted or not."""
    return bool(await database.run(_OWNED, tenant=ref[0], id=ref[1]))


async def deleted_among(database: Database, refs: Collection[RequestRef]) -> set[RequestRef]:
    """The requests among these that are deleted, or whose conversation is."""
    if not refs:
        return set()
    return {RequestRef(row.tenant, row.id) for row in await database.run(_DELETED, refs=refs_json(refs))}


async def oldest_runnable_age(database: Database) -> float:
    """How many seconds the oldest turn has waited that a worker could take now; 0: there is none.

    If the first ``MAX_OF_PRIORITY`` turns of a priority wait for something else, it is as of the last count of totals.
    """
    return float((await database.run(_OLDEST_RUNNABLE, limit=MAX_OF_PRIORITY))[0].age)


async def full_conversations(database: Database, max_open: int) -> dict[ConversationRef, str | None]:
    """Conversations with more than ``max_open`` open turns, and their owners."""
    rows = await database.run(_FULL, max_open=max_open)
    return {ConversationRef(row.tenant, row.conversation_id): row.owner for row in rows}


def _stored(row: Any) -> StoredRequest:
    return StoredRequest(RequestResource.model_validate(dict(row)), row.body_hash, row.owner)


def _detailed(row: Any) -> StoredRequest:
    fields = dict(row)
    if row.messages is not None:  # They were valid when they were taken in.
        fields["messages"] = [Message.model_construct(**each) for each in row.messages]
    return StoredRequest(RequestDetail.model_validate(fields), row.body_hash, row.owner)


async def estimated_open(database: Database) -> int:
    """About how many requests are open, from index statistics: counting millions would be expensive."""
    rows = await database.run(_ESTIMATED_OPEN)
    return int(rows[0].estimate)
