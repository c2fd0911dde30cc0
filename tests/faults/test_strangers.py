"""The campaign's strangers: the connections they open test exactly the server's limits."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from faults.injected import Injected
from faults.strangers import HEADS, REFUSED, besiege
from gateway.http.prefer import read_prefer
from orchestra.http import server as http_server
from orchestra.http.client_address import Proxies
from orchestra.http.server import MAX_HEAD_BYTES, server_config
from tests.support.waiting import eventually

KEY = "orc_key"


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any call whose head was read to its end with 404."""
    del receive
    (prefer,) = (value.decode() for name, value in scope["headers"] if name == b"prefer")
    assert not read_prefer([prefer])
    await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def url(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A server that checks half-open connections as often as it can."""
    monkeypatch.setattr(http_server, "LOOK_SECONDS", 0.01)
    config = server_config(not_found, Proxies(()), port=0, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    monkeypatch.setattr(server, "install_signal_handlers", lambda: None, raising=False)
    running = asyncio.create_task(server._serve())
    await eventually(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await running


async def test_a_siege_meets_every_bound(url: str) -> None:
    """Heads are refused for length and lines, connections for age and number; expensive valid heads are read."""
    done = Injected("siege", 0)
    expected = ("half-open: 408", "half-open: 429", "long head: 431", "many lines: 431", "costly Prefer: 404")
    siege = asyncio.create_task(besiege(url, KEY, done))
    await eventually(lambda: siege.done() or all(done.counts[each] for each in expected))
    siege.cancel()
    await asyncio.wait([siege])

    assert siege.cancelled()
    assert done.counts[REFUSED] == sum(n for name, n in done.counts.items() if name[-3:] in ("408", "429", "431"))


@pytest.mark.parametrize("kind", ["half-open", "costly Prefer"])
def test_a_head_is_within_the_bounds(kind: str) -> None:
    """A head that must be read is never refused for its length first."""
    assert len(HEADS[kind](KEY)) < MAX_HEAD_BYTES
