"""Promises of schemas/status.py: where a request can go from where it is."""

import re
from importlib.resources import files

import pytest

from schemas.status import ENDINGS, LEGAL_MOVES, WAITING, Status


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_endings_are_for_ever(ending: Status) -> None:
    """There is no way out of an ending."""
    assert LEGAL_MOVES[ending] == frozenset()
    assert ending.terminal


@pytest.mark.parametrize("state", [WAITING, Status.PENDING, Status.IN_PROGRESS])
def test_every_open_request_can_end(state: str) -> None:
    """Whatever stands open can fail, be cancelled or expire; only a running one completes."""
    assert {"failed", "cancelled", "expired"} <= LEGAL_MOVES[state]
    assert ("completed" in LEGAL_MOVES[state]) == (state == Status.IN_PROGRESS)


def test_every_state_has_its_moves() -> None:
    """The table knows every state, and names no other."""
    states = {WAITING, *Status}

    assert states == set(LEGAL_MOVES)
    assert states >= {state for moves in LEGAL_MOVES.values() for state in moves}


def test_the_database_allows_the_same_moves() -> None:
    """The trigger in the first migration allows what this table allows, no more and no less."""
    sql = files("migrations").joinpath("0001_initial.sql").read_text("utf-8")
    clauses = re.findall(r"OLD\.status = '(\w+)'\s+AND NEW\.status IN \(([^)]*)\)", sql)

    allowed = {state: frozenset(re.findall(r"'(\w+)'", states)) for state, states in clauses}

    assert allowed == {state: moves for state, moves in LEGAL_MOVES.items() if moves}
