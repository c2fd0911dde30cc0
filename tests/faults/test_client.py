from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from faults import client, door
from faults.client import Told
from tests.support.ports import free_port


@pytest.mark.parametrize("told", [client.told, door.told])
async def test_an_error_without_a_body_tells_nothing(told: Callable[[aiohttp.ClientResponse], Awaitable[Told]]) -> None:
    """A proxy whose gateway is gone answers for it, and the question is asked again."""

    async def gone(_: web.Request) -> web.Response:
        return web.Response(status=502)

    app = web.Application()
    app.router.add_get("/", gone)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
            assert Told("unknown") == await told(response)
    finally:
        await runner.cleanup()
