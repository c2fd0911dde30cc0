"""The result of a campaign for people: a table on the terminal, a Markdown page."""

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from faults.campaign import Outcome, dangers
from faults.injected import Injected
from faults.sometimes import SOMETIMES
from orchestra.devstack.jars import ENDPOINT

_HEAD = ("fault", "asked for", "injected", "requests under it", "violations", "worst recovery")
Row = tuple[str, ...]


def table(outcomes: Sequence[Outcome]) -> str:
    """One row per fault, with aligned columns."""
    rows = [_HEAD, *_rows(outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def problems(outcomes: Sequence[Outcome], *, whole: bool) -> list[str]:
    """Why the campaign failed, one line each. ``whole``: all phases ran, so every danger must have been met."""
    found = [f"{outcome.phase}: {line}" for outcome in outcomes for line in (*outcome.findings.lines(), *outcome.wrong)]
    met = dangers(outcomes)
    return found + [f"never met: {name}" for name in SOMETIMES if whole and not met[name]]


def markdown(outcomes: Sequence[Outcome], *, full: bool, minutes: float, whole: bool) -> str:
    """The report, with what is needed to read its figures."""
    return "\n".join(_page(outcomes, full=full, minutes=minutes, whole=whole)) + "\n"


def _page(outcomes: Sequence[Outcome], *, full: bool, minutes: float, whole: bool) -> Iterator[str]:
    yield f"# Fault campaign, {'full' if full else 'CI'} size, {datetime.now(UTC):%Y-%m-%d}"
    yield ""
    yield f"{minutes:.0f} minutes on {os.cpu_count()} cores. {_versions()}"
    yield ""
    yield from _grid([_HEAD, *_rows(outcomes)])
    yield ""
    yield "A recovery is the time from the fault until what it broke worked again; for each fault this is defined in"
    yield "`faults/injectors.py`. Violations are of the invariants I1 to I12, recomputed from what the run left behind."
    yield ""
    yield "## Load"
    yield ""
    yield from _grid([("phase", "requests", "completed", "failed", "cancelled", "calls", "dead letters", "seconds"),
                      *(_load(outcome) for outcome in outcomes)])  # fmt: skip
    details = [line for outcome in outcomes for each in outcome.injected if each.counts for line in (_kinds(each),)]
    if details:
        yield from ("", "## By kind", "", *details)
    yield from ("", "## Dangers met", "")
    yield from _grid([("danger", "times"), *((name, f"{dangers(outcomes)[name]:.0f}") for name in SOMETIMES)])
    yield from ("", "## Problems", "")
    yield from ([f"- {line.strip()}" for line in problems(outcomes, whole=whole)] or ["None."])


def _rows(outcomes: Sequence[Outcome]) -> list[Row]:
    return [_row(outcome, each) for outcome in outcomes for each in outcome.injected]


def _row(outcome: Outcome, each: Injected) -> Row:
    worst = "-" if each.worst is None else f"{each.worst:.1f} s"
    requests = outcome.findings.figures["requests"]
    return each.what, str(each.asked), str(each.done), str(requests), str(outcome.violations), worst


def _load(outcome: Outcome) -> Row:
    figures = outcome.findings.figures
    names = ("requests", "completed", "failed", "cancelled", "calls", "dead_letters")
    return outcome.phase, *(str(figures[name]) for name in names), f"{outcome.seconds:.0f}"


def _kinds(each: Injected) -> str:
    return f"- {each.what}: " + ", ".join(f"{name} {count}" for name, count in sorted(each.counts.items()))


def _grid(rows: Sequence[Row]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in body:
        yield f"| {' | '.join(row)} |"


def _versions() -> str:
    kafka = ENDPOINT.split("+")[0].rpartition(":")[2]
    libraries = ", ".join(f"{name} {version(name)}" for name in ("faststream", "aiokafka", "sqlalchemy", "asyncpg"))
    return f"Apache Kafka {kafka}, PostgreSQL 18, Python {platform.python_version()}, {libraries}."
