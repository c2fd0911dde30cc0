"""Promises of gateway/owner_turns.py: calls of one owner never delay those of another."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest

from gateway.owner_turns import OwnerTurns
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import steps

ADA, BOB = ("default", "ada"), ("default", "bob")


class Calls:
    """Calls that run until they are released."""

    def __init__(self, max_running: int | None, max_seconds: float = 60, rest: float = 0.0) -> None:
        self.turns = OwnerTurns(max_running, max_waiting=60, max_seconds=max_seconds, rest=rest)
        self.running, self.done, self.released = 0, 0, asyncio.Event()

    async def call(self, owner: tuple[str, str]) -> None:
        """One call."""
        async with self.turns.turn(owner):
            self.running += 1
            await self.released.wait()
            self.running -= 1
            self.done += 1


async def test_one_owner_runs_a_few_at_once_and_others_are_not_behind_them() -> None:
    """Further calls of an owner wait their turn, and each one runs."""
    calls = Calls(4)
    async with asyncio.TaskGroup() as group:
        for _ in range(24):
            group.create_task(calls.call(ADA))
        await steps()
        assert 4 == calls.running
        group.create_task(calls.call(BOB))
        await steps()
        assert 5 == calls.running
        calls.released.set()

    assert 25 == calls.done
    assert {} == calls.turns._owners


async def test_who_has_far_too_many_is_refused_at_once() -> None:
    """At most 64 calls of one owner run or wait, however many are sent; cancelled ones do not count."""
    calls = Calls(4)
    made = [asyncio.create_task(calls.call(ADA)) for _ in range(64)]
    await steps()

    with pytest.raises(OrchestraError) as caught:
        await calls.call(ADA)

    assert (ErrorCode.TOO_MANY_CALLS, 1.0) == (caught.value.code, caught.value.retry_after)
    made[-1].cancel()
    with suppress(asyncio.CancelledError):
        await made[-1]
    another = asyncio.create_task(calls.call(ADA))
    calls.released.set()
    await asyncio.gather(*made[:-1], another)


async def test_nobody_waits_where_there_is_one_caller() -> None:
    """In open mode no call waits."""
    calls = Calls(None)
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(calls.call(ADA))
        await steps()
        assert 100 == calls.running
        calls.released.set()


async def test_a_call_whose_turn_does_not_come_is_refused() -> None:
    """A call behind others that hang gets an error after the time limit, and later calls get their turn."""
    calls = Calls(1, max_seconds=0.01)
    hanging = asyncio.create_task(calls.call(ADA))
    await steps()

    with pytest.raises(OrchestraError) as caught:
        await calls.call(ADA)

    assert ErrorCode.TOO_MANY_CALLS is caught.value.code
    calls.released.set()
    await asyncio.gather(hanging, calls.call(ADA))
    assert (2, {}) == (calls.done, calls.turns._owners)


async def test_an_owner_whose_calls_queue_rests_while_another_owner_calls() -> None:
    """The next call of a busy owner does not follow at once, and it does follow."""
    calls = Calls(1, rest=1e9)
    made = [asyncio.create_task(calls.call(owner)) for owner in (BOB, ADA, ADA)]
    await steps()

    calls.released.set()
    await steps()

    assert 2 == calls.done
    await asyncio.gather(*made)
    assert (3, {}) == (calls.done, calls.turns._owners)


async def test_turns_that_are_given_back_during_a_rest_are_free_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next calls of a busy owner follow in a group: a call that ends during a rest does not begin another one."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("gateway.owner_turns.time", clock)
    calls = Calls(2, rest=1.0)
    async with calls.turns.turn(BOB):
        pass
    async with calls.turns.turn(ADA):
        async with calls.turns.turn(ADA):
            made = [asyncio.create_task(calls.call(ADA)) for _ in range(6)]
            await steps()
            assert 0 == calls.running
        clock.now = 0.5  # The call that began first ends in the rest of the other one, which took no time.

    await steps()

    assert 2 == calls.running
    calls.released.set()
    await steps()
    assert all(each.done() for each in made)


async def test_an_owner_that_calls_alone_does_not_rest() -> None:
    """Without other callers the queue of one owner runs at full speed."""
    calls = Calls(1, rest=1e9)
    made = [asyncio.create_task(calls.call(ADA)) for _ in range(4)]
    await steps()

    calls.released.set()
    await steps()

    assert all(each.done() for each in made)
