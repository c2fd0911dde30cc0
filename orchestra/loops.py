"""Loops that survive errors: run again after a pause, as often as needed."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

# Pause between two runs in seconds: doubled each time, with jitter; reset after a run that lasted.
FIRST_PAUSE_SECONDS = 0.5
LAST_PAUSE_SECONDS = 15.0
LASTED_SECONDS = 10.0

_log = structlog.get_logger()

Errors = tuple[type[Exception], ...]
Work = Callable[[], Awaitable[Any]]


async def keep_running(
    work: Work,
    event: str,
    *,
    expected: Errors = (),
    until: asyncio.Event | None = None,
    on_bug: Callable[[], None] = lambda: None,
) -> None:
    """Run ``work`` until it returns or is cancelled; after an error, run it again.

    Each error is logged as ``event``. Errors in ``expected`` are warnings, with what they tell operators (``told``);
    all others are bugs: they are logged with their location, and ``on_bug`` is called. Once ``until`` is set there are
    no further runs.
    """
    pause = FIRST_PAUSE_SECONDS
    clock = asyncio.get_running_loop().time
    began = clock()
    while not await _survived(work, event, expected, on_bug) and not (until and until.is_set()):
        if clock() - began > LASTED_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        await _pause(pause * random.uniform(0.5, 1.0), until)
        pause = min(2 * pause, LAST_PAUSE_SECONDS)
        began = clock()


async def regularly(
    seconds: float,
    work: Work,
    event: str,
    *,
    expected: Errors = (),
    when: asyncio.Event | None = None,
    rest: float = 0.0,
) -> None:
    """Run ``work`` every ``seconds``, or up to a quarter sooner, until cancelled; errors as in ``keep_running``.

    ``when``: while it is not set there is nothing to do, and no pause begins. ``rest``: a pause is at least this many
    times as long as the work before it took, up to ``LAST_PAUSE_SECONDS``.
    """
    clock, took = asyncio.get_running_loop().time, 0.0
    while True:
        if when:
            await when.wait()
        # Jitter, so that processes do not run it at the same moment.
        await asyncio.sleep(max(seconds * random.uniform(0.75, 1.0), min(rest * took, LAST_PAUSE_SECONDS)))
        began = clock()
        await _survived(work, event, expected)
        took = clock() - began


@asynccontextmanager
async def beside(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops next to the body, and cancel them after it."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _survived(work: Work, event: str, expected: Errors, on_bug: Callable[[], None] = lambda: None) -> bool:
    """Run it once; False after an error. An unrequested CancelledError counts as one: clients leak their own."""
    try:
        await work()
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if task and task.cancelling():
            raise
        if isinstance(error, expected):
            reason = {"reason": error.told} if hasattr(error, "told") else {}
            _log.warning(event, error=type(error).__name__, **reason)
        else:
            _log.error(event, exc_info=error)
            on_bug()
        return False
    return True


async def _pause(seconds: float, until: asyncio.Event | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (until or asyncio.Event()).wait()
