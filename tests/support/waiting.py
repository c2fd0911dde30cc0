"""Waits for what has no event of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeVar

_T = TypeVar("_T")


async def eventually(condition: Callable[[], _T | Awaitable[_T]], seconds: float = 30.0, pause: float = 0.02) -> _T:
    """The first true value that ``condition`` gives; an assertion fails after ``seconds`` without one."""
    limit = asyncio.get_running_loop().time() + seconds
    while True:
        given = condition()
        value: _T = await given if isawaitable(given) else given  # type: ignore[assignment]
        if value:
            return value
        assert asyncio.get_running_loop().time() < limit, f"still {value!r} after {seconds:.0f} s"
        await asyncio.sleep(pause)
