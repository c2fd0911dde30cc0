"""Promises of workers/held.py: requests for a model that is held back get the reason."""

from typing import Any
from uuid import uuid4

import pytest

from orchestra.store.endings import HeldBack as Done
from orchestra.store.endings import Told
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import QUICK, Calls, away, running, steps
from tests.support.waiting import eventually
from workers import held as module
from workers.held import HeldBack
from workers.throttle import Throttle
from workers.timings import Timings

TOLD = Told("default", uuid4(), 0, "hash", None, ErrorCode.AUTH, "why")


class Publisher:
    """A fake publisher that keeps events and replies."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.announced: list[Any] = []
        self.wakes = 0

    def restart(self, turn: Told, code: ErrorCode, detail: str) -> None:
        self.said.append((turn, code, detail))

    def announce(self, announcements: list[Any]) -> None:
        self.announced += announcements

    def wake(self) -> None:
        self.wakes += 1


def looking(monkeypatch: pytest.MonkeyPatch, throttle: Throttle, calls: Calls) -> tuple[HeldBack, Publisher]:
    """A handler that looks often, over a fake store."""
    monkeypatch.setattr(module.endings, "hold_back", calls)
    anything: Any = Publisher()
    return HeldBack(anything, throttle, anything, anything.wake, QUICK), anything


def refused() -> Throttle:
    """A throttle that holds a model back."""
    throttle = Throttle(9)
    throttle.refused("m", OrchestraError(ErrorCode.AUTH, "why"), 0.0)
    return throttle


async def test_everybody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that keep waiting get an event; those that cannot wait get a reply."""
    anything: Any = "announcement"
    held, publisher = looking(monkeypatch, refused(), calls := Calls(Done([TOLD], 1, [anything])))

    await held.look()

    assert [(TOLD, ErrorCode.AUTH, "why")] == publisher.said
    assert (["announcement"], 1) == (publisher.announced, publisher.wakes)
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
    """A blocking client waits for a full or briefly absent model, but not for a failed account or a long outage."""
    throttle = Throttle(9, lambda: now)
    for now in [1000.0 * place for place in range(times)]:
        throttle.begun("m")
        throttle.refused("m", OrchestraError(code), now)
        throttle.ended("m")
    held, _ = looking(monkeypatch, throttle, calls := Calls(Done()))

    await held.look()

    assert hopeless == calls.calls[0][1]


async def test_it_rests_until_a_model_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no model has refused calls it does not even look; after a refusal it does."""
    throttle = Throttle(9)
    held, publisher = looking(monkeypatch, throttle, Calls(Done([TOLD])))
    held._timings, looks = Timings(look_at_held=0), list[bool]()
    monkeypatch.setattr(throttle, "held", lambda of=throttle.held: (looks.append(True), of())[1])
    async with running(held.run()):
        await steps()
        assert looks == []
        throttle.refused("m", OrchestraError(ErrorCode.AUTH, "why"), 0.0)
        await eventually(lambda: publisher.said)


async def test_looks_take_at_most_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads past all turns that know already, so it is followed by a rest of ten times as long."""
    held, _ = looking(monkeypatch, refused(), Calls(Done()))
    asked: dict[str, Any] = {}

    async def regularly(*_: object, **more: Any) -> None:
        asked.update(more)

    monkeypatch.setattr(module, "regularly", regularly)
    await held.run()

    assert 10.0 == asked["rest"]


async def test_the_database_is_not_asked_while_no_model_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no model is held back, Postgres is not queried."""
    held, _ = looking(monkeypatch, Throttle(9), calls := Calls(Done()))

    await held.look()

    assert [] == calls.calls


async def test_it_looks_again_after_an_absence_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The looks continue after an outage of Postgres."""
    held, publisher = looking(monkeypatch, refused(), Calls(away(), Done([TOLD])))
    async with running(held.run()):
        await eventually(lambda: publisher.said)
