"""Lists of requests by any combination of filters, newest first. A page reads a bounded number of rows.

What has few rows by itself is read whole: the open requests, those of a worker or of a conversation, those that are
named. Everything else goes back in time along the index that fits, up to ``pages.MAX_SEARCHED`` requests a page. A page
that is not full by then says how far it went, and the next one goes on from there.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    and_,
    any_,
    bindparam,
    collate,
    func,
    literal,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.sql.util import ClauseAdapter

from orchestra.store import pages
from orchestra.store.compose import composed, matches
from orchestra.store.database import Database, Row
from orchestra.store.pages import PLACES, Found, applied, back_in_time, found, page_rows
from orchestra.store.requests import CONDITIONS, listed, page_of
from orchestra.store.tables import conversations, requests
from orchestra.store.turns import PAGE_BYTES
from schemas.api.requests import ListedRequest, RequestFilter
from schemas.status import Status

MAX_SET = 2000
"""Largest set of requests that a page reads whole. A larger one is searched by age instead."""

Position = tuple[datetime, UUID]
"""A creation time and an id."""

_NEWEST = (requests.c.created_at.desc(), requests.c.id.desc())
_OWNER = ("only", "owner")
# The conditions of each index that has the newest first, the narrowest index first.
_INDEXES = (("status",), ("owner", "task_type"), ("owner", "door"), ("owner",), ("task_type",), ("door",), ("model",))
_BY_OWNER = collate(func.coalesce(requests.c.user_name, ""), "C")
_LAST = chr(0x10FFFF)
_UNANSWERED = (Status.FAILED, Status.CANCELLED, Status.EXPIRED)


class _Part(NamedTuple):
    """Where a list reads: a set of rows by its name, or the conditions of an index."""

    set: str | None
    names: tuple[str, ...]


class Asked(NamedTuple):
    """A list: of which tenant, of one owner or of all, by which filter, and before and after which place."""

    tenant: str
    only: str | None
    filter: RequestFilter
    before: Position | None = None
    after: Position | None = None


async def page(database: Database, asked: Asked, limit: int) -> Found[ListedRequest]:
    """Up to ``limit`` requests, newest first. Long replies make a page shorter, but never empty."""
    sql, values = await page_statement(database, asked)
    rows = await database.run_in_order(sql, **values, limit=limit + 1)
    shown, more = page_rows([row for row in rows if row.matched], limit)
    return found(rows, shown, limit, _listed, more=more)


def _listed(row: Row) -> ListedRequest:
    return ListedRequest.model_validate(dict(row))


async def page_statement(database: Database, asked: Asked) -> tuple[str, dict[str, Any]]:
    """The statement for a page and its parameters, except ``limit``."""
    given = {"only": asked.only, "before": asked.before, "after": asked.after}
    known = [name for name in CONDITIONS if given.get(name, getattr(asked.filter, name, None)) is not None]
    name = _set_of(asked.filter)
    if name and name != "id":
        _, values = applied(CONDITIONS, asked.filter)
        (row,) = await database.run_in_order(_size(name), **values, tenant=asked.tenant, max_set=MAX_SET + 1)
        name = name if row.rows <= MAX_SET else None
    part = _Part(name, ()) if name else _Part(None, _indexed(asked.filter, known))
    within, values = applied({each: CONDITIONS[each] for each in part.names}, asked.filter, **given)
    rest = {each: condition for each, condition in CONDITIONS.items() if each not in part.names}
    others, more = applied(rest, asked.filter, **given)
    limits = {"max_set": MAX_SET} if name else {"max_searched": pages.MAX_SEARCHED}
    statement = _of_set(name, others) if name else _back_in_time(within, others)
    return statement, {"tenant": asked.tenant, "max_bytes": PAGE_BYTES, **limits, **values, **more}


def _set_of(filter: RequestFilter) -> str | None:
    """The set of rows that is read whole, if there are not too many."""
    for name in ("id", "worker", "conversation_id"):
        if getattr(filter, name) is not None:
            return name
    return filter.status.value if filter.status in (Status.PENDING, Status.IN_PROGRESS) else None


def _indexed(filter: RequestFilter, known: Sequence[str]) -> tuple[str, ...]:
    """The conditions that the index with the newest first can decide."""
    usable = {"owner" if name in _OWNER else name for name in known}
    if filter.status not in _UNANSWERED:
        usable.discard("status")
    index = next((index for index in _INDEXES if usable.issuperset(index)), ())
    names = [*index, *(_OWNER if "owner" in index else ()), *PLACES]
    return tuple(name for name in CONDITIONS if name in names and name in known)


def _set(name: str) -> Select[Any]:
    """Up to ``max_set`` rows of a set, in the order of an index, so that no more are read."""
    rows, c = select(*requests.c).limit(bindparam("max_set")), requests.c
    match name:
        case "id":
            return rows.where(matches(c.tenant), c.id == any_(bindparam("id")))
        case "worker":
            return rows.where(c.status == "in_progress", c.worker_id == bindparam("worker")).order_by(c.worker_id)
        case "conversation_id":
            return rows.where(matches(c.tenant, c.conversation_id)).order_by(c.tenant, c.conversation_id, c.seq.desc())
        case Status.IN_PROGRESS:
            return rows.where(c.status == "in_progress").order_by(c.worker_id)
    # The range is that of all owners. It makes the planner take the index that begins with tenant and owner: with
    # statistics from an idle moment it would read another one to its end, and sort.
    every = _BY_OWNER.between("", _LAST)
    heads = rows.where(matches(c.tenant), c.status == "pending", every).order_by(c.tenant, _BY_OWNER)
    behind = rows.where(matches(c.tenant), c.status == "waiting").order_by(c.tenant, c.conversation_id, c.seq)
    both = union_all(select(heads.subquery()), select(behind.subquery())).subquery()
    return select(both).limit(bindparam("max_set"))


@lru_cache
def _size(name: str) -> str:
    return composed(select(func.count().label("rows")).select_from(_set(name).subquery()))


@lru_cache
def _of_set(name: str, others: tuple[ColumnElement[bool], ...]) -> str:
    rows = _set(name).subquery("s")
    r = select(rows, literal(False).label("last")).subquery("r")
    return _page(r, and_(r.c.tenant == bindparam("tenant"), r.c.deleted_at.is_(None), *_of(r, others)))


@lru_cache
def _back_in_time(within: tuple[ColumnElement[bool], ...], others: tuple[ColumnElement[bool], ...]) -> str:
    r = back_in_time(requests, (requests.c.deleted_at.is_(None), *within))
    return _page(r, and_(true(), *_of(r, others)))


def _of(rows: FromClause, conditions: Sequence[ColumnElement[bool]]) -> list[ColumnElement[bool]]:
    adapter = ClauseAdapter(rows)
    return [adapter.traverse(each) for each in conditions]


def _page(r: FromClause, matching: ColumnElement[bool]) -> str:
    """A page of those rows that match and whose conversation is not deleted, and the ``last`` one in any case."""
    of_conversation = and_(conversations.c.tenant == r.c.tenant, conversations.c.id == r.c.conversation_id)
    living = conversations.c.deleted_at.is_(None)
    rows = select(r, and_(matching, living).label("matched")).select_from(r.join(conversations, of_conversation))
    rows = rows.where(or_(matching, r.c.last), or_(living, r.c.last))
    return page_of(rows, lambda n, m: (*listed(n, m), n.c.matched, n.c.last), lambda _: literal(0), r)
