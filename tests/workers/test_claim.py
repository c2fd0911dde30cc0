"""Promises of workers/claim.py: free slots are filled, never over-filled, and every turn that started ends."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from orchestra.store.claims import Claimed, ClaimOrder
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.endings import HeldModel
from schemas.errors import ErrorCode
from tests.support.fakes import QUICK, running, steps
from tests.support.records import claimed
from tests.support.waiting import eventually
from workers import claim
from workers.claim import Slots
from workers.flight import Flight
from workers.lease import Lease
from workers.metrics import Metrics
from workers.outcome import Cancelled, Interrupted, LeaseLost
from workers.pauses import Pauses
from workers.shares import Shares
from workers.throttle import Throttle
from workers.timings import Timings

SELDOM = Timings(look_for_turns=3600, max_look_for_turns=3600)


@dataclass
class Queue:
    """A fake store with fake turns: those that can be claimed, those that run, and how each ended."""

    runnable: list[Claimed] = field(default_factory=list)
    mine: list[Claimed] = field(default_factory=list)
    orders: list[int] = field(default_factory=list)
    ended: list[tuple[Claimed, object]] = field(default_factory=list)
    let_end: asyncio.Event = field(default_factory=asyncio.Event)
    let_write: asyncio.Event = field(default_factory=asyncio.Event)
    open_now: int = 0
    most_open: int = 0
    lose_next_answer: bool = False

    def take(self, limit: int) -> list[Claimed]:
        """Claim as Postgres would."""
        taken, self.runnable = self.runnable[:limit], self.runnable[limit:]
        self.mine += taken
        return taken

    async def claim(self, _database: object, order: ClaimOrder) -> list[Claimed]:
        """Claim; the answer may be lost after the commit."""
        self.orders.append(order.limit)
        taken = self.take(order.limit)
        await asyncio.sleep(0)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise DatabaseUnavailableError("ConnectionDoesNotExistError")
        return taken

    async def held(self, _database: object, _worker_id: object) -> list[Claimed]:
        """The turns that the worker holds."""
        await asyncio.sleep(0)
        return list(self.mine)

    def run(self, flights: Sequence[Flight]) -> list[Coroutine[Any, Any, None]]:
        """Turns that run until they are released or stopped, and then write their ending."""
        return [self._run(flight) for flight in flights]

    async def _run(self, flight: Flight) -> None:
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            await self.let_end.wait()
        except asyncio.CancelledError:
            if flight.stopped is None:
                raise
        flight.end()
        why = flight.stopped
        try:
            await self.let_write.wait()
            self.ended.append((flight.turn, why))
            self.mine.remove(flight.turn)
        finally:
            self.open_now -= 1


def slots(monkeypatch: pytest.MonkeyPatch, queue: Queue, limit: int = 10, timings: Timings = QUICK) -> Slots:
    """Slots on this queue."""
    monkeypatch.setattr(claim.claims, "claim", queue.claim)
    monkeypatch.setattr(claim.claims, "held", queue.held)
    database: Any = None
    lease, shares = Lease(database, Metrics()), Shares(limit, 75, 90)
    return Slots(database, Metrics(), lease, Throttle(limit), shares, Pauses(), limit, queue.run, timings)


@pytest.fixture
def queue() -> Queue:
    """A queue whose endings are written at once."""
    made = Queue()
    made.let_write.set()
    return made


async def test_free_slots_are_filled_and_no_more(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """As many turns run as there are slots, and the next one starts when one has ended."""
    queue.runnable = [claimed() for _ in range(25)]
    filled = slots(monkeypatch, queue)
    async with running(filled.run()):
        await eventually(lambda: queue.open_now == 10)
        await steps()
        assert 15 == len(queue.runnable)
        queue.let_end.set()
        await eventually(lambda: len(queue.ended) == 25)

    assert 10 == queue.most_open


async def test_the_limit_holds_with_intake_at_work(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """Turns that intake may claim count from its order on, and no order has a negative limit."""
    filled = slots(monkeypatch, queue)
    queue.let_end.set()

    async def intake() -> None:
        for _ in range(200):
            queue.runnable += [claimed() for _ in range(3)]
            with filled.intake_order() as order:
                assert order is None or 0 < order.limit <= 10
                taken = queue.take(order.limit) if order else []
                await asyncio.sleep(0)
                filled.start(taken)

    async with running(filled.run()):
        await asyncio.gather(intake(), intake())
        await eventually(lambda: len(queue.ended) == 1200)

    assert queue.most_open <= 10
    assert all(0 < limit <= 10 for limit in queue.orders)


async def test_intake_claims_only_when_nothing_else_is_runnable(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """After a full claim intake gets no order, so that a new record cannot overtake a more urgent turn."""
    filled = slots(monkeypatch, queue, limit=4)
    with filled.intake_order() as order:
        assert order is not None
    queue.runnable = [claimed() for _ in range(10)]
    async with running(filled.run()):
        await eventually(lambda: queue.open_now == 4)
        with filled.intake_order() as order:
            assert order is None


async def test_a_stop_before_the_first_step_still_ends_the_turn(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """A turn that was cancelled before its task's first step still ends with its reason."""
    filled = slots(monkeypatch, queue)
    born_cancelled, stopped = claimed(cancelled=True), claimed()
    queue.mine = [born_cancelled, stopped]

    filled.start([born_cancelled, stopped])
    filled.stop([stopped.ref], Interrupted())
    await asyncio.wait_for(filled.until_empty(), 10)

    assert {born_cancelled.id: Cancelled(), stopped.id: Interrupted()} == {t.id: why for t, why in queue.ended}


async def test_the_first_reason_to_stop_counts(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """A second stop changes nothing, and neither does one for a turn that does not run here."""
    filled = slots(monkeypatch, queue)
    queue.mine = [turn := claimed()]
    filled.start([turn])
    await steps()

    filled.stop([turn.ref, claimed().ref], Cancelled())
    filled.stop_all(LeaseLost())
    await asyncio.wait_for(filled.until_empty(), 10)

    assert [(turn, Cancelled())] == queue.ended


async def test_a_turn_that_is_being_written_is_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn whose ending is being written is not stopped, and a drain waits for it."""
    queue = Queue()
    filled = slots(monkeypatch, queue)
    queue.mine = [turn := claimed()]
    filled.start([turn])
    queue.let_end.set()
    await steps()

    filled.stop_all(Interrupted())
    await steps()
    assert 1 == queue.open_now
    queue.let_write.set()
    await asyncio.wait_for(filled.until_empty(), 10)

    assert [(turn, None)] == queue.ended


async def test_a_claim_whose_answer_was_lost_is_found_again(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """Turns of a committed claim whose answer was lost are found and run once."""
    queue.runnable = [claimed() for _ in range(6)]
    filled = slots(monkeypatch, queue, limit=4)
    queue.lose_next_answer = True
    async with running(filled.run()):
        await eventually(lambda: queue.open_now == 4)
        queue.let_end.set()
        await eventually(lambda: len(queue.ended) == 6)

    assert {1} == set(Counter(turn.id for turn, _ in queue.ended).values())
    assert queue.most_open <= 4


async def test_intakes_claim_whose_answer_was_lost_is_found_again(
    monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    """Turns of intake's claim whose answer was lost are found, and each runs once."""
    turn = claimed()
    filled = slots(monkeypatch, queue)
    async with running(filled.run()):
        with filled.intake_order():
            queue.mine.append(turn)
        filled.doubt()
        await eventually(lambda: queue.open_now == 1)
        filled.start([turn])
        await steps()
        assert 1 == queue.open_now


async def test_a_turn_that_was_taken_away_and_claimed_again_runs(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """A turn claimed again runs while its old attempt is still stopping, and a drain waits for both."""
    filled = slots(monkeypatch, queue)
    old = claimed()
    new = claimed(id=old.id, fence=2)
    queue.mine = [old, new]
    filled.start([old])
    await steps()

    filled.stop_all(LeaseLost())
    filled.start([new])
    await steps()
    queue.let_end.set()
    await asyncio.wait_for(filled.until_empty(), 10)

    assert [(old, LeaseLost()), (new, None)] == queue.ended


async def test_a_database_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """Claiming continues after an outage of Postgres."""
    filled = slots(monkeypatch, queue)
    answers = iter([DatabaseUnavailableError("57P01")] * 3)

    async def claim_or_fail(database: object, order: ClaimOrder) -> list[Claimed]:
        for error in answers:
            raise error
        return await queue.claim(database, order)

    monkeypatch.setattr(claim.claims, "claim", claim_or_fail)
    queue.runnable = [claimed()]
    async with running(filled.run()):
        await eventually(lambda: queue.open_now == 1)


async def test_a_turn_that_crashes_frees_its_slot(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """A turn that crashes frees its slot, and the worker continues."""

    async def crash() -> None:
        raise RuntimeError

    filled = slots(monkeypatch, queue, limit=1)
    filled._run_turns = lambda flights: [crash() for _ in flights]
    filled.start([claimed()])

    await asyncio.wait_for(filled.until_empty(), 10)

    with filled.intake_order() as order:
        assert order is not None


async def test_a_slot_that_falls_free_is_filled_at_once(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """A slot that becomes free is filled at once, without waiting for the next regular look."""
    limited = slots(monkeypatch, queue, limit=2, timings=Timings(look_for_turns=3600))
    queue.runnable = [claimed()]
    async with running(limited.run()):
        await eventually(lambda: queue.open_now == 1)
        queue.runnable = [claimed(), claimed()]
        with limited.intake_order() as order:
            assert order
            limited.start(queue.take(order.limit))
        limited.wake()  # As intake does if it took in more turns than there were slots.
        await steps()
        assert len(queue.runnable) == 1
        queue.let_end.set()
        await eventually(lambda: len(queue.ended) == 3)


async def test_looks_become_rarer_until_there_is_work(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """The pause doubles with each look that finds nothing, up to its maximum, and starts small again after a claim."""
    filled = slots(monkeypatch, queue, timings=Timings(look_for_turns=0.001, max_look_for_turns=0.004))
    pauses: list[float] = []

    async def claim_and_note(database: object, order: ClaimOrder) -> list[Claimed]:
        pauses.append(filled._pause)
        return await queue.claim(database, order)

    monkeypatch.setattr(claim.claims, "claim", claim_and_note)
    async with running(filled.run()):
        await eventually(lambda: len(pauses) >= 5)
        queue.runnable = [claimed()]
        await eventually(lambda: queue.open_now == 1)
        found = len(pauses)
        await eventually(lambda: len(pauses) >= found + 2)

    assert [0.001, 0.002, 0.004, 0.004, 0.004] == pauses[:5]
    assert 0.002 in pauses[5:]


async def test_a_turn_that_is_known_to_be_due_is_claimed_without_a_regular_look(
    monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    """When a turn is due, a look comes, however rare the regular looks are."""
    filled = slots(monkeypatch, queue, timings=SELDOM)
    async with running(filled.run()):
        await eventually(lambda: queue.orders)
        queue.runnable = [claimed()]
        filled.wake_in(0.01)
        await eventually(lambda: queue.open_now == 1)


async def test_timers_for_due_turns_are_bounded(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """Many turns that are due at about the same time share a timer, and those of another day have none."""
    filled = slots(monkeypatch, queue)
    for number in range(10_000):
        filled.wake_in(300 + number / 1e6)
        filled.wake_in(86_400)

    assert 1 <= len(filled._timers) <= 3


async def test_a_model_is_tried_when_its_hold_ends(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """When a model is no longer held back, a look comes, however rare the regular looks are."""
    filled = slots(monkeypatch, queue, timings=SELDOM)
    hold = [HeldModel("m", ErrorCode.OVERLOADED, "why", 0.01)]
    monkeypatch.setattr(filled._throttle, "held", lambda: hold)
    async with running(filled.run()):
        await eventually(lambda: queue.orders)
        queue.runnable = [claimed()]
        await eventually(lambda: queue.open_now == 1)


async def test_after_closing_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """After `close` claiming ends, and intake gets no order."""
    filled = slots(monkeypatch, queue)
    async with running(filled.run()) as (run,):
        await eventually(lambda: queue.orders)
        filled.close()
        await asyncio.wait_for(run, 10)

    with filled.intake_order() as order:
        assert order is None


async def test_a_turn_that_takes_its_next_number_is_not_run_twice(
    monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    """A search for forgotten claims during a renewal never runs the turn a second time."""
    filled = slots(monkeypatch, queue)
    turn = claimed()
    filled.start([turn])
    (flight,) = filled._running.values()
    queue.mine = [replace(turn, fence=2)]
    filled.doubt()
    async with running(filled.run()):
        with flight.renewing():
            await steps()
            assert 1 == queue.open_now
            flight.turn = replace(turn, fence=2)
        await eventually(lambda: queue.orders)
        assert 1 == queue.open_now
        queue.let_end.set()
        await eventually(lambda: queue.ended)


async def test_endings_order_for_their_own_slots_and_one_more(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """Full slots get as many turns as end with the claim; with free slots, one more shows whether others are left."""
    queue.runnable = [claimed() for _ in range(4)]
    filled = slots(monkeypatch, queue, limit=4)
    filled.start(queue.take(4))
    with filled.ending_order(2) as order:
        assert order is not None
        assert 2 == order.limit
    queue.let_end.set()
    await filled.until_empty()

    with filled.ending_order(2) as order:
        assert order is not None
        assert (3, True) == (order.limit, order.only_after_promotion)
        filled.start_next(order, [claimed() for _ in range(3)])
    with filled.ending_order(1) as order:
        assert order is not None
        assert not order.only_after_promotion


async def test_endings_claim_nothing_while_claims_are_in_doubt(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> None:
    """While a claim may have been committed without its answer, slots that look free may be taken."""
    filled = slots(monkeypatch, queue)
    filled.doubt()

    with filled.ending_order(1) as order:
        assert order is None
    with filled.intake_order() as order:
        assert order is None
