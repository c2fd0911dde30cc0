"""Promises of gateway/http/list_calls.py: lists of one owner leave connections for others; dear counts are kept."""

import asyncio
from contextlib import suppress

import pytest

from gateway.http.list_calls import Counts, KeptCounts, ListCalls
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import steps
from tests.support.people import Clock

ADA, BOB = ("default", "ada"), ("default", "bob")


class Lists:
    """Lists that are made until they are let go."""

    def __init__(self, most: int | None) -> None:
        self.calls, self.making, self.done, self.go_on = ListCalls(most), 0, 0, asyncio.Event()

    async def make(self, owner: tuple[str, str]) -> None:
        """One list."""
        async with self.calls.turn(owner):
            self.making += 1
            await self.go_on.wait()
            self.making -= 1
            self.done += 1


async def test_one_owner_makes_few_at_once_and_others_are_not_behind_them() -> None:
    """What is more waits its turn, and every one is made."""
    lists = Lists(4)
    async with asyncio.TaskGroup() as group:
        for _ in range(24):
            group.create_task(lists.make(ADA))
        await steps()
        assert 4 == lists.making
        group.create_task(lists.make(BOB))
        await steps()
        assert 5 == lists.making
        lists.go_on.set()

    assert 25 == lists.done
    assert {} == lists.calls._owners


async def test_who_has_far_too_many_is_refused_at_once() -> None:
    """There are no more than 64 under way, whatever is sent; those that left do not count."""
    lists = Lists(4)
    made = [asyncio.create_task(lists.make(ADA)) for _ in range(64)]
    await steps()

    with pytest.raises(OrchestraError) as caught:
        await lists.make(ADA)

    assert (ErrorCode.TOO_MANY_CALLS, 1.0) == (caught.value.code, caught.value.retry_after)
    made[-1].cancel()
    with suppress(asyncio.CancelledError):
        await made[-1]
    another = asyncio.create_task(lists.make(ADA))
    lists.go_on.set()
    await asyncio.gather(*made[:-1], another)


async def test_nobody_waits_where_there_is_one_caller() -> None:
    """In open mode."""
    lists = Lists(None)
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(lists.make(ADA))
        await steps()
        assert 100 == lists.making
        lists.go_on.set()


class Count:
    """A count that takes so many seconds by the clock."""

    def __init__(self, seconds: float) -> None:
        self.clock, self.seconds, self.made = Clock(), seconds, 0

    async def __call__(self) -> Counts:
        """The next count."""
        await asyncio.sleep(0)
        self.clock.now += self.seconds
        self.made += 1
        return {"made": self.made}


async def test_a_dear_count_is_told_again_for_as_long_as_it_was_dear() -> None:
    """So that counting never takes more than a small part of the time, however much there is to count."""
    count = Count(0.5)
    kept = KeptCounts(count.clock)

    first = await kept.get("ada", count)
    count.clock.now += 9.5
    again = await kept.get("ada", count)
    count.clock.now += 1.0

    assert ({"made": 1}, {"made": 1}, {"made": 2}) == (first, again, await kept.get("ada", count))


async def test_a_cheap_count_is_made_each_time() -> None:
    """Who counts few things is told how many there are now."""
    count = Count(0.01)
    kept = KeptCounts(count.clock)

    assert [{"made": 1}, {"made": 2}] == [await kept.get("ada", count) for _ in range(2)]


async def test_those_who_ask_at_once_are_told_one_count() -> None:
    """One of the same, of each owner."""
    count, other = Count(0.01), Count(0.01)
    kept = KeptCounts(count.clock)

    told = await asyncio.gather(*(kept.get("ada", count) for _ in range(24)), kept.get("bob", other))

    assert ([{"made": 1}] * 25, 1, 1) == (told, count.made, other.made)
