"""Statements composed with SQLAlchemy's Core, as the text with named parameters that `database.py` runs.

Composing costs more than running: it is done once for each fixed statement and for each kind of list.
"""

from typing import Any

from sqlalchemy import BindParameter, ClauseElement, ColumnElement, Text, Uuid, and_, bindparam, text
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect

from orchestra.store.turns import KEYS

keys = text(KEYS).columns(tenant=Text, id=Uuid).subquery("k")
"""The refs in the parameter ``refs``, to look something up by."""


class _Compiler(PGCompiler):
    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **how: Any) -> str:
        # A value is written into the statement: as a parameter it would not show which partial index fits.
        how["literal_binds"] = not bindparam.required
        written: str = super().visit_bindparam(bindparam, *args, **how)  # type: ignore[no-untyped-call]
        return written


class _Dialect(PGDialect):
    statement_compiler = _Compiler


_DIALECT = _Dialect(paramstyle="named")  # type: ignore[no-untyped-call]


def composed(statement: ClauseElement) -> str:
    """The text of a statement. Each ``bindparam`` without a value is a parameter of its name."""
    return str(statement.compile(dialect=_DIALECT))


def matches(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
    """Each of these columns has the value of the parameter of its name."""
    return and_(*(column == bindparam(column.key) for column in columns))


def parameters(*names: str) -> dict[str, BindParameter[Any]]:
    """The parameters of these names, to be put into the columns of the same names."""
    return {name: bindparam(name) for name in names}
