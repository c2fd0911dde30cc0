"""Statements composed with SQLAlchemy's Core, as the text with named parameters that `database.py` runs.

Composing costs more than running: it is done once for each fixed statement and for each kind of list.
"""

from typing import Any

from sqlalchemy import BindParameter, ClauseElement, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql.base import PGCompiler, PGDialect

from orchestra.store.turns import KEYS

keys = text(KEYS).columns(tenant=Text, id=Uuid).subquery("k")
"""The refs in the parameter ``refs``, to look something up by."""


class _Compiler(PGCompiler):
    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **how: Any) -> str:
        # A value is written into the statement: as a parameter it would not show which partial index fits.
        return super().visit_bindparam(bindparam, *args, **{**how, "literal_binds": not bindparam.required})


class _Dialect(PGDialect):
    statement_compiler = _Compiler


_DIALECT = _Dialect(paramstyle="named")


def composed(statement: ClauseElement) -> str:
    """The text of a statement. Each ``bindparam`` without a value is a parameter of its name."""
    return str(statement.compile(dialect=_DIALECT))


def parameters(*names: str) -> dict[str, BindParameter[Any]]:
    """The parameters of these names, to be put into the columns of the same names."""
    return {name: bindparam(name) for name in names}
