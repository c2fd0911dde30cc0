"""Promises of orchestra/http_calls.py: connections are used again, but never one that its server gives up."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from orchestra.http_calls import Address, Keeping, Patience

_ANSWER = b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Promises to keep every connection, and closes it after ``answers`` answers."""

    def __init__(self, answers: int) -> None:
        self.connections = self.requests = 0
        self._answers = answers

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            for _ in range(self._answers):
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                writer.write(_ANSWER)
        except asyncio.IncompleteReadError:
            pass  # The client closed it.
        writer.close()


@asynccontextmanager
async def address_of(server: Server, rest_seconds: float = 0.0) -> AsyncIterator[Address]:
    """A way to a server."""
    async with await asyncio.start_server(server.talk, "127.0.0.1", 0) as listener:
        address = _address(listener.sockets[0].getsockname()[1], rest_seconds)
        yield address
        await address.aclose()


def _address(port: int, rest_seconds: float) -> Address:
    return Address(f"http://127.0.0.1:{port}", {}, Patience(5, 5), Keeping(4, rest_seconds))


async def ask(address: Address) -> bytes:
    """One call; its answer."""
    async with address.call("GET", "/") as response:
        return await response.read()


async def test_a_connection_is_used_again() -> None:
    """Calls one after the other share a connection."""
    server = Server(answers=100)
    async with address_of(server) as address:
        assert {await ask(address) for _ in range(10)} == {b"ok"}

    assert (server.requests, server.connections) == (10, 1)


async def test_a_connection_that_has_just_answered_is_left_alone() -> None:
    """Where a server may still close after its answer, the next call takes another connection."""
    server = Server(answers=100)
    async with address_of(server, rest_seconds=3600) as address:
        await ask(address)
        await ask(address)

    assert server.connections == 2


async def test_no_call_is_lost_to_a_server_that_closes_after_each_answer() -> None:
    """Whatever it promised, each call reaches it, one after the other and many at once."""
    server = Server(answers=1)
    async with address_of(server, rest_seconds=0.5) as address:
        for _ in range(20):
            assert await ask(address) == b"ok"
            assert set(await asyncio.gather(*(ask(address) for _ in range(5)))) == {b"ok"}

    assert server.requests == server.connections == 120


async def test_a_close_that_the_event_loop_has_not_seen_is_seen() -> None:
    """A connection closed while this process was busy is not used, though nobody has told the client so far."""

    def answer_once(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        while not connection.recv(65536).endswith(b"\r\n\r\n"):
            pass
        connection.sendall(_ANSWER)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = _address(listener.getsockname()[1], 0.0)
        for _ in range(3):
            server = threading.Thread(target=answer_once, args=(listener,))
            server.start()
            assert await ask(address) == b"ok"
            server.join()  # The event loop stands still until the connection is closed.
        await address.aclose()
