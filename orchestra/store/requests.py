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
from orchestra.store.pages import applied, conditions, measured, newest, page_rows, within_page
from orchestra.store.tables import conversations, messages, requests
from orchestra.store.turns import PAGE_BYTES, ConversationRef, RequestRef, refs_json
from schemas.api.requests import RequestFilter, RequestResource
from schemas.status import Status

CONDITIONS = conditions(
    requests,
    only=requests.c.user_name == bindparam("only"),
    # Word for word as the indexes of open and of unanswered requests have it.
    status={status: requests.c.status == status for status in Status}
    | {Status.PENDING: or_(requests.c.status == "pending", requests.c.status == "waiting")},
    model=matches(requests.c.model),
    conversation_id=matches(requests.c.conversation_id),
    task_type=matches(requests.c.task_type),
)


_OF_CONVERSATION = and_(conversations.c.tenant == requests.c.tenant, conversations.c.id == requests.c.conversation_id)


def visible(*columns: ColumnElement[Any]) -> Select[Any]:
    """Columns of a tenant's requests that are not deleted, neither by themselves nor with their conversation."""
    rows = requests.join(conversations, and_(_OF_CONVERSATION, conversations.c.deleted_at.is_(None)))
    return select(*columns).select_from(rows).where(matches(requests.c.tenant), requests.c.deleted_at.is_(None))


def answer_of(r: FromClause, m: FromClause) -> ColumnElement[bool]:
    """Whether a message (m) is the answer to a request (r)."""
    return and_(m.c.tenant == r.c.tenant, m.c.request_id == r.c.id, m.c.role == "assistant")


def shared_columns(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    """The columns that requests and tasks have in common, of a request (r) and its answer (m)."""
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
        case((unanswered, _error(r))).label("last_error"),
        func.jsonb_extract_path(r.c.body, "metadata").label("metadata"),
    )


def _error(r: FromClause) -> ColumnElement[Any]:
    return func.json_build_object("code", r.c.error_code, "detail", r.c.error_detail)


def _resource(r: FromClause, m: FromClause) -> Sequence[ColumnElement[Any]]:
    error = case((r.c.status == "failed", _error(r))).label("error")
    return (*shared_columns(r, m), r.c.finished_at, m.c.content.label("reply"), error)


_BY_KEY = keys.join(requests, and_(requests.c.tenant == keys.c.tenant, requests.c.id == keys.c.id))
_WITH_CONVERSATION = _BY_KEY.join(conversations, _OF_CONVERSATION)
_M = messages.alias("m")

_FIND = composed(
    select(*_resource(requests, _M), requests.c.tenant, requests.c.body_hash, requests.c.user_name.label("owner"))
    .select_from(_WITH_CONVERSATION.outerjoin(_M, answer_of(requests, _M)))
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

# A turn's age counts from when it could have run; what waits for a model that is held back says nothing of the queue.
# One look into the index for each priority.
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

# seq counts turns, so that the distance to the head bounds what is open without counting it.
_FULL = """
SELECT h.tenant, h.conversation_id, coalesce(c.owner, c.user_id::text) AS owner FROM requests h
JOIN conversations c ON c.tenant = h.tenant AND c.id = h.conversation_id
WHERE h.status IN ('pending', 'in_progress') AND c.next_seq - h.seq > :most
    AND (SELECT count(*) FROM requests w
         WHERE w.tenant = h.tenant AND w.conversation_id = h.conversation_id AND w.status = 'waiting') >= :most
"""


_ESTIMATED_OPEN = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0) AS estimate FROM pg_class
WHERE oid IN (to_regclass('requests_one_head'), to_regclass('requests_waiting'))
"""


@dataclass(frozen=True)
class StoredRequest:
    """A request's row. ``body_hash`` tells whether it is the one that was asked for, ``owner`` whose it is."""

    resource: RequestResource
    body_hash: str
    owner: str | None = None


async def find(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, StoredRequest]:
    """The requests that have a row; deleted ones have none."""
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
    """Up to ``limit`` requests older than ``before`` (creation time and id), newest first; True when there are more.

    ``only``: the owner whose requests there are, and no others; None: everybody's. Long replies make a page shorter,
    but never empty.
    """
    sql, values = page_statement(tenant, only, filter, before)
    rows, more = page_rows(await database.run(sql, **values, limit=limit + 1), limit)
    return [RequestResource.model_validate(dict(row)) for row in rows], more


def page_statement(
    tenant: str, only: str | None, filter: RequestFilter, before: tuple[datetime, UUID] | None
) -> tuple[str, dict[str, Any]]:
    """The statement of a page and its parameters, without ``limit``."""
    where, values = applied(CONDITIONS, filter, only=only, before=before)
    return _page(where), {"tenant": tenant, "max_bytes": PAGE_BYTES, **values}


@lru_cache
def _page(where: tuple[ColumnElement[bool], ...]) -> str:
    return page_of(visible(*requests.c).where(*where), _resource, lambda _: literal(0))


Resource = Callable[[FromClause, FromClause], Sequence[ColumnElement[Any]]]
"""What is shown of a request and its answer."""


def page_of(rows: Select[Any], resource: Resource, size: Callable[[FromClause], ColumnElement[int]]) -> str:
    """The statement of a page of these requests, newest first. ``size``: the bytes of one without its answer."""
    n = newest(rows, requests).subquery("n")
    a, m = messages.alias("a"), messages.alias("m")
    bytes = size(n) + func.coalesce(func.octet_length(a.c.content), 0)
    p = measured(select(n).outerjoin(a, answer_of(n, a)), bytes, n.c.created_at.desc(), n.c.id.desc())
    page = select(*resource(p, m), p.c.found).select_from(p).outerjoin(m, answer_of(p, m))
    return composed(page.where(within_page(p)).order_by(p.c.created_at.desc(), p.c.id.desc()))


async def body_hashes(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, str]:
    """The hashes of the bodies under these ids; of those that are deleted too."""
    rows = await database.run(_HASHES, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): row.body_hash for row in rows}


async def is_owned(database: Database, ref: RequestRef) -> bool:
    """True for a request of somebody's that has a row, deleted or not."""
    return bool(await database.run(_OWNED, tenant=ref[0], id=ref[1]))


async def deleted_among(database: Database, refs: Collection[RequestRef]) -> set[RequestRef]:
    """Those of these requests that are deleted, by themselves or with their conversation."""
    if not refs:
        return set()
    return {RequestRef(row.tenant, row.id) for row in await database.run(_DELETED, refs=refs_json(refs))}


async def oldest_runnable_age(database: Database) -> float:
    """Seconds that the oldest runnable turn has been waiting for a worker."""
    return float((await database.run(_OLDEST_RUNNABLE))[0].age)


async def full_conversations(database: Database, most: int) -> dict[ConversationRef, str | None]:
    """Conversations with more than ``most`` open turns, and whose they are."""
    return {ConversationRef(row.tenant, row.conversation_id): row.owner for row in await database.run(_FULL, most=most)}


def _stored(row: Any) -> StoredRequest:
    fields = dict(row)
    body_hash, owner = fields.pop("body_hash"), fields.pop("owner")
    fields.pop("tenant")
    return StoredRequest(RequestResource.model_validate(fields), body_hash, owner)


async def estimated_open(database: Database) -> int:
    """About how many requests are open, from the statistics of their indexes: counting millions would be dear."""
    rows = await database.run(_ESTIMATED_OPEN)
    return int(rows[0].estimate)
