"""What a PromQL expression reads, and how."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    VectorSelector,
    parse,
)

from deploy.queries import STEP

TARGET = {"instance", "job"}
"""Labels that Prometheus adds to every series."""
OTHERS = {"ALERTS": {"alertname", "alertstate"}, "up": TARGET}
"""Labels of what Prometheus itself makes."""


@dataclass(frozen=True)
class Read:
    """A selector. ``inside``: what is around it, the nearest first; ``grouped``: the labels by which that groups."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    inside: tuple[str, ...]
    grouped: frozenset[str]


def reads(expr: str) -> list[Read]:
    """Every selector of an expression. Raises ``ValueError`` if it is not PromQL."""
    return list(_reads(parse(expr.replace(STEP, "1m")), (), frozenset()))


def _reads(node: Expr, inside: tuple[str, ...], grouped: frozenset[str]) -> Iterator[Read]:
    match node:
        case VectorSelector():
            matchers = tuple(
                (each.name, str(each.op).rpartition(".")[2], each.value) for each in node.matchers.matchers
            )
            yield Read(str(node.name), matchers, inside, grouped)
        case MatrixSelector():
            yield from _reads(node.vector_selector, inside, grouped)
        case AggregateExpr():
            by = frozenset(node.modifier.labels) if node.modifier else frozenset()
            yield from _reads(node.expr, (str(node.op).split()[0].partition("(")[0], *inside), grouped | by)
        case Call():
            for each in node.args:
                yield from _reads(each, (node.func.name, *inside), grouped)
        case BinaryExpr():
            for each in (node.lhs, node.rhs):
                yield from _reads(each, inside, grouped)
        case ParenExpr() | SubqueryExpr():
            yield from _reads(node.expr, inside, grouped)
        case _ if not _is_literal(node):
            raise NotImplementedError(type(node))


def _is_literal(node: Any) -> bool:
    return type(node).__name__ in {"NumberLiteral", "StringLiteral"}
