"""Lists with filters and pages: which rows, from which place on, and whether there are more.

Each combination of conditions has its own statement without any other condition, so that each plan uses the index that
fits it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    Text,
    and_,
    bindparam,
    cast,
    func,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.sql.util import ClauseAdapter

from orchestra.store.compose import composed, matches
from orchestra.store.database import Database, Row

MAX_SEARCHED = 4000
"""Maximum number of rows that a search reads for one page, newest first."""
PLACES = ("created_after", "created_before", "before", "after")
"""The conditions on time and place, which each index with the newest first can decide."""

Condition = ColumnElement[bool] | Mapping[Any, ColumnElement[bool]]
"""A condition on the parameter of its name, or a mapping from each possible value to a condition."""

_Rows = TypeVar("_Rows", bound=Select[Any])
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Found(Generic[_Item]):
    """A page: its items, and the place after which the next page begins; None: this is the last page.

    ``searched_to``: creation time of the last row that was looked at, if the search ended before the page was full.
    """

    data: list[_Item]
    next: tuple[datetime, Any] | None
    searched_to: datetime | None = None


@dataclass(frozen=True)
class SearchedList:
    """A list of a tenant's rows by any combination of ``known`` conditions, of which an index decides a part.

    ``indexes``: the conditions of each index that has the newest first, the narrowest index first.
    """

    table: FromClause
    columns: tuple[ColumnElement[Any], ...]
    known: Mapping[str, Condition]
    indexes: Sequence[str]


def conditions(table: FromClause, **more: Condition) -> dict[str, Condition]:
    """The conditions a list supports, by name: these, and those on the time and place of its rows.

    A place is a creation time and an id, in two parameters: ``before`` and ``before_id``, ``after`` and ``after_id``.
    """
    place = tuple_(table.c.created_at, table.c.id)
    return {
        **more,
        "created_after": table.c.created_at >= bindparam("created_after"),
        "created_before": table.c.created_at < bindparam("created_before"),
        "before": place < tuple_(bindparam("before"), bindparam("before_id")),
        "after": place > tuple_(bindparam("after"), bindparam("after_id")),
    }


def applied(
    known: Mapping[str, Condition], filter: object = None, **more: Any
) -> tuple[tuple[ColumnElement[bool], ...], dict[str, Any]]:
    """The conditions set in a filter or in ``more``, and the values of their parameters. A value of None is not set."""
    where: list[ColumnElement[bool]] = []
    values: dict[str, Any] = {}
    for name, condition in known.items():
        value = more.get(name, getattr(filter, name, None))
        if value is None:
            continue
        if isinstance(condition, Mapping):
            where.append(condition[value])
            continue
        where.append(condition)
        values |= {name: value[0], f"{name}_id": value[1]} if isinstance(value, tuple) else {name: value}
    return tuple(where), values


def newest(rows: _Rows, table: FromClause) -> _Rows:
    """Rows of a table, newest first, up to the parameter ``limit``."""
    return rows.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(bindparam("limit"))


@lru_cache
def newest_page(rows: Select[Any], table: FromClause, where: tuple[ColumnElement[bool], ...]) -> str:
    """The statement for one page of these rows, newest first."""
    return composed(newest(rows.where(*where), table))


async def search(
    database: Database,
    of: SearchedList,
    item: Callable[[Row], _Item],
    limit: int,
    filter: object,
    *,
    tenant: str,
    **more: Any,
) -> Found[_Item]:
    """Up to ``limit`` rows, newest first, among the next ``MAX_SEARCHED`` of the index that fits.

    ``filter`` and ``more``: as of ``applied``.
    """
    given = {name: more.get(name, getattr(filter, name, None)) for name in of.known}
    index = next((name for name in of.indexes if given[name] is not None), None)
    within, values = applied({name: of.known[name] for name in PLACES}, filter, **more)
    names = of.known.keys() - {index, *PLACES}
    others, rest = applied({name: of.known[name] for name in sorted(names)}, filter, **more)
    rows = await database.run_in_order(
        _search(of.table, of.columns, within, others, index),
        **values, **rest, **({index: given[index]} if index else {}),
        tenant=tenant, limit=limit + 1, max_searched=MAX_SEARCHED,
    )  # fmt: skip
    matching = [row for row in rows if row.matched]
    return found(rows, matching[:limit], limit, item, more=len(matching) > limit)


@lru_cache
def _search(
    table: FromClause,
    columns: tuple[ColumnElement[Any], ...],
    within: tuple[ColumnElement[bool], ...],
    others: tuple[ColumnElement[bool], ...],
    index: str | None,
) -> str:
    r = back_in_time(table, within, index)
    adapter = ClauseAdapter(r)
    matching = and_(true(), *map(adapter.traverse, others))
    shown = (*map(adapter.traverse, columns), matching.label("matched"), r.c.last)
    page = select(*shown).where(or_(matching, r.c.last))
    return composed(page.order_by(*_order(r, index)).limit(bindparam("limit")))


def back_in_time(table: FromClause, within: Sequence[ColumnElement[bool]], index: str | None = None) -> Subquery:
    """The newest rows of a tenant ``within`` these conditions, up to the parameter ``max_searched``.

    The column ``last`` is true for the row that reaches that limit. ``index``: the column between tenant and time in
    the index to read. It is compared as a range, not as an equality, so that it stays in the ORDER BY. Only this index
    has that order. Otherwise the planner could read another one, past all rows with other values.
    """
    ranges = [table.c[index].between(bindparam(index), bindparam(index))] if index else []
    order = _order(table, index)
    last = func.row_number().over(order_by=order) == bindparam("max_searched")
    rows = select(*table.c, last.label("last")).where(matches(table.c.tenant), *within, *ranges)
    return rows.order_by(*order).limit(bindparam("max_searched")).subquery("r")


def _order(table: FromClause, index: str | None) -> Sequence[ColumnElement[Any]]:
    return (*([table.c[index]] if index else []), table.c.created_at.desc(), table.c.id.desc())


def found(
    rows: Sequence[Row], shown: Sequence[Row], limit: int, item: Callable[[Row], _Item], *, more: bool
) -> Found[_Item]:
    """The page with these rows, among those of a search. ``more``: other rows that match follow."""
    data, last = [item(row) for row in shown], bool(rows) and rows[-1].last
    if last and len([row for row in rows if row.matched]) < limit:
        return Found(data, (rows[-1].created_at, rows[-1].id), rows[-1].created_at)
    return Found(data, (shown[-1].created_at, shown[-1].id) if more or last else None)


def size_of_json(column: ColumnElement[Any]) -> ColumnElement[int]:
    """The bytes of a JSON value as text; 0 for null."""
    return func.coalesce(func.octet_length(cast(column, Text)), 0)


def measured(rows: Select[Any], size: ColumnElement[int], *order: ColumnElement[Any]) -> Subquery:
    """These rows with the number ``found``, the ``place`` of each, and the running total of bytes, ``so_far``."""
    return rows.add_columns(
        func.count().over().label("found"),
        func.row_number().over(order_by=order).label("place"),
        func.sum(size).over(order_by=order).label("so_far"),
    ).subquery("p")


def within_page(page: Subquery) -> ColumnElement[bool]:
    """The condition for the measured rows that a page shows: the first, and those within parameter ``max_bytes``."""
    return or_(page.c.place == 1, page.c.so_far <= bindparam("max_bytes"))


def page_rows(rows: Sequence[Row], limit: int) -> tuple[Sequence[Row], bool]:
    """The first ``limit`` rows, and whether there are more. The query must have asked for ``limit`` + 1."""
    return rows[:limit], bool(rows) and rows[0].found > min(len(rows), limit)
