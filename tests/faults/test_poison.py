"""The campaign's poison: each kind is what it says, to the very reader of the workers."""

import pytest

from faults.poison import KINDS
from orchestra.store.dead_letters import DeadLetter
from tests.support.records import Record, reader


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_becomes_a_dead_letter_for_its_reason(kind: str) -> None:
    """Nothing of it is run, and the letter gives the reason that the campaign asks for."""
    poison = KINDS[kind]()
    verdict = reader().read(Record(poison.value, poison.key, list(poison.headers)))

    assert isinstance(verdict, DeadLetter)
    assert poison.reason == verdict.reason


def test_there_are_twelve_kinds() -> None:
    """As many as the test plan names."""
    assert 12 == len(KINDS)
