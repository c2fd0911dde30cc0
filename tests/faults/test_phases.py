"""The list of phases: what the full campaign asks for."""

import pytest

from faults.phases import PHASES, Phase

# What the report of a full campaign must show at least.
ASKED = {
    "worker_kills": 200,
    "failpoints": 140,
    "zombies": 50,
    "scale": 30,
    "gateway_kills": 100,
    "broker_kills": 10,
    "open_calls": 10,
    "kafka_errors": 500,
    "postgres_kills": 10,
    "commit_cuts": 200,
    "files_away": 30,
    "leader_kills": 20,
    "cancels": 5_000,
    "disconnects": 2_000,
    "faulty_answers": 20_000,
    "poison": 12_000,
    "hostile_neighbours": 2,
}


def test_names_are_names_of_one_phase_each() -> None:
    """A name selects one phase, and is a valid database name."""
    names = [phase.name for phase in PHASES]

    assert len(names) == len(set(names))
    assert all(name.isidentifier() for name in names)


@pytest.mark.parametrize(("name", "figure"), ASKED.items())
def test_the_full_size_reaches_the_figures(name: str, figure: int) -> None:
    """Every figure of the test plan is asked for by a phase, and CI asks for fewer of the same."""
    phase: Phase = next(phase for phase in PHASES if phase.name == name)

    assert phase.full >= figure
    assert 0 < phase.ci <= phase.full
