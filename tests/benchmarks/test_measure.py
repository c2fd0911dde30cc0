"""What a measurement promises: real parts, every reply checked against its question, figures per request."""

from collections.abc import AsyncIterator

import pytest

from benchmarks.bench import Bench, open_bench
from benchmarks.cells import Cell, Kind
from benchmarks.measure import Timing, measure, used
from benchmarks.meters import PARTS, Reading

# Few calls fit into such a short measurement on a slow machine.
_WRONG_EVERY = 3


def reading(cpu: float, busy: float, total: float, records: int, commits: int) -> Reading:
    seconds = dict.fromkeys([*PARTS, "load", "model", "meters"], 0.0)
    return Reading({**seconds, "worker": cpu, "load": cpu}, busy, total, {"llm.events": records}, commits)


def test_what_was_used_is_told_for_each_request() -> None:
    """Counters become differences, ours per request; usage outside our parts and the harness is counted as foreign."""
    figures = used(reading(1, 100, 200, 50, 7), reading(3, 110, 220, 150, 57), answered=100)

    assert (20.0, 0.0) == (figures["cpu_s_per_1000"]["worker"], figures["cpu_s_per_1000"]["kafka"])
    assert (0.1, 0.3) == (figures["cpu_share"]["load"], figures["others_cpu"])
    assert (1.0, 0.5) == (figures["records_per_request"]["llm.events"], figures["commits_per_request"])


@pytest.fixture(scope="module")
async def bench() -> AsyncIterator[Bench]:
    async with open_bench() as opened:
        yield opened


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["wait", "poll", "stream", "kafka"])
async def test_every_reply_is_checked(bench: Bench, kind: Kind) -> None:
    """Each way of asking gets answers; one in three belongs to another caller, by a bug in the model, and is found."""
    cell = Cell("tiny", kind, clients=4, llm_ms=1, tokens=3, gap_ms=1)
    figures = await measure(bench, cell, Timing(0.2, 0.8, 3), wrong_every=_WRONG_EVERY)
    stats = await bench.model_stats()

    assert stats["calls"] // _WRONG_EVERY == figures["wrong"] > 0
    assert (0, 0, {}) == (figures["unanswered"], figures["left_open"], figures["errors"])
    assert figures["answered"] > 0
    assert figures["statements_per_request"] > 0
    assert figures["records_per_request"]["llm.replies"] > 0
    assert all(figures["pss_mb"][part] > 1 for part in PARTS)
