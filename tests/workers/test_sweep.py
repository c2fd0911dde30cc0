"""Promises of workers/sweep.py: every sweep does its work, and is repeated after a failure."""

from typing import Any

import pytest

from orchestra.store.database import DataRefusedError
from orchestra.store.leases import Lost
from tests.support.fakes import QUICK, Calls, away, running
from tests.support.waiting import eventually
from workers import sweep
from workers.metrics import Metrics
from workers.sweep import MAX_AT_ONCE, Sweeper


class Trust:
    """A fake lease, and an eraser."""

    may_judge_others = True

    async def erase(self) -> None:
        """Nothing is to be erased."""


class Swept:
    """A sweeper over a fake store, and its effects."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, days: int | None = 7, **results: Any) -> None:
        nothing: dict[str, Calls] = {
            "give_back_lost": Calls(Lost(0, 0, [])),
            "expire": Calls([]),
            "settle_early": Calls([]),
            "unpublished": Calls([]),
            "sweep_old": Calls(0),
            "sweep_audit": Calls(0),
            "empty_not_kept": Calls(0),
            "take_walk": Calls(True),
            "walk_branches": Calls(None),
            "walk_conversations": Calls(0),
            "estimated_open": Calls(0),
            "analyze_grown": Calls([]),
            "count_turns": Calls(False),
            "count_bytes": Calls(False),
        }
        self.store = {**nothing, **results}
        homes = {
            "give_back_lost": sweep.leases,
            "expire": sweep.endings,
            "settle_early": sweep.cancels,
            "unpublished": sweep.outbox,
            "sweep_old": sweep.retention,
            "sweep_audit": sweep.retention,
            "empty_not_kept": sweep.retention,
            "take_walk": sweep.retention,
            "walk_branches": sweep.retention,
            "walk_conversations": sweep.retention,
            "estimated_open": sweep,
            "analyze_grown": sweep.statistics,
            "count_turns": sweep.totals,
            "count_bytes": sweep.totals,
        }
        for name, calls in self.store.items():
            monkeypatch.setattr(homes[name], name, calls)
        self.announced: list[Any] = []
        self.held: list[bool] = []
        self.wakes = 0
        self.trust = Trust()
        self.metrics = Metrics()
        anything: Any = self.trust
        self.sweeper = Sweeper(
            anything,
            anything,
            self.metrics,
            announce=self.announced.extend,
            wake=self.wake,
            hold_intake=self.held.append,
            max_open=100,
            retention_days=30,
            audit_retention_days=90,
            eraser=anything,
            conversation_retention_days=days,
            timings=QUICK,
        )

    def wake(self) -> None:
        self.wakes += 1


async def test_lost_workers_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The turns of lost workers go back and are looked for, endings are announced, and the loss is counted."""
    swept = Swept(monkeypatch, give_back_lost=Calls(Lost(2, 5, ["reply"])))  # type: ignore[list-item]

    await swept.sweeper.give_back_lost()

    assert (["reply"], 2, 1) == (swept.announced, swept.metrics.workers_lost._value.get(), swept.wakes)


async def test_the_next_turns_are_looked_for_after_endings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sweep that ended requests the next turns are looked for; one that found nothing wakes nothing."""
    swept = Swept(monkeypatch, expire=Calls(["reply"], []), settle_early=Calls(["reply"], []))
    for _ in range(2):
        await swept.sweeper.expire()
        await swept.sweeper.settle_early_cancels()
        await swept.sweeper.give_back_lost()

    assert 2 == swept.wakes


async def test_nobody_is_judged_after_an_absence_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an outage of Postgres no worker is declared lost."""
    swept = Swept(monkeypatch)
    swept.trust.may_judge_others = False

    await swept.sweeper.give_back_lost()

    assert swept.store["give_back_lost"].calls == []


async def test_everything_that_is_due_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expired requests are ended in as many rounds as needed."""
    full = ["reply"] * MAX_AT_ONCE
    swept = Swept(monkeypatch, expire=Calls(full, full, ["last"]))

    await swept.sweeper.expire()

    assert 2 * MAX_AT_ONCE + 1 == len(swept.announced)


async def test_early_cancels_are_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endings of early cancels are announced."""
    swept = Swept(monkeypatch, settle_early=Calls(["reply"]))

    await swept.sweeper.settle_early_cancels()

    assert ["reply"] == swept.announced


async def test_replies_that_lie_too_long_are_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies that were not marked in time are published again and counted."""
    swept = Swept(monkeypatch, unpublished=Calls(["late", "later"]))

    await swept.sweeper.republish()

    assert (["late", "later"], 2) == (swept.announced, swept.metrics.republished._value.get())
    assert [(5.0, MAX_AT_ONCE)] == swept.store["unpublished"].calls


async def test_intake_is_held_at_the_emergency_limit_and_let_go_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intake is paused exactly at the emergency limit and resumed below it."""
    swept = Swept(monkeypatch, estimated_open=Calls(99, 100, 99))
    for _ in range(3):
        await swept.sweeper.guard_size()

    assert [False, True, False] == swept.held


async def test_old_rows_go_until_none_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old rows are deleted in small rounds until none are left."""
    swept = Swept(monkeypatch, sweep_old=Calls(MAX_AT_ONCE, MAX_AT_ONCE, 3), sweep_audit=Calls(MAX_AT_ONCE, 0))

    await swept.sweeper.delete_old()

    assert [(30, MAX_AT_ONCE)] * 3 == swept.store["sweep_old"].calls


async def test_what_must_not_be_kept_goes_until_none_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that must not be kept are emptied in small rounds until none are left."""
    swept = Swept(monkeypatch, empty_not_kept=Calls(MAX_AT_ONCE, 3))

    await swept.sweeper.empty_not_kept()

    assert [(MAX_AT_ONCE,)] * 2 == swept.store["empty_not_kept"].calls


@pytest.mark.parametrize(("due", "days", "walks"), [(True, 7, [1, 1]), (True, None, [1, 0]), (False, 7, [0, 0])])
async def test_conversations_are_deleted_where_that_is_set(
    monkeypatch: pytest.MonkeyPatch, due: bool, days: int | None, walks: list[int]
) -> None:
    """A worker walks through branches when that is due, and through all conversations if their days are set."""
    swept = Swept(monkeypatch, days, take_walk=Calls(due))

    await swept.sweeper.delete_unused()

    assert walks == [len(swept.store[name].calls) for name in ("walk_branches", "walk_conversations")]


@pytest.mark.parametrize("error", [away(), DataRefusedError("22P05"), RuntimeError()], ids=["away", "refused", "bug"])
async def test_a_failed_sweep_is_swept_again(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A failed sweep is repeated and stops no other."""
    swept = Swept(monkeypatch, **{name: Calls(error) for name in ("expire", "give_back_lost", "unpublished")})
    async with running(swept.sweeper.run()):
        await eventually(lambda: all(len(calls.calls) > 2 for calls in swept.store.values()))
