"""Promises of workers/held.py: whoever waits for a model that is held back learns why."""

from typing import Any
from uuid import uuid4

import pytest

from orchestra.store.endings import HeldBack as Done
from orchestra.store.endings import Told
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import QUICK, Calls, away, running
from tests.support.waiting import eventually
from workers import held as module
from workers.held import HeldBack
from workers.throttle import Throttle

TOLD = Told("default", uuid4(), 0, "hash", None, ErrorCode.AUTH, "why")


class Publisher:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.announced: list[Any] = []

    def restart(self, turn: Told, code: ErrorCode, detail: str) -> None:
        self.said.append((turn, code, detail))

    def announce(self, announcements: list[Any]) -> None:
        self.announced += announcements


def looking(monkeypatch: pytest.MonkeyPatch, throttle: Throttle, calls: Calls) -> tuple[HeldBack, Publisher]:
    """One that looks often, over a store that does as it is told."""
    monkeypatch.setattr(module.endings, "hold_back", calls)
    anything: Any = Publisher()
    return HeldBack(anything, throttle, anything, QUICK), anything


def refused() -> Throttle:
    """A throttle that holds a model back."""
    throttle = Throttle(9)
    throttle.refused("m", OrchestraError(ErrorCode.AUTH, "why"), 0.0)
    return throttle


async def test_everybody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an event to those who wait on, by their reply to those who do not."""
    anything: Any = "announcement"
    held, publisher = looking(monkeypatch, refused(), calls := Calls(Done([TOLD], 1, [anything])))

    await held.look()

    assert [(TOLD, ErrorCode.AUTH, "why")] == publisher.said
    assert ["announcement"] == publisher.announced
    ((models, hopeless, _),) = calls.calls
    assert [("m", ErrorCode.AUTH, "why")] == [(each.model, each.code, each.detail) for each in models]
    assert {"m"} == hopeless


@pytest.mark.parametrize(
    ("code", "times", "hopeless"),
    [
        (ErrorCode.QUOTA_EXHAUSTED, 1, {"m"}),
        (ErrorCode.RATE_LIMITED, 9, set()),
        (ErrorCode.OVERLOADED, 9, set()),
        (ErrorCode.UNAVAILABLE, 1, set()),
        (ErrorCode.UNAVAILABLE, 9, {"m"}),
    ],
)
async def test_callers_are_not_kept_for_what_lasts(
    monkeypatch: pytest.MonkeyPatch, code: ErrorCode, times: int, hopeless: set[str]
) -> None:
    """They wait for a place, and for a model that is gone for a moment; not for the account, nor for a long outage."""
    throttle = Throttle(9, lambda: now)
    for now in [1000.0 * place for place in range(times)]:
        throttle.begun("m")
        throttle.refused("m", OrchestraError(code), now)
        throttle.ended("m")
    held, _ = looking(monkeypatch, throttle, calls := Calls(Done()))

    await held.look()

    assert hopeless == calls.calls[0][1]


async def test_the_database_is_not_asked_while_no_model_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is nearly always."""
    held, _ = looking(monkeypatch, Throttle(9), calls := Calls(Done()))

    await held.look()

    assert [] == calls.calls


async def test_it_looks_again_after_an_absence_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends it."""
    held, publisher = looking(monkeypatch, refused(), Calls(away(), Done([TOLD])))
    async with running(held.run()):
        await eventually(lambda: publisher.said)
