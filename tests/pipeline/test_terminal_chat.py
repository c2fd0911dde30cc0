"""`orchestra chat` on a real gateway that is killed and restarted in the middle of the reply."""

import asyncio

import httpx

from orchestra.cli.ask import ReplyWaiter, Where
from orchestra.cli.terminal import Screen
from orchestra.transcript import Piece
from tests.support.gateway import own_env
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

SLOW = "simulated:tokens=60,gap_ms=60"


class Shown(Screen):
    """What a person would have seen."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.restarts = 0

    def show(self, piece: Piece) -> None:
        self.pieces.append(piece.text)

    def restart(self) -> None:
        self.restarts += 1


async def test_a_reply_outlives_its_gateway(stack: Stack, services: Services) -> None:
    """After its gateway is killed and restarted in mid reply, the text shown equals the stored reply."""
    services.env |= await own_env(stack)
    await services.llm()
    _, gateway = await asyncio.gather(services.worker(), services.gateway())
    screen = Shown()
    shown = screen.pieces
    body = {"messages": [{"role": "user", "content": "hi"}], "model": SLOW}
    asking = ReplyWaiter(Where(gateway.url), body, screen)
    replying = asyncio.create_task(asking.reply())
    await eventually(lambda: len(shown) > 3 or replying.done())
    await gateway.kill()
    before = len(shown)
    await gateway.start()
    async with asyncio.timeout(120):
        reply = await replying
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as client:
        stored = (await client.get(f"/v1/requests/{asking.request_id}")).json()

    assert 0 < before < len(shown)
    assert not screen.restarts
    assert reply == "".join(shown) == stored["reply"]
