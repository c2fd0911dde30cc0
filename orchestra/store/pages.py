"""Lists with filters and pages: which rows, from which place on, and whether there are more.

Each combination of conditions has its own statement without any other condition, so that each plan uses the index that
fits it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, FromClause, Select, Subquery, Text, bindparam, cast, func, or_, tuple_

from orchestra.store.compose import composed
from orchestra.store.database import Row

Condition = ColumnElement[bool] | Mapping[Any, ColumnElement[bool]]
"""A condition on the parameter of its name, or a mapping from each possible value to a condition."""

_Rows = TypeVar("_Rows", bound=Select[Any])


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
