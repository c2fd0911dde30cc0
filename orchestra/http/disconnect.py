"""Cancel the work when the client disconnects."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

_Result = TypeVar("_Result")


async def unless_gone(receive: Receive, work: Awaitable[_Result], *, within: float | None = None) -> _Result:
    """Return the result of ``work``; stop it if the client disconnects first. The body must have been read.

    After ``within`` seconds a client counts as disconnected. Raises ``ClientDisconnect``.
    """
    task, works, gone = asyncio.current_task(), True, False
    assert task

    def stop(_: object) -> None:
        nonlocal gone
        if works:  # This is called one turn after the client has left: by then there may be a result.
            gone = True
            task.cancel()

    leaving = asyncio.ensure_future(_left(receive))
    leaving.add_done_callback(stop)
    limit = asyncio.get_running_loop().call_later(within, leaving.cancel) if within is not None else None
    try:
        return await work
    except asyncio.CancelledError:
        # This task may itself have been cancelled; then it ends.
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        works = False
        if limit:
            limit.cancel()
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
