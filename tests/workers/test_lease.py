"""Promises of workers/lease.py: a worker keeps its lease, or learns that it has lost it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestra.store.leases import Beat
from tests.support.fakes import QUICK, Calls, away, running
from tests.support.records import claimed
from tests.support.waiting import eventually
from workers import lease
from workers.lease import Lease
from workers.metrics import Metrics

BEAT = Beat([], drains=False)


def taken(monkeypatch: pytest.MonkeyPatch, register: Calls, renew: Calls) -> Lease:
    """A lease on this store that is renewed without pause."""
    monkeypatch.setattr(lease.leases, "register", register)
    monkeypatch.setattr(lease.leases, "renew", renew)
    database: Any = None
    return Lease(database, Metrics(), QUICK)


async def test_a_lease_is_taken_as_soon_as_the_database_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt to register uses a new id, because an earlier one may have been committed."""
    register = Calls(away(), away(), None)
    mine = taken(monkeypatch, register, Calls(BEAT))

    await asyncio.wait_for(mine.take(), 10)

    assert 3 == len({worker_id for (worker_id,) in register.calls})
    assert mine.worker_id == register.calls[-1][0]


async def test_renewing_tells_of_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancels that a renewal returns are passed on, and without cancels there is no call."""
    refs = [claimed().ref]
    told: list[object] = []
    mine = taken(monkeypatch, Calls(None), renew := Calls(BEAT, Beat(refs, drains=False), BEAT))
    async with running(mine.run(told.append, lambda: told.append("lost"))):
        await eventually(lambda: len(renew.calls) > 4)

    assert [refs] == told


async def test_a_lost_lease_drops_everything_and_takes_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost lease first closes all calls, then takes a new id, and is counted."""
    told: list[object] = []
    mine = taken(monkeypatch, register := Calls(None), renew := Calls(BEAT, None, BEAT))
    before = mine.worker_id
    async with running(mine.run(told.append, lambda: told.append(mine.worker_id))):
        await eventually(lambda: len(renew.calls) > 3)

    assert [before] == told
    assert before != mine.worker_id == register.calls[-1][0]
    assert [before, before, mine.worker_id] == [worker_id for worker_id, _ in renew.calls[:3]]
    assert 1 == mine._metrics.leases_lost._value.get()


async def test_a_database_that_is_away_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage does not lose the lease, and other workers are not judged for one lease time after it."""
    told: list[object] = []
    mine = taken(monkeypatch, Calls(None), renew := Calls(away(), away(), BEAT))
    assert mine.may_judge_others
    async with running(mine.run(told.append, lambda: told.append("lost"))):
        await eventually(lambda: len(renew.calls) > 3)

    assert told == []
    assert not mine.may_judge_others
    monkeypatch.setattr(mine, "_trust_from", asyncio.get_running_loop().time())
    assert mine.may_judge_others


async def test_the_ready_file_is_as_old_as_the_last_renewal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The ready file is touched only when the lease was renewed, because a health check reads its age."""
    ready = tmp_path / "ready"
    touched: list[bool] = []

    def look(_worker_id: object, _state: object) -> Beat:
        touched.append(ready.exists())
        return BEAT

    mine = taken(monkeypatch, Calls(None), Calls(away(), away(), look))
    mine.tell(ready)
    ready.unlink()
    async with running(mine.run(lambda _: None, lambda: None)):
        await eventually(lambda: len(touched) > 1)

    assert [False, True] == touched[:2]


async def test_a_worker_that_is_not_ready_touches_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no ready file before the worker has reached Kafka."""
    ready = tmp_path / "ready"
    mine = taken(monkeypatch, Calls(None), renew := Calls(BEAT))
    async with running(mine.run(lambda _: None, lambda: None)):
        await eventually(lambda: len(renew.calls) > 2)
        assert not ready.exists()
        mine.tell(ready)
        assert ready.exists()


async def test_a_file_that_cannot_be_touched_costs_no_lease(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A ready file that cannot be touched does not cost the lease."""
    mine = taken(monkeypatch, Calls(None), renew := Calls(BEAT))
    mine.tell(tmp_path / "gone" / "ready")
    async with running(mine.run(lambda _: None, lambda: None)):
        await eventually(lambda: len(renew.calls) > 2)
