"""What the benchmark of the console promises: rows are counted as they are read, and no filter is left out."""

from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from benchmarks.console.call import Call
from benchmarks.console.command import Timed
from benchmarks.console.pages import filtered
from benchmarks.console.rows import rows_read
from schemas.api.audit import AuditFilter
from schemas.api.dead_letters import DeadLetterQuery
from schemas.api.requests import RequestFilter


def scan(rows: float, loops: int = 1, **more: Any) -> dict[str, Any]:
    """A node that reads a table."""
    return {"Relation Name": "requests", "Actual Rows": rows, "Actual Loops": loops, **more}


def test_rows_that_are_left_out_count_too() -> None:
    """Rows that a filter removes were read, in every loop; rows that pass a join or a sort were not read again."""
    plan = {"Actual Rows": 1, "Actual Loops": 1, "Plans": [scan(5, **{"Rows Removed by Filter": 95}), scan(1, 5)]}

    assert 105 == rows_read(plan)


def test_a_ratio_is_of_the_medians() -> None:
    """A call is compared with its SQL, as it is or beyond a time; one without SQL has no ratio."""
    timed = Timed(Call("", "/"), 1, [4.0, 5.0, 90.0], [1.0, 2.0, 30.0], 0)

    assert (2.5, 2.0) == (timed.ratio, timed.beyond(1))
    assert 0 == Timed(Call("", "/"), 0, [4.0], [0.0], 0).ratio


@pytest.mark.parametrize(
    ("path", "known"),
    [("/v1/requests", RequestFilter), ("/v1/dead-letters", DeadLetterQuery), ("/v1/audit", AuditFilter)],
    ids=["requests", "dead letters", "audit"],
)
def test_every_pair_of_filters_is_measured(path: str, known: Any) -> None:
    """Each filter of a list is combined with each other one; `id` alone has a limit of its own."""
    pairs = Counter(pair for call in filtered(0) if call.path == path for pair in combinations(sorted(call.query), 2))
    names = set(known.model_fields) - {"id", "limit"}

    assert set(combinations(sorted(names), 2)) <= pairs.keys()
