"""Promises of orchestra/http/calls.py: connections are used again, but never one that its server gives up."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
import pytest

from orchestra.http import calls as http_calls
from orchestra.http.calls import Address, KeepAlive, Timeouts, transport

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
    return Address(f"http://127.0.0.1:{port}", {}, Timeouts(5, 5), KeepAlive(4, rest_seconds))


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
    """A connection closed while this process was busy is not used, even if the client has not seen the close yet."""

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


class Deserter:
    """Answers the first request of each connection, and leaves the second alone, having said ``last`` words.

    ``reset``: with a reset in place of a close. ``at_once``: it does not answer the first either.
    """

    def __init__(self, *, last: bytes = b"", reset: bool = False, at_once: bool = False) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._last = last
        self._reset = reset
        self._at_once = at_once

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            if not self._at_once:
                self.requests.append(await _request(reader))
                writer.write(_ANSWER)
            self.requests.append(await _request(reader))
            writer.write(self._last)
            await writer.drain()
            if self._reset:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except asyncio.IncompleteReadError:
            pass  # The client closed it.
        writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ")[0] + b" " + await reader.readexactly(4)


@asynccontextmanager
async def url_of(server: Deserter) -> AsyncIterator[str]:
    """Where a server is."""
    async with await asyncio.start_server(server.talk, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def post(address: Address) -> bytes:
    """One call that may not be made twice; its answer."""
    async with address.call("POST", "/", b"paid") as response:
        return await response.read()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_call_down_a_dead_connection_is_made_again(*, reset: bool) -> None:
    """A kept connection that ends before a byte of the answer costs no call: it goes out again on a new one, whole."""
    server = Deserter(reset=reset)
    async with url_of(server) as url:
        address = Address(url, {}, Timeouts(5, 5), KeepAlive(60))
        assert [b"ok", b"ok"] == [await post(address), await post(address)]
        await address.aclose()

    assert (2, [b"POST paid"] * 3) == (server.connections, server.requests)


async def test_so_are_calls_of_libraries() -> None:
    """A client that uses httpx over these connections loses no call to a dead one either."""
    server = Deserter()
    async with url_of(server) as url, httpx.AsyncClient(transport=transport(url, KeepAlive(60))) as client:
        assert [b"ok", b"ok"] == [(await client.post(url, content=b"paid")).content for _ in range(2)]

    assert (2, 3) == (server.connections, len(server.requests))


@pytest.mark.parametrize("last", [b"H", b"HTTP/1.1 200 OK\r\n"])
async def test_a_call_whose_answer_has_begun_is_not_made_again(last: bytes) -> None:
    """One byte shows that the server had the request: the caller gets the error."""
    server = Deserter(last=last)
    async with url_of(server) as url:
        address = Address(url, {}, Timeouts(5, 5), KeepAlive(60))
        assert await post(address) == b"ok"
        with pytest.raises(aiohttp.ClientError):
            await post(address)
        await address.aclose()

    assert (1, 2) == (server.connections, len(server.requests))


async def test_a_call_on_a_new_connection_is_not_made_again() -> None:
    """A server that closes a new connection may have worked on the request."""
    server = Deserter(at_once=True)
    async with url_of(server) as url:
        address = Address(url, {}, Timeouts(5, 5), KeepAlive(60))
        with pytest.raises(aiohttp.ClientError):
            await post(address)
        await address.aclose()

    assert (1, 1) == (server.connections, len(server.requests))


async def test_a_connection_that_ends_later_is_no_dead_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes its time before it breaks off has worked on the request."""
    monkeypatch.setattr(http_calls, "_CLOSED_WITHIN_SECONDS", 0.0)
    server = Deserter()
    async with url_of(server) as url:
        address = Address(url, {}, Timeouts(5, 5), KeepAlive(60))
        await post(address)
        with pytest.raises(aiohttp.ClientError):
            await post(address)
        await address.aclose()

    assert (1, 2) == (server.connections, len(server.requests))


@pytest.mark.parametrize("garbage", [b"zz\r\n", b"-5\r\n", b"\x1f\x8b\x08\x00"])
@pytest.mark.parametrize("begun", [b"", b"2\r\nok\r\n"])
async def test_an_answer_that_cannot_be_read_ends_at_once(begun: bytes, garbage: bytes) -> None:
    """An invalid chunk size makes the reader fail instead of hanging."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"paid")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + begun)
        await writer.drain()
        await head.wait()
        writer.write(garbage)
        await reader.read()
        writer.close()

    head = asyncio.Event()
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listener:
        address = Address(
            f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", {}, Timeouts(5, 60), KeepAlive(60)
        )
        async with address.call("POST", "/", b"paid") as response:
            head.set()
            with pytest.raises(aiohttp.ClientPayloadError):
                await asyncio.wait_for(response.read(), 10)
        await address.aclose()


async def test_a_large_body_arrives_whole() -> None:
    """Its length is sent before it, and no byte of it is lost or repeated, whatever its size."""
    got: list[tuple[int, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        got.append((length, await reader.readexactly(length)))
        writer.write(_ANSWER.replace(b"keep-alive", b"close"))
        writer.close()

    bodies = [bytes([number]) * size for number, size in enumerate((1024 * 1024, 1024 * 1024 + 1, 3 * 1024 * 1024))]
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listener:
        address = _address(listener.sockets[0].getsockname()[1], 0.0)
        for body in bodies:
            async with address.call("POST", "/", body) as response:
                assert b"ok" == await response.read()
        await address.aclose()

    assert [(len(body), body) for body in bodies] == got
