"""Requests as a gateway reads them: state and answer, by id."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, FromClause, Select, and_, bindparam, case, func, literal, or_, select

from orchestra.store.claims import HELD_BACK
from orchestra.store.compose import composed, keys, matches
from orchestra.store.database import Database
from orchestra.store.pages import applied, conditions, measured, newest, page_rows, size_of_json, within_page
from orchestra.store.tables import conversations, messages, requests
from orchestra.store.turns import PAGE_BYTES, ConversationRef, RequestRef, refs_json
from schemas.api.requests import RequestFilter, RequestResource
from schemas.status import Status

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


def _resource(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    error = case((r.c.status == "failed", _error(r))).label("error")
    return (*shared_columns(r, m), r.c.finished_at, m.c.content.label("reply"), error, r.c.door)


_BY_KEY = keys.join(requests, and_(requests.c.tenant == keys.c.tenant, requests.c.id == keys.c.id))
_WITH_CONVERSATION = _BY_KEY.join(conversations, _OF_CONVERSATION)
_M = messages.alias("m")

_FIND = composed(
    select(*_resource(requests, _M), requests.c.tenant, requests.c.body_hash, requests.c.user_name.label("owner"))
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

# A turn's age counts from when it could first run. Turns that wait for a model that is held back say nothing about the
# queue. One index lookup per priority.
_OLDEST_RUNNABLE = f"""
SELECT coalesce(max(extract(epoch FROM now() - oldest.run_at)), 0) AS age
FROM generate_series(0, 9) AS p(priority)
CROSS JOIN LATERAL (
    SELECT run_at FROM requests
    WHERE status = 'pending' AND priority = p.priority AND run_at <= now()
        AND (error_code IS NULL OR error_code NOT IN ({", ".join(f"'{code}'" for code in sorted(HELD_BACK))}))
    ORDER BY run_at LIMIT 1
) AS oldest
"""

# seq numbers the turns, so the distance to the head is an upper bound of the open turns that needs no count.
_FULL = """
SELECT h.tenant, h.conversation_id, coalesce(c.owner, c.user_id::text) AS owner FROM requests h
JOIN conversations c ON c.tenant = h.tenant AND c.id = h.conversation_id
WHERE h.status IN ('pending', 'in_progress') AND c.next_seq - h.seq > :max_open
    AND (SELECT count(*) FROM requests w
         WHERE w.tenant = h.tenant AND w.conversation_id = h.conversation_id AND w.status = 'waiting') >= :max_open
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


async def page(
    database: Database,
    tenant: str,
    only: str | None,
    filter: RequestFilter,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> tuple[list[RequestResource], bool]:
    """Up to ``limit`` requests, newest first; also True if there are more.

    ``only``: restrict the result to this owner's requests. None: those of every owner.
    ``before``: older than this creation time and id.
    Long replies make a page shorter, but never empty.
    """
    sql, values = page_statement(tenant, only, filter, before)
    rows, more = page_rows(await database.run(sql, **values, limit=limit + 1), limit)
    return [RequestResource.model_validate(dict(row)) for row in rows], more


def page_statement(
    tenant: str, only: str | None, filter: RequestFilter, before: tuple[datetime, UUID] | None
) -> tuple[str, dict[str, Any]]:
    """The statement for a page and its parameters, except ``limit``."""
    where, values = applied(CONDITIONS, filter, only=only, before=before)
    return _page(where), {"tenant": tenant, "max_bytes": PAGE_BYTES, **values}


@lru_cache
def _page(where: tuple[ColumnElement[bool], ...]) -> str:
    return page_of(visible(*requests.c).where(*where), _resource, lambda _: literal(0))


Resource = Callable[[FromClause, FromClause], Sequence[ColumnElement[Any]]]
"""The columns to show of a request and its answer."""


def page_of(rows: Select[Any], resource: Resource, size: Callable[[FromClause], ColumnElement[int]]) -> str:
    """The statement for a page of these requests, newest first. ``size``: bytes of a request without its answer."""
    n = newest(rows, requests).subquery("n")
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
    """How many seconds the oldest runnable turn has waited for a worker."""
    return float((await database.run(_OLDEST_RUNNABLE))[0].age)


async def full_conversations(database: Database, max_open: int) -> dict[ConversationRef, str | None]:
    """Conversations with more than ``max_open`` open turns, and their owners."""
    rows = await database.run(_FULL, max_open=max_open)
    return {ConversationRef(row.tenant, row.conversation_id): row.owner for row in rows}


def _stored(row: Any) -> StoredRequest:
    fields = dict(row)
    body_hash, owner = fields.pop("body_hash"), fields.pop("owner")
    fields.pop("tenant")
    return StoredRequest(RequestResource.model_validate(fields), body_hash, owner)


async def estimated_open(database: Database) -> int:
    """About how many requests are open, from index statistics: counting millions would be expensive."""
    rows = await database.run(_ESTIMATED_OPEN)
    return int(rows[0].estimate)
