"""What growth curves promise: points are filed beside others, and the same figures make the same picture."""

import resource
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from benchmarks.bench import open_bench
from benchmarks.cells import Cell
from benchmarks.growth.curves import CURVES, Curve, chosen
from benchmarks.growth.record import read, with_point, write
from benchmarks.growth.run import check_files, kb_each, rounded
from benchmarks.growth.seeds import NoRoomError, add_histories, add_rows, add_tenants
from benchmarks.measure import Timing, measure
from benchmarks.meters import PARTS
from benchmarks.question import Asking, conversation

pytestmark = pytest.mark.long

every_curve = pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.name)


def figures(**changed: Any) -> dict[str, Any]:
    usual = {
        "overhead_p50_ms": 10.0, "overhead_p99_ms": 20.0, "cpu_s_per_1000": dict.fromkeys(PARTS, 2.0),
        "cpu_ms_per_token": 10.0, "pss_mb": dict.fromkeys(PARTS, 50.0), "statements_per_request": 3.0,
        "llm_open": 10, "wrong": 0, "unanswered": 0, "left_open": 0, "errors": {},
    }  # fmt: skip
    return {**usual, **changed}


@every_curve
def test_each_step_is_higher(curve: Curve) -> None:
    """A curve has its own name, and increasing steps, each with another amount of data or load."""
    points = [curve.point(step) for step in curve.steps]

    assert [curve] == chosen([curve.name])
    assert sorted(set(curve.steps)) == list(curve.steps)
    assert len(points) == len(set(points))


@pytest.mark.parametrize("curve", chosen(["calls", "streams"]), ids=lambda curve: curve.name)
def test_so_many_are_open_as_is_said(curve: Curve) -> None:
    """The rate keeps the stated number of requests open for as long as the model takes."""
    cells = [curve.point(step).cell for step in curve.steps]

    assert list(curve.steps) == pytest.approx([cell.rate * cell.llm_seconds for cell in cells])


def test_an_unknown_curve_is_an_error() -> None:
    """A name that matches no curve is refused with that name, not ignored."""
    with pytest.raises(ValueError, match="no curve is called hystory;"):
        chosen(["rows", "hystory"])


def test_points_find_their_place(tmp_path: Path) -> None:
    """A point replaces an earlier one at its step; others of its curve and other curves stay."""
    record = with_point({"rows": [{"at": 0}]}, "history", 100, {"rps": 1.0})
    record = with_point(with_point(record, "history", 1, {"rps": 2.0}), "history", 100, {"rps": 3.0})
    write(tmp_path / "deep" / "figures.json", record)

    assert record == read(tmp_path / "deep" / "figures.json")
    assert {"rows": [(0, None)], "history": [(1, 2.0), (100, 3.0)]} == {
        curve: [(point["at"], point.get("rps")) for point in points] for curve, points in record.items()
    }


def test_there_may_be_no_file_yet_but_no_other(tmp_path: Path) -> None:
    """Without a file there are no points; a file of something else is refused, not overwritten."""
    (tmp_path / "other.json").write_text('{"cells": {}}')

    assert {} == read(tmp_path / "figures.json")
    with pytest.raises(ValueError, match=r"other\.json has no growth curves"):
        read(tmp_path / "other.json")


@every_curve
def test_the_same_figures_make_the_same_picture(curve: Curve, tmp_path: Path) -> None:
    """A curve is drawn from any of its points, to the same bytes each time, and shows failures."""
    points = [{"at": step, **figures()} for step in curve.steps]
    from benchmarks.growth.plot import draw  # Matplotlib takes a second, and no other test needs it.

    drawn = []
    for name, told in (("a", points), ("b", points), ("c", [points[0], {**points[1], "wrong": 1}])):
        draw(curve, told, tmp_path / name)
        drawn.append((tmp_path / name).read_text())

    assert drawn[0] == drawn[1]
    assert curve.grows in drawn[0]
    assert [False, True] == ["#ff0000" in text for text in drawn[1:]]


def test_what_a_call_adds_is_told() -> None:
    """Memory above that of an idle part is divided by the open calls; figures keep four digits."""
    told = {"kb": kb_each(figures(llm_open=3, idle_pss_mb=dict.fromkeys(PARTS, 40.0))), "answered": 123456}

    assert {"kb": dict.fromkeys(PARTS, 3413.0), "answered": 123456} == rounded(told)


def test_too_few_files_are_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point that needs more open files than a process may have is not started."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    check_files(2000)

    with pytest.raises(NoRoomError, match="a process may have 4096"):
        check_files(4000)


@pytest.mark.stack
async def test_what_is_there_before_is_used() -> None:
    """Seed data fit the current tables: the model gets the history, a key works in its tenant, and no call fails."""
    cell, timing = Cell("tiny", "wait", rate=20, llm_ms=1), Timing(0.2, 0.8, 0.4)
    async with open_bench(partitions=8) as bench:
        await add_rows(bench, 1000)
        await add_histories(bench, "0123abcd", conversations=100, messages=7)
        asking = Asking("0123abcd", goes_on=True)
        told = [await measure(bench, cell, timing, asking=asking)]
        told.append(await measure(bench, cell, timing, asking=Asking("0123abce", await add_tenants(bench, 3))))
        rows = await bench.database.run("SELECT tenant, count(*) AS n FROM requests GROUP BY tenant ORDER BY tenant")

    assert [8.0, 1.0] == [each["messages_per_prompt"] for each in told]
    assert [(0, 0, {}, 0)] * 2 == [
        (each["wrong"], each["unanswered"], each["errors"], each["left_open"]) for each in told
    ]
    assert ["default", "tenant-0", "tenant-1", "tenant-2"] == [row.tenant for row in rows]
    assert rows[0].n > 1000


def test_conversations_are_each_requests_own() -> None:
    """Ids of conversations are UUIDs, one for each number."""
    assert 100 == len({UUID(conversation("0123abcd", number)) for number in range(100)})
