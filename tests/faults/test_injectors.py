"""The bookkeeping of failpoint runs: which worker must die where."""

from collections import Counter

from faults.injectors import FailpointRuns
from orchestra.failpoints import FAILPOINTS, parse


def told(runs: FailpointRuns, worker: str, starts: int) -> list[str]:
    """The failpoint that a worker gets at each of ``starts`` starts."""
    return [point for _ in range(starts) for point in parse(runs.environment(worker).get("FAILPOINTS", ""))]


def test_every_point_is_handed_out_as_often_as_asked_for() -> None:
    """Over all starts of all victims each point comes as often as asked for, and then none does."""
    runs = FailpointRuns(each=3, victims=2)
    points = told(runs, "worker-1", 30) + told(runs, "worker-2", 30)

    assert Counter(dict.fromkeys(FAILPOINTS, 3)) == Counter(points)
    assert {} == runs.environment("worker-1")


def test_workers_that_are_no_victims_live() -> None:
    """A worker that is not a victim gets no failpoint, so that the work goes on."""
    assert {} == FailpointRuns(each=1, victims=2).environment("worker-3")
