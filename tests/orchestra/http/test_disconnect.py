"""Promises of orchestra/http/disconnect.py: a client that disconnects stops the work done for it, nothing else does."""

import asyncio
from contextlib import suppress

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from orchestra.http.disconnect import unless_gone


class Caller:
    """A caller, who leaves when told to."""

    def __init__(self) -> None:
        self._left = asyncio.Event()

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()

    async def receive(self) -> Message:
        """What a server receives from the client."""
        await self._left.wait()
        return {"type": "http.disconnect"}


class Work:
    """Takes until it is let go; knows whether it was stopped."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.stopped = False

    async def run(self) -> str:
        """The work."""
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.stopped = True
            raise
        return "done"


async def test_the_result_of_work_for_a_caller_who_stays() -> None:
    """It is handed on, and nothing is left behind."""
    caller, work = Caller(), Work()
    work.go.set()
    before = asyncio.all_tasks()

    assert await unless_gone(caller.receive, work.run()) == "done"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_an_error_of_the_work() -> None:
    """It is raised as it is."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await unless_gone(Caller().receive, fail())


@pytest.mark.parametrize("as_task", [False, True])
async def test_a_caller_who_leaves_stops_the_work(as_task: bool) -> None:
    """The work is cancelled, and the task that asked goes on."""
    caller, work = Caller(), Work()
    asyncio.get_running_loop().call_soon(caller.leave)

    with pytest.raises(ClientDisconnect):
        await unless_gone(caller.receive, asyncio.create_task(work.run()) if as_task else work.run())
    assert work.stopped
    await asyncio.sleep(0)  # Would raise if the task were to be cancelled still.


async def test_a_caller_who_stays_too_long_counts_as_gone() -> None:
    """A limit of time stops the work as leaving does, and is no limit any more once the work is done."""
    caller, work = Caller(), Work()

    with pytest.raises(ClientDisconnect):
        await unless_gone(caller.receive, asyncio.create_task(work.run()), within=0.0)
    await asyncio.sleep(0)
    work.go.set()
    assert await unless_gone(caller.receive, work.run(), within=60) == "done"


async def test_whoever_is_cancelled_is_cancelled() -> None:
    """A cancel from elsewhere ends the task, also when the caller leaves at the same moment."""
    for leaves in (False, True):
        caller, work = Caller(), Work()
        asking = asyncio.create_task(unless_gone(caller.receive, work.run()))
        await work.begun.wait()
        if leaves:
            caller.leave()
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        assert work.stopped


async def test_a_result_at_the_moment_of_leaving_is_no_cancel() -> None:
    """Work that ends just when the caller leaves gives its result or ClientDisconnect, never a cancelled task."""
    for steps in range(6):
        caller, work = Caller(), Work()
        asking = asyncio.create_task(unless_gone(caller.receive, work.run()))
        await work.begun.wait()
        caller.leave()
        for _ in range(steps):
            await asyncio.sleep(0)
        work.go.set()
        await asyncio.wait([asking])
        assert not asking.cancelled()
        assert isinstance(asking.exception(), ClientDisconnect | None)


async def test_who_leaves_as_the_work_ends_cancels_nothing_that_follows() -> None:
    """Once the result is there, what its task does next is not stopped."""

    async def ask(caller: Caller, work: Work) -> None:
        with suppress(ClientDisconnect):
            await unless_gone(caller.receive, work.run())
        for _ in range(6):
            await asyncio.sleep(0)

    for steps in range(6):
        caller, work = Caller(), Work()
        asking = asyncio.create_task(ask(caller, work))
        await work.begun.wait()
        caller.leave()
        for _ in range(steps):
            await asyncio.sleep(0)
        work.go.set()
        await asyncio.wait([asking])
        assert (steps, False) == (steps, asking.cancelled())
