import asyncio

import pytest

from llm_service.gate import Gate, Rate
from schemas.errors import ErrorCode, OrchestraError
from tests.support.llm_server import eventually


class Crowd:
    """Callers that hold a slot until they are let go."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside = 0
        self.go = asyncio.Event()

    async def call(self) -> None:
        async with self.gate.slot():
            self.inside += 1
            await self.go.wait()
            self.inside -= 1


async def test_as_many_wait_as_there_are_slots_and_the_rest_are_sent_away() -> None:
    """With two slots: two run, two wait, the fifth hears 429 with Retry-After 1 at once, and the waiting run later."""
    crowd = Crowd(Gate(2, 60))
    callers = [asyncio.create_task(crowd.call()) for _ in range(4)]
    await eventually(lambda: crowd.inside == 2)
    with pytest.raises(OrchestraError) as refused:
        await crowd.call()
    crowd.go.set()
    await asyncio.gather(*callers)

    assert (refused.value.code, refused.value.retry_after) == (ErrorCode.RATE_LIMITED, 1)


async def test_nobody_waits_for_ever() -> None:
    """A caller that gets no slot in time receives 429."""
    crowd = Crowd(Gate(1, 0.05))
    holder = asyncio.create_task(crowd.call())
    await eventually(lambda: crowd.inside == 1)
    with pytest.raises(OrchestraError):
        await crowd.call()
    crowd.go.set()
    await holder


async def test_who_leaves_gives_the_slot_back() -> None:
    """A caller that is cancelled, inside or waiting, leaves nothing taken."""
    crowd = Crowd(Gate(1, 60))
    callers = [asyncio.create_task(crowd.call()) for _ in range(2)]
    await eventually(lambda: crowd.inside == 1)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    crowd.go.set()

    await asyncio.gather(crowd.call(), crowd.call())


def test_no_minute_has_more_calls_than_it_may() -> None:
    """The limit holds within any 60 seconds; a refused caller learns how long to wait, and is then let in."""
    now = 100.0
    rate = Rate(2, lambda: now)
    rate.take()
    now = 130.0
    rate.take()
    now = 145.0
    with pytest.raises(OrchestraError) as refused:
        rate.take()
    now = 160.0
    rate.take()

    assert (refused.value.code, refused.value.retry_after) == (ErrorCode.RATE_LIMITED, 15.0)
    with pytest.raises(OrchestraError):
        rate.take()
