"""Promises of gateway/http/kept_counts.py: slow counts are cached, fast ones are not."""

import asyncio

from gateway.http.kept_counts import Counts, KeptCounts
from tests.support.people import Clock


class Count:
    """A count that takes this many seconds by the clock."""

    def __init__(self, seconds: float) -> None:
        self.clock, self.seconds, self.made = Clock(), seconds, 0

    async def __call__(self) -> Counts:
        """The next count."""
        await asyncio.sleep(0)
        self.clock.now += self.seconds
        self.made += 1
        return {"made": self.made}


async def test_a_dear_count_is_told_again_for_as_long_as_it_was_dear() -> None:
    """A slow count is cached for a multiple of the time it took, so that counting never takes much of the time."""
    count = Count(0.5)
    kept = KeptCounts(count.clock)

    first = await kept.get("ada", count)
    count.clock.now += 9.5
    again = await kept.get("ada", count)
    count.clock.now += 1.0

    assert ({"made": 1}, {"made": 1}, {"made": 2}) == (first, again, await kept.get("ada", count))


async def test_a_cheap_count_is_made_each_time() -> None:
    """A fast count is made for every call, so that it is current."""
    count = Count(0.01)
    kept = KeptCounts(count.clock)

    assert [{"made": 1}, {"made": 2}] == [await kept.get("ada", count) for _ in range(2)]


async def test_those_who_ask_at_once_are_told_one_count() -> None:
    """Calls of one owner that come at the same time share one count."""
    count, other = Count(0.01), Count(0.01)
    kept = KeptCounts(count.clock)

    told = await asyncio.gather(*(kept.get("ada", count) for _ in range(24)), kept.get("bob", other))

    assert ([{"made": 1}] * 25, 1, 1) == (told, count.made, other.made)
