"""A TCP proxy on 127.0.0.1 whose connections can be cut, slowed down and corrupted."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from faults.toxics import ConnectionCutError, Piece, Toxic, Way

_MAX_BYTES = 65536
# Limit of pieces in transit; then the sender has to wait, as on a real line.
_MAX_PIECES = 256


class Link:
    """One connection through a proxy."""

    async def forward(self, data: bytes, writer: asyncio.StreamWriter, way: Way) -> None:
        """Write what the toxics left to the other side. Raises ``ConnectionCutError`` to end the connection."""
        del way
        writer.write(data)
        await writer.drain()


class Proxy:
    """Listens on ``port``. All settings may be changed while connections are open.

    ``upstream``: host and port that new connections go to.
    ``refusing``: accept no connections (Toxiproxy's down, with ``cut``). ``toxics``: applied to the bytes in this
    order. ``cut_after``: cut everything once this many more pieces have been passed on, in either direction.
    """

    def __init__(self, host: str, port: int) -> None:
        self.upstream = host, port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refusing = False
        self.toxics: Sequence[Toxic] = ()
        self.cut_after: int | None = None

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in self._open:
            _reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.refusing:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with suppress(OSError, asyncio.CancelledError):  # Only ``close`` cancels it.
            there, back = await asyncio.open_connection(*self.upstream)
            self._open |= {writer, back}
            try:
                await self._connect((reader, writer), (there, back))
            finally:
                self._open -= {writer, back}
        writer.transport.abort()
        self._tasks.discard(task)

    def link(self) -> Link:
        """Create the link of a new connection."""
        return Link()

    async def close(self) -> None:
        """Cut every open connection and wait until they are closed."""
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Forward in both directions until one side has closed, then close the other too."""
        link = self.link()
        ways = [
            asyncio.create_task(self._pass_on(link, client[0], server[1], Way.UP)),
            asyncio.create_task(self._pass_on(link, server[0], client[1], Way.DOWN)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for toxic in self.toxics:
                await toxic.at_end()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (client[1], server[1]):
                writer.close()

    async def _pass_on(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue(_MAX_PIECES)
        reading = asyncio.create_task(_read(reader, pieces))
        passed = 0
        try:
            while piece := await pieces.get():
                async for part in self._poisoned(piece, passed, way):
                    passed += len(part.data)
                    await link.forward(part.data, writer, way)
                self._count()
        except ConnectionCutError as cut:
            if cut.reset:
                _reset(writer)
        except OSError:
            _reset(writer)
        finally:
            reading.cancel()

    async def _poisoned(self, piece: Piece, passed: int, way: Way) -> AsyncIterator[Piece]:
        async for each in _apply([toxic for toxic in self.toxics if way in toxic.way], piece, passed):
            yield each

    def _count(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                self.cut_after = None
                self.cut()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST instead of gracefully."""
    with suppress(OSError):
        opened = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _apply(toxics: Sequence[Toxic], piece: Piece, passed: int) -> AsyncIterator[Piece]:
    if not toxics:
        yield piece
        return
    async for part in toxics[0].apply(piece, passed):
        async for each in _apply(toxics[1:], part, passed):
            yield each
        passed += len(part.data)


async def _read(reader: asyncio.StreamReader, pieces: "asyncio.Queue[Piece | None]") -> None:
    clock = asyncio.get_running_loop().time
    with suppress(OSError):
        while data := await reader.read(_MAX_BYTES):
            await pieces.put(Piece(data, clock()))
    await pieces.put(None)


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy to this address."""
    async with listening(Proxy(host, port)) as opened:
        yield opened


@asynccontextmanager
async def listening(made: Proxy) -> AsyncIterator[Proxy]:
    """Let a proxy listen on a free port while the body runs."""
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
