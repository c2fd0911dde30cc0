"""Promises of workers/flight.py: a turn that runs here is stopped once, for one reason, and not when it is over."""

import asyncio

import pytest

from tests.support.records import claimed
from workers.flight import Flight, Stage
from workers.outcome import Cancelled, Interrupted, LeaseLost


async def fly(flight: Flight, steps: list[str]) -> None:
    try:
        steps.append("begun")
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        steps.append("stopped")


async def test_the_first_reason_to_stop_counts() -> None:
    """The first reason to stop counts, and later ones change nothing."""
    flight, steps = Flight(claimed()), list[str]()
    flight.run(fly(flight, steps))

    for why in (Interrupted(), Cancelled(), LeaseLost()):
        flight.stop(why)
    await asyncio.wait_for(flight.landed(), 10)

    assert (Interrupted(), ["begun", "stopped"]) == (flight.stopped, steps)


async def test_a_flight_that_is_over_is_not_stopped() -> None:
    """A flight that is over cannot be stopped, so that its ending is written."""
    flight, written = Flight(claimed()), asyncio.Event()

    async def ending() -> None:
        flight.end()
        await written.wait()

    task = flight.run(ending())
    await asyncio.sleep(0)
    flight.stop(Cancelled())
    await asyncio.sleep(0)
    written.set()
    await asyncio.wait_for(flight.landed(), 10)

    assert (Stage.OVER, False) == (flight.stage, task.cancelled())


async def test_a_renewal_leaves_its_fence_in_doubt() -> None:
    """During a renewal both fences are possible; afterwards there is one again, even if it failed."""
    flight = Flight(claimed())
    first = flight.turn.fence

    with pytest.raises(RuntimeError), flight.renewing():
        assert {first, first + 1} == flight.fences
        raise RuntimeError

    assert ({first}, Stage.RUNNING) == (flight.fences, flight.stage)
