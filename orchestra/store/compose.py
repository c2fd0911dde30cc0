"""Compile SQLAlchemy Core statements to the text with named parameters that `database.py` runs.

Compiling costs more than running, so it is done once per fixed statement and per kind of list.
"""

from typing import Any

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, Text, Uuid, and_, bindparam, text
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect

from orchestra.store.turns import KEYS

keys = text(KEYS).columns(tenant=Text, id=Uuid).subquery("k")
"""The refs in the parameter ``refs``, as rows to join."""


class _Compiler(PGCompiler):
    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **how: Any) -> str:
        # Values go into the text: the planner cannot match a parameter to a partial index.
        how["literal_binds"] = not bindparam.required
        written: str = super().visit_bindparam(bindparam, *args, **how)  # type: ignore[no-untyped-call]
        return written


class _Dialect(PGDialect):
    statement_compiler = _Compiler


_DIALECT = _Dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def composed(statement: ClauseElement) -> str:
    """The text of a statement. Each ``bindparam`` without a value becomes a parameter of that name."""
    return str(statement.compile(dialect=_DIALECT))


def matches(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
    """The condition that each column equals the parameter of the same name."""
    return and_(*(column == bindparam(column.key) for column in columns))


def parameters(*names: str) -> dict[str, BindParameter[Any]]:
    """Parameters for the columns of the same names."""
    return {name: bindparam(name) for name in names}
