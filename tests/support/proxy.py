"""A TCP proxy on 127.0.0.1 whose connections a test can cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Listens on ``port``. While ``refusing`` it takes no connection.

    ``cut_after``: cut everything once so many more pieces have been passed on, in whichever direction.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = host, port
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.refusing = False
        self.cut_after: int | None = None

    def cut(self) -> None:
        """Reset every connection that is open now."""
        for writer in self._open:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        with suppress(OSError):
            there, back = await asyncio.open_connection(*self._upstream)
            self._open |= {writer, back}
            await asyncio.gather(self._pass_on(reader, back), self._pass_on(there, writer))
            self._open -= {writer, back}
        self._tasks.discard(task)

    async def close(self) -> None:
        """Cut what is open and wait until nothing is."""
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                self._count()
        writer.transport.abort()

    def _count(self) -> None:
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after <= 0:
                self.cut_after = None
                self.cut()


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy to this address."""
    opened = Proxy(host, port)
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    opened.port = server.sockets[0].getsockname()[1]
    try:
        yield opened
    finally:
        server.close()
        await opened.close()
