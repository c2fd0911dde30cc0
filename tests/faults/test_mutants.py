"""What the mutants promise: every bug can still be planted, and planted bugs are found."""

import ast

import pytest

from faults.mutants import MUTANTS, ROOT, Mutant, planted
from faults.scenarios import SCENARIOS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_its_place(mutant: Mutant) -> None:
    """The text that each mutant replaces occurs exactly once in its file, and the result is still valid Python."""
    for edit in mutant.edits:
        text = planted((ROOT / edit.file).read_text("utf-8"), edit)
        if edit.file.endswith(".py"):
            ast.parse(text)


def test_there_are_thirteen_mutants() -> None:
    """Each of the planted bugs of the test plan exists under its own name."""
    assert 13 == len({mutant.name for mutant in MUTANTS})


def test_every_scenario_shows_a_mutant() -> None:
    """Every scenario reveals a mutant, and what is not a scenario is an existing test."""
    shown = {mutant.shows for mutant in MUTANTS}
    tests = shown - SCENARIOS.keys()

    assert SCENARIOS.keys() <= shown
    assert all(
        f"def {name}(" in (ROOT / path).read_text("utf-8") for path, _, name in (t.partition("::") for t in tests)
    )
