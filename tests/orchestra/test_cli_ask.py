"""A message by the command line, against a gateway that follows a script."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from orchestra.cli.ask import NoReplyError, ask
from tests.support.ports import free_port

SCRIPTS = {
    "good": 'event: pending\ndata: {}\n\nid: 1.0\nevent: delta\ndata: {"text": "Hel"}\n\n: a comment\n\n'
    'event: delta\ndata: {"text": "lo"}\n\nevent: completed\ndata: {"reply": "Hello"}\n\n',
    "restart": 'event: delta\ndata: {"text": "Hi"}\n\nevent: restart\ndata: {"attempt": 2, "text": "Hello"}\n\n'
    "event: completed\ndata: {}\n\n",
    "failed": 'event: failed\ndata: {"code": "auth", "detail": "no key"}\n\n',
    "expired": "event: expired\ndata: {}\n\n",
    "cut": 'event: delta\ndata: {"text": "Hel"}\n\n',
}


async def _answer(request: web.Request) -> web.StreamResponse:
    model = (await request.json())["model"]
    if model not in SCRIPTS:
        return web.json_response({"code": "unknown_model"}, status=422)
    return web.Response(text=SCRIPTS[model], content_type="text/event-stream")


@pytest.fixture
async def gateway() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/v1/messages", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.mark.parametrize(("model", "expected"), [("good", ["Hel", "lo"]), ("restart", ["Hi", "\nHello"])])
async def test_the_reply_is_shown_as_it_arrives(gateway: str, model: str, expected: list[str]) -> None:
    """Each piece of text is shown, a restart on a new line, and nothing else is."""
    shown: list[str] = []
    await ask(gateway, "Hello", shown.append, model=model)

    assert shown == expected


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("failed", "auth: no key"),
        ("expired", "the request was expired"),
        ("cut", "without an ending"),
        ("other", "422 .*unknown_model"),
    ],
)
async def test_no_reply_is_an_error_that_tells_why(gateway: str, model: str, told: str) -> None:
    """A request that ends in any other way, or not at all, is told."""
    with pytest.raises(NoReplyError, match=told):
        await ask(gateway, "Hello", lambda _: None, model=model)


async def test_nobody_there_is_an_error() -> None:
    """A gateway out of reach is told with its address."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(NoReplyError, match=url):
        await ask(url, "Hello", lambda _: None)
