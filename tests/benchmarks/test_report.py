"""What tables promise: one row for each cell, ratios in the right direction, noise and failures named."""

from typing import Any

from benchmarks.meters import OFFSETS_TOPIC, PARTS
from benchmarks.report import comparison, idle_row, records, table


def figures(rps: float = 1000.0, **changed: Any) -> dict[str, Any]:
    usual = {
        "rps": rps, "overhead_p50_ms": 10.0, "overhead_p99_ms": 20.0, "cpu_s_per_1000": dict.fromkeys(PARTS, 0.25),
        "pss_mb": dict.fromkeys(PARTS, 50.0), "statements_per_request": 3.0, "commits_per_request": 2.0,
        "records_per_request": {"llm.events": 2.0, "llm.requests": 1.0, OFFSETS_TOPIC: 7.0},
        "llm_calls_per_request": 1.0, "others_cpu": 0.0, "wrong": 0, "unanswered": 0, "left_open": 0, "errors": {},
    }  # fmt: skip
    return {**usual, **changed}


def run(**cells: dict[str, Any]) -> dict[str, Any]:
    return {"cells": {name: {"median": median} for name, median in cells.items()}}


def test_each_cell_has_a_row() -> None:
    """The table has a head, a line, and a row for each cell with all its figures."""
    head, _, light, _ = table({"light": figures(), "busy": figures(unanswered=3)}).splitlines()

    assert light == (
        "| light | 1,000 | 10.0/20.0 | 0.25 + 0.25 + 0.25 + 0.25 + 0.25 | 1.25 | 150 + 100 | 3.00 | 2.00 | 3.00 "
        "| 1.00 | 0.00 | - |"
    )
    assert head.count("|") == light.count("|")


def test_idle_parts_are_told_apart() -> None:
    """The idle line names each part's processor time, and the sum of ours without Kafka and Postgres."""
    told = idle_row({"idle_cpu_percent": dict(zip(PARTS, (0.5, 0.75, 0.25, 3.0, 0.5), strict=True))})

    assert told == (
        "gateway 0.50 + worker 0.75 + llm_service 0.25 + kafka 3.00 + postgres 0.50 % of a core; "
        "1.50 % without Kafka and Postgres"
    )


def test_commits_of_offsets_are_no_records() -> None:
    """Only records on our own topics count, not committed offsets."""
    assert records(figures()) == 3.0


def test_ratios_are_of_the_new_by_the_old() -> None:
    """A comparison has the cells of both runs, and the ratio of each new figure to the old one."""
    lines = comparison(run(light=figures(), gone=figures()), run(light=figures(rps=1500.0), new=figures()))

    assert ["cell", "---", "light"] == [line.split(" | ")[0].strip("| ") for line in lines.splitlines()]
    assert "| 1,000 → 1,500 (1.50 times) | 10 → 10 (1.00 times) |" in lines


def test_noise_and_mishaps_are_named() -> None:
    """Where other processes took more than a tenth of the machine, or an answer failed, the row says so."""
    row = comparison(run(light=figures(others_cpu=0.3)), run(light=figures(errors={"502": 1}))).splitlines()[-1]

    assert row.endswith("| 0.30 | 1 502 |")
