"""What a load promises: every request that it sends is counted as answered, wrong, failed or unanswered."""

import asyncio
import time
from typing import Any

import pytest

from benchmarks import load
from benchmarks.callers import RefusedError, WrongReplyError
from benchmarks.cells import Cell
from benchmarks.load import Load, Plan, dumped
from benchmarks.question import Asking

CLOSED, OPEN = Cell("closed", "wait", clients=6, llm_ms=0), Cell("open", "wait", rate=1000, llm_ms=0)


class Script:
    """Answers at once, except the first few: never, another's, refused, or with an error of the library."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, number: int) -> float:
        self.asked += 1
        await asyncio.sleep(0)
        match number:
            case 0:
                await asyncio.Event().wait()
            case 1:
                raise WrongReplyError
            case 2:
                raise RefusedError("503 overloaded")
            case 3:
                raise OSError
        return time.perf_counter()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.05)


def plan(cell: Cell) -> Plan:
    return Plan(cell, Asking("run", ["a key"]), ["http://gateway"], "kafka:1", 0.0, 0.3, 0.0)


@pytest.mark.parametrize("cell", [CLOSED, OPEN], ids=lambda cell: cell.name)
async def test_nothing_is_lost_from_the_count(cell: Cell) -> None:
    """The result has every request: one never answered, one wrong, two failed by their reasons, and the rest."""
    script = Script()
    result: dict[str, Any] = await Load(plan(cell), script).run()

    assert (1, 1) == (result["unanswered"], result["wrong"])
    assert {"503 overloaded": 1, "OSError": 1} == result["errors"]
    assert 0 < result["answered"] <= script.asked - 4


async def test_phases_are_told_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    """A reader of the load's output learns when to read the meters."""
    await Load(plan(CLOSED), Script()).run()

    assert [f'{{"phase":"{name}"}}' for name in ("measured", "counted", "over")] == capfd.readouterr().out.splitlines()


def test_a_plan_survives_the_command_line() -> None:
    """The process gets exactly the plan that was made for it."""
    assert plan(OPEN) == Plan.loaded(dumped(plan(OPEN)))
