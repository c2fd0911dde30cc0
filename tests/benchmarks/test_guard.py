import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.guard import figures
from benchmarks.guard.counting import Counting
from benchmarks.guard.figures import HOW_TO_ACCEPT, PYTHON
from benchmarks.guard.path import Cost
from benchmarks.guard.paths import PATHS
from tests.support.stack import Stack
from tests.support.tree import ROOT

pytestmark = pytest.mark.long

PLANTED = """
import sys
from benchmarks.guard.__main__ import main
from tests.support.slower import PLANTS
PLANTS[sys.argv[1]]()
sys.exit(main(sys.argv[2:]))
"""
COST = Cost(instructions=10_000, codecs=10, statements=0, records=2, bytes=500)
NAME = "worker-turn"

counted = pytest.mark.skipif(
    figures.committed()[0] != PYTHON,
    reason=f"instructions are those of one version of Python: {figures.committed()[0]} has figures, {PYTHON} has none",
)


async def guard(*words: str, program: Sequence[str] = ("-m", "benchmarks.guard")) -> tuple[int | None, str]:
    """Exit code and output of the guard's command in its own process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


def names(*, database: bool) -> str:
    return ",".join(name for name, path in PATHS.items() if path.database is database)


@counted
async def test_no_hot_path_costs_more_than_committed() -> None:
    """A request, a reply and a delta cost what `benchmarks/guard/figures.toml` says, in every service."""
    code, said = await guard("--only", names(database=False))

    assert code == 0, said


@counted
async def test_no_statement_costs_more_than_committed(stack: Stack) -> None:
    """The worker's transactions cost what `benchmarks/guard/figures.toml` says, statement by statement."""
    code, said = await guard("--only", names(database=True), "--database", await stack.fresh_database())

    assert code == 0, said


@counted
@pytest.mark.parametrize(
    ("plant", "name", "fields"),
    [
        ("body_read_twice", "worker-record", ["instructions", "codecs"]),
        ("event_through_json", "gateway-delta", ["instructions", "codecs"]),
        ("message_copied", "gateway-request", ["instructions", "codecs"]),
        ("text_looked_through", "worker-delta", ["instructions"]),
    ],
)
async def test_what_makes_a_path_slower_is_caught(plant: str, name: str, fields: list[str]) -> None:
    """Work that is done once too often is reported, with its path, its figures and how to accept it."""
    code, said = await guard(plant, "--only", name, program=("-c", PLANTED))
    lines = [line for line in said.splitlines() if line.startswith(f"{name} (")]

    assert code == 1, said
    assert [f" {field}, committed are " in line for line, field in zip(lines, fields, strict=True)] == [True] * len(
        fields
    )
    assert said.endswith(f"{HOW_TO_ACCEPT}\n")


@counted
async def test_a_statement_for_each_row_is_caught(stack: Stack) -> None:
    """A statement that runs once per request of a batch is reported, however cheap it is."""
    words = ("--only", "store-further", "--database", await stack.fresh_database())
    code, said = await guard("statement_for_each", *words, program=("-c", PLANTED))

    assert (code, True) == (1, "1 statements, committed are 0 (exact)" in said), said


@pytest.mark.parametrize("share", [0.98, 1.0, 1.02])
def test_instructions_have_a_margin(share: float) -> None:
    """A difference within the margin is not reported."""
    measured = replace(COST, instructions=round(COST.instructions * share))

    assert figures.differences({NAME: COST}, {NAME: measured}) == []


@pytest.mark.parametrize(("instructions", "change"), [(10_400, "+4.0%"), (9_600, "-4.0%")])
def test_a_change_is_told_either_way(instructions: int, change: str) -> None:
    """More is a loss; less is a gain that must be committed, or the next loss would hide in it."""
    (line,) = figures.differences({NAME: COST}, {NAME: replace(COST, instructions=instructions)})

    assert f"{instructions:,} instructions, committed are 10,000 ({change}, margin 3%)" in line


@pytest.mark.parametrize("field", ["codecs", "statements", "records", "bytes"])
def test_all_else_is_exact(field: str) -> None:
    """One more call, statement, record or byte is reported."""
    (line,) = figures.differences({NAME: COST}, {NAME: replace(COST, **{field: getattr(COST, field) + 1})})

    assert field in line


def test_a_path_without_figures_is_told() -> None:
    """A new path does not pass until its figures are committed."""
    assert figures.differences({}, {NAME: COST}) == [f"{NAME}: has no committed figures"]


def test_every_path_has_figures_and_every_figure_its_path() -> None:
    """The committed file has exactly the paths that are measured."""
    assert list(PATHS) == list(figures.committed()[1])


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    """What `--write` writes is what the next run compares with."""
    written = dict.fromkeys(PATHS, COST)
    figures.write(written, tmp_path / "figures.toml")

    assert (PYTHON, written) == figures.committed(tmp_path / "figures.toml")


def test_the_same_work_counts_the_same() -> None:
    """Two counts of the same work are equal to the instruction."""

    def count() -> tuple[int, int]:
        with Counting() as counting:
            sorted(range(100), key=lambda number: -number)
        return counting.instructions, counting.codecs

    assert count() == count()
