"""A caller who leaves frees what waited for him; the work goes on."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

_Result = TypeVar("_Result")


async def unless_gone(request: Request, waiting: Coroutine[Any, Any, _Result]) -> _Result:
    """The result, unless the caller disconnects first: then raises ``ClientDisconnect``. The body must be read."""
    working, leaving = asyncio.ensure_future(waiting), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
