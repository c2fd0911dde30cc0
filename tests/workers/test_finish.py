"""Promises of workers/finish.py: endings are written in batches, and no ending is lost because of another one."""

import asyncio
from typing import Any

import pytest

from orchestra.store.claims import ClaimOrder
from orchestra.store.database import DataRefusedError
from orchestra.store.endings import AttemptEnd, Finished
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.fakes import QUICK, Calls, FakeSlots, away, running, steps
from tests.support.records import claimed
from tests.support.store import ending
from tests.support.waiting import eventually
from workers import finish
from workers.finish import Finisher
from workers.metrics import Metrics

POISON = "poison"


def finisher(monkeypatch: pytest.MonkeyPatch, store: Calls) -> tuple[Finisher, list[Any], FakeSlots]:
    """A finisher on this store, its announcements, and its slots."""
    monkeypatch.setattr(finish.store, "finish", store)
    announced: list[Any] = []
    database: Any = None
    made, slots = Finisher(database, Metrics(), announced.extend, QUICK), FakeSlots()
    made.slots = slots
    return made, announced, slots


def refuses_poison(endings: list[AttemptEnd], _order: object) -> Finished:
    """A store that refuses a batch with a poisoned reply."""
    if any(each.reply == POISON for each in endings):
        raise DataRefusedError("22P05")
    return Finished()


async def test_endings_are_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endings that arrive during one batch form the next, and each caller returns when its own is committed."""
    store = Calls(Finished())
    writer, _, _ = finisher(monkeypatch, store)
    many = [ending(claimed()) for _ in range(450)]
    tasks = [asyncio.create_task(writer.finish(each)) for each in many]
    await steps()
    async with running(writer.run()):
        await asyncio.wait_for(asyncio.gather(*tasks), 10)

    assert [200, 200, 50] == [len(batch) for batch, _order in store.calls]
    assert many == [each for batch, _order in store.calls for each in batch]


async def test_one_poisoned_answer_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is halved until the poisoned ending is alone, and all others are written in their order."""
    store = Calls(refuses_poison)
    writer, _, _ = finisher(monkeypatch, store)
    many = [ending(claimed(), reply=POISON if place == 5 else "fine") for place in range(8)]
    async with running(writer.run()):
        await asyncio.wait_for(asyncio.gather(*(writer.finish(each) for each in many)), 10)

    written = [batch for batch, _order in store.calls if all(each.reply != POISON for each in batch)]
    assert [each.id for each in many] == [each.id for batch in written for each in batch]
    (failed,) = [each for batch in written for each in batch if each.status is Status.FAILED]
    assert (many[5].id, many[5].fence, None, ()) == (failed.id, failed.fence, failed.reply, failed.said)
    assert failed.error is not None
    assert ErrorCode.REFUSED_BY_DATABASE is failed.error[0]


async def test_turns_that_go_back_are_looked_for_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the commit, claiming receives the delay of each turn that went back to the queue, and of no other."""
    writer, _, slots = finisher(monkeypatch, Calls(Finished()))
    back = ending(claimed(), Status.PENDING, delay=2.5)
    async with running(writer.run()):
        await asyncio.wait_for(asyncio.gather(writer.finish(back), writer.finish(ending(claimed()))), 10)

    assert [2.5] == slots.due


async def test_a_failure_that_is_refused_too_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending that can never be written delays no other."""
    store = Calls(DataRefusedError("22P05"), DataRefusedError("22P05"), Finished())
    writer, _, _ = finisher(monkeypatch, store)
    async with running(writer.run()):
        await asyncio.wait_for(writer.finish(ending(claimed())), 10)
        await asyncio.wait_for(writer.finish(ending(claimed())), 10)

    assert 3 == len(store.calls)


async def test_the_database_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same endings are retried until Postgres is back, and no caller returns before that."""
    store = Calls(away(), away(), Finished(announcements=["reply"]))  # type: ignore[list-item]
    writer, announced, _ = finisher(monkeypatch, store)
    async with running(writer.run()):
        await asyncio.wait_for(writer.finish(ending(claimed())), 10)

    assert 3 == len(store.calls)
    assert store.calls[0] == store.calls[1] == store.calls[2]
    assert ["reply"] == announced


async def test_replies_and_promotions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replies are passed on in order, and a look follows if turns became runnable that were not claimed."""
    store = Calls(Finished(announcements=["earlier", "new"], promoted=1), Finished())  # type: ignore[list-item]
    writer, announced, slots = finisher(monkeypatch, store)
    async with running(writer.run()):
        await writer.finish(ending(claimed()))
        assert (["earlier", "new"], 1) == (announced, slots.wakes)
        await writer.finish(ending(claimed()))

    assert (["earlier", "new"], 1) == (announced, slots.wakes)


async def test_the_next_turns_start_with_the_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns that were claimed together with endings run at once, and nothing is looked for."""
    turn = claimed()
    writer, _, slots = finisher(monkeypatch, store := Calls(Finished(promoted=1, claimed=[turn])))
    slots.order = ClaimOrder(turn.worker_id, 2)
    async with running(writer.run()):
        await writer.finish(ending(claimed()))

    assert ([turn], 0) == (slots.started, slots.wakes)
    assert [slots.order] == [order for _, order in store.calls]


async def test_a_claim_without_an_answer_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endings whose commit has an unknown outcome may have claimed turns, and these are searched for."""
    writer, _, slots = finisher(monkeypatch, Calls(away(), Finished()))
    async with running(writer.run()):
        await writer.finish(ending(claimed()))

    assert 1 == slots.doubts


async def test_fenced_endings_are_counted_unless_they_were_written_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid fence after a commit of unknown outcome is not counted, as it may be our own write."""
    fenced = Finished(fenced=[claimed().ref])
    for results, counted in (((fenced,), 1), ((away(), fenced), 0)):
        writer, _, _ = finisher(monkeypatch, Calls(*results))
        async with running(writer.run()):
            await writer.finish(ending(claimed()))
        assert counted == writer._metrics.fenced._value.get()


async def test_a_caller_that_is_cancelled_does_not_take_its_ending_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ending is written even if its caller is cancelled."""
    store = Calls(Finished())
    writer, _, _ = finisher(monkeypatch, store)
    task = asyncio.create_task(writer.finish(ending(claimed())))
    await steps()
    task.cancel()
    async with running(writer.run()):
        await eventually(lambda: store.calls)

    assert task.cancelled()
