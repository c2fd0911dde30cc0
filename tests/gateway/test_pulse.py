"""Promises of gateway/pulse.py: viewers who come and go during a look."""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from typing import Any, cast

import pytest

from gateway import pulse
from gateway.drain import Drain
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.people.standing import Standing
from gateway.pulse import Look
from gateway.timings import Timings
from gateway.topics import Topics
from orchestra.store import models, queue, requests
from orchestra.store.database import Database
from orchestra.store.queue import Counted, Depth, Totals, Whose
from schemas.api.keys import Scope
from tests.support.fakes import Calls, away, running
from tests.support.waiting import eventually


@pytest.fixture
async def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, asyncio.Event]:
    """A look at Postgres ``began``; it goes on until it is ``over``."""
    events = {"began": asyncio.Event(), "over": asyncio.Event()}

    async def totals(_: Database, viewers: Collection[Whose]) -> dict[Whose, Totals]:
        return {each: Totals() for each in viewers}

    async def marks(*_: Any) -> dict[Any, Any]:
        events["began"].set()
        await events["over"].wait()
        return {}

    async def never(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(queue, "totals", totals)
    monkeypatch.setattr(requests, "marks", marks)
    # What is measured meanwhile is no part of a user's frame.
    monkeypatch.setattr(pulse, "look", never)
    monkeypatch.setattr(queue, "open_letters", never)
    return events


async def test_who_comes_while_the_last_one_leaves_is_shown_what_is_found(looks: dict[str, asyncio.Event]) -> None:
    """A viewer who comes while the look for one who has left goes on is shown what that look finds."""
    watched = pulse.Pulse(cast("Database", None), cast("Topics", None), Drain(), Metrics(), None)
    caller = Principal("default", "ada", frozenset({Scope.READ}))

    async def ask() -> Principal:
        return caller

    async def viewer() -> Any:
        return (await watched.open(caller, Standing(caller, ask), [])).body_iterator

    running = asyncio.create_task(watched.run())
    try:
        first = await viewer()
        await anext(first)
        await looks["began"].wait()
        await first.aclose()
        second = await viewer()
        await anext(second)
        looks["over"].set()
        async with asyncio.timeout(5):
            shown = await anext(second)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    assert b"event: frame" in shown


async def test_numbers_go_when_postgres_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The metrics of the workers are there while looks succeed, and gone while Postgres cannot be reached."""
    metrics = Metrics()
    found = Look(Depth([], frozenset()), {}, [])
    monkeypatch.setattr(queue, "open_letters", Calls(Counted(0, more=False)))
    monkeypatch.setattr(models, "known_models", Calls([]))
    watched = pulse.Pulse(
        cast("Database", None), cast("Topics", None), Drain(), metrics, None, Timings(measure=0.001, frame=0.0)
    )

    def slots() -> float | None:
        return metrics.registry.get_sample_value("orchestra_worker_slots", {"state": "free"})

    async with running(watched.run()):
        for answer, shown in ((found, 0.0), (away(), None), (found, 0.0)):
            monkeypatch.setattr(pulse, "look", Calls(answer))
            await eventually(lambda shown=shown: slots() == shown)
