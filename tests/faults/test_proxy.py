"""The proxy's toxics, each between a real client and a real server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from faults.proxy import Proxy, proxy
from faults.toxics import Bandwidth, Latency, LimitData, ResetPeer, Slicer, SlowClose, Timeout, Toxic, Way

TEXT = bytes(range(256)) * 64


class Echo:
    """Echoes everything; ``reads`` are the pieces as they came in, ``left`` is set once a client has gone."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.reads.append(data)
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()
        self.left.set()


@asynccontextmanager
async def echo(*toxics: Toxic) -> AsyncIterator[tuple[Proxy, Echo]]:
    served = Echo()
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    async with proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as opened:
        opened.toxics = toxics
        yield opened, served
    server.close()


async def said_back(opened: Proxy, text: bytes = TEXT) -> bytes:
    """What comes back for a text, until the connection ends or all of it is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", opened.port)
    writer.write(text)
    got = b""
    try:
        while len(got) < len(text) and (data := await reader.read(65536)):
            got += data
    finally:
        writer.close()
    return got


@pytest.mark.parametrize("toxics", [(), (Latency(seconds=0.01, jitter=0.005),), (Bandwidth(bytes_per_second=1e6),),
                                    (Slicer(size=100, variation=50),), (SlowClose(seconds=0.01),),
                                    (Slicer(size=4000), Latency(seconds=0.01))])  # fmt: skip
async def test_what_passes_is_what_was_sent(toxics: Sequence[Toxic]) -> None:
    """Whatever slows the bytes down, each arrives once and in order."""
    async with echo(*toxics) as (opened, _):
        assert await said_back(opened) == TEXT


async def test_latency_keeps_bytes_back() -> None:
    """With latency no byte arrives before its time, in the direction that was asked for."""
    async with echo(Latency(seconds=0.2, way=Way.DOWN)) as (opened, _):
        clock = asyncio.get_running_loop().time
        began = clock()
        assert await said_back(opened, b"x") == b"x"
        assert clock() - began >= 0.19


async def test_a_slicer_cuts_pieces_up() -> None:
    """The server gets several pieces where the client sent one."""
    async with echo(Slicer(size=10, seconds=0.001, way=Way.UP)) as (opened, served):
        await said_back(opened, b"x" * 100)
        assert len(served.reads) > 1


async def test_limit_data_ends_the_connection_at_its_byte() -> None:
    """Exactly the limit of bytes comes through, then the end."""
    async with echo(LimitData(max_bytes=1000, way=Way.DOWN)) as (opened, _):
        assert await said_back(opened) == TEXT[:1000]


async def test_a_timeout_passes_nothing_on_and_closes() -> None:
    """The server gets no byte, and the client gets the end."""
    async with echo(Timeout(seconds=0.05, way=Way.UP)) as (opened, served):
        assert await said_back(opened) == b""
        await served.left.wait()
        assert served.reads == []


async def test_a_black_hole_ends_with_a_cut() -> None:
    """With a timeout of zero the connection hangs until it is cut; then new ones work again."""
    async with echo(Timeout()) as (opened, _):
        hanging = asyncio.create_task(said_back(opened))
        done, _ = await asyncio.wait([hanging], timeout=0.1)
        assert not done
        opened.toxics = ()
        opened.cut()
        with pytest.raises(ConnectionError):
            await hanging
        assert await said_back(opened) == TEXT


async def test_reset_peer_resets() -> None:
    """The client gets a reset, not a clean end."""
    async with echo(ResetPeer(way=Way.DOWN)) as (opened, _):
        with pytest.raises(ConnectionResetError):
            await said_back(opened)


async def test_down_takes_no_connection_until_it_is_up() -> None:
    """While down, the proxy accepts no connection; afterwards everything passes."""
    async with echo() as (opened, served):
        opened.refusing = True
        with pytest.raises(ConnectionResetError):
            await said_back(opened)
        assert served.reads == []
        opened.refusing = False
        assert await said_back(opened) == TEXT


async def test_the_end_of_a_client_reaches_its_server() -> None:
    """The server sees the end of a client that leaves."""
    async with echo() as (opened, served):
        await said_back(opened)
        await asyncio.wait_for(served.left.wait(), 10)
