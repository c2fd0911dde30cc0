"""Promises of orchestra/http/server.py: what a stranger may send, and how long they may take for it and for an answer.

The looks at connections, one a second, are made by hand here.
"""

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, contextmanager

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchestra.http import server as http_server
from orchestra.http.client_address import Proxies, showed_token
from orchestra.http.server import (
    BODY_BYTES,
    BODY_LOOKS,
    HEAD_LOOKS,
    MAX_HALF_OPEN,
    MAX_HEAD_BYTES,
    MAX_HEAD_LINES,
    SWEEP_LOOKS,
    BoundedProtocol,
    HalfOpen,
    Server,
    server_config,
)
from schemas.errors import ErrorCode
from tests.support.waiting import eventually

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
YOUNG = 2
# More than the kernel takes for who reads nothing.
LONG = 32 * 1024 * 1024


class App:
    """Answers each call with the length of its body. ``gate``: waits for it before it reads, if there is one."""

    def __init__(self) -> None:
        self.calls: list[Scope] = []
        self.gone = 0
        self.gate: asyncio.Event | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append(scope)
        if b"known" in scope["query_string"]:
            showed_token(scope)
        if self.gate and scope["query_string"] not in ANSWERS:
            await self.gate.wait()
        length, more = 0, True
        while more:
            message: Message = await receive()
            if message["type"] == "http.disconnect":
                self.gone += 1
                return
            length, more = length + len(message["body"]), message["more_body"]
        if answer := ANSWERS.get(scope["query_string"]):
            await answer(self, send)
            return
        body = b"%d" % length
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


async def long(_app: App, send: Send) -> None:
    """An answer that is whole."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LONG)]})
    await send({"type": "http.response.body", "body": bytes(LONG)})


async def stream(_app: App, send: Send) -> None:
    """An answer in pieces."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(LONG // BODY_BYTES):
        await send({"type": "http.response.body", "body": bytes(BODY_BYTES), "more_body": True})
    await send({"type": "http.response.body"})


async def little(_app: App, send: Send) -> None:
    """An answer of which a little is left that the kernel does not take, and that does not end."""
    await ended(_app, send, more=True)
    await asyncio.Event().wait()


async def ended(_app: App, send: Send, *, more: bool = False) -> None:
    """An answer of which a little is left that the kernel does not take."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    transport: asyncio.Transport = send.__self__.transport  # type: ignore[attr-defined]
    while not transport.get_write_buffer_size():
        await send({"type": "http.response.body", "body": bytes(1024), "more_body": True})
        for _ in range(3):  # Until the loop has written it.
            await asyncio.sleep(0)
    if not more:
        await send({"type": "http.response.body"})


async def slow(app: App, send: Send) -> None:
    """A stream that says a word, and the next one when the gate opens."""
    assert app.gate
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    await app.gate.wait()
    await send({"type": "http.response.body"})


ANSWERS = {b"long": long, b"stream": stream, b"little": little, b"ended": ended, b"slow": slow}


class Caller:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send; what is cut off has its answer already."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def answer(self) -> tuple[int, bytes]:
        """The next answer: its status and its body."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            return int(head.split()[1]), await self.reader.readexactly(int(length.split(b":")[1]))

    async def refused(self) -> tuple[int, str]:
        """The status and the code of a problem document behind which the connection is closed."""
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            assert b"content-type: application/problem+json\r\n" in head
            assert b"connection: close\r\n" in head
            assert b"cache-control: no-store\r\n" in head
            problem = json.loads(await self.reader.read())
        assert int(head.split()[1]) == problem["status"]
        return problem["status"], problem["code"]

    async def closed(self) -> bool:
        """Wait for the end; True when nothing came before it."""
        async with asyncio.timeout(20):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


class Serving:
    """A server on a free port, and what is half-open at it."""

    def __init__(self, app: App, server: uvicorn.Server, half_open: HalfOpen) -> None:
        self.app, self._server, self.half_open = app, server, half_open
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def port(self) -> int:
        port: int = self._server.servers[0].sockets[0].getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        return len(self._server.server_state.connections)

    @property
    def unread(self) -> int:
        """How many connections have bytes waiting for them."""
        return sum(each.transport.get_write_buffer_size() > 0 for each in self._server.server_state.connections)

    async def call(self, receive_buffer: int | None = None) -> Caller:
        """A new connection, which the server has taken."""
        before = self.connections
        asking = socket.socket()
        if receive_buffer:
            asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        asking.setblocking(False)
        await asyncio.get_running_loop().sock_connect(asking, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=asking)
        await eventually(lambda: self.connections > before)
        self._writers.append(writer)
        return Caller(reader, writer)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.half_open._look(asyncio.get_running_loop())

    async def settled(self, half_open: int) -> None:
        """Wait until this many are half-open."""
        await eventually(lambda: len(self.half_open) == half_open)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def serving(*trusted: str) -> AsyncIterator[Serving]:
    app = App()
    config = server_config(app, Proxies(trusted), port=0, timeout_graceful_shutdown=1, lifespan="off")
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign]  # they belong to the test run
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    assert isinstance(config.http, HalfOpen)
    made = Serving(app, server, config.http)
    try:
        yield made
    finally:
        made.hang_up()
        server.should_exit = True
        await running
    assert 0 == len(made.half_open)


@contextmanager
def _no_signals() -> Iterable[None]:  # type: ignore[misc]
    yield


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(http_server, "LOOK_SECONDS", 3600)
    async with serving() as started:
        yield started


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the parser is given each time."""
    given: list[int] = []
    parse = HttpToolsProtocol.data_received

    def counting(self: HttpToolsProtocol, data: bytes) -> None:
        given.append(len(data))
        parse(self, data)

    monkeypatch.setattr(HttpToolsProtocol, "data_received", counting)
    return given


@pytest.mark.parametrize("piece", [1000, 10**9], ids=["in pieces", "at once"])
@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"x"),
        (b"GET /?", b"x"),
        (b"GET / HTTP/1.1\r\nx: ", b"x"),
        (b"GET / HTTP/1.1\r\n", b"x"),
        (b"GET / HTTP/1.1\r\n", b"a: " + b"x" * 5000 + b"\r\n"),
        (b"", b"\r\n"),
        (CHUNKED + b"1;", b"x"),
        (CHUNKED + b'1;x="', b"x"),
        (CHUNKED, b"1;" + b"x" * 5000 + b"\r\nx\r\n"),
        (CHUNKED + b"0\r\nx: ", b"x"),
        (CHUNKED + b"0\r\n", b"x: " + b"x" * 5000 + b"\r\n"),
    ],
)
async def test_a_head_without_end_is_refused(
    server: Serving, fed: list[int], start: bytes, more: bytes, piece: int
) -> None:
    """However a head, a trailer or a chunk's line goes on, it is 431, and the parser sees no more than the bound."""
    caller, sent = await server.call(), start + more * (4 * 1024 * 1024 // len(more))

    async def sending() -> None:
        for at in range(0, len(sent), piece):
            await caller.send(sent[at : at + piece])

    async with asyncio.TaskGroup() as group:
        task = group.create_task(sending())
        assert (431, ErrorCode.HEAD_TOO_LARGE) == await caller.refused()
        task.cancel()
    assert sum(fed) <= 3 * MAX_HEAD_BYTES
    assert [b"POST"] * len(server.app.calls) == [call["method"].encode() for call in server.app.calls]


@pytest.mark.parametrize(("lines", "status"), [(MAX_HEAD_LINES, 200), (MAX_HEAD_LINES + 1, 431)])
async def test_lines_are_counted(server: Serving, lines: int, status: int) -> None:
    """A head has at most 100 lines, the first among them."""
    caller = await server.call()
    await caller.send(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (lines - 1) + b"\r\n")

    assert status == (await caller.answer())[0]
    assert (status == 200) == bool(server.app.calls)


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
@pytest.mark.parametrize("piece", [1000, 60_000, 10**9])
async def test_bytes_are_counted(server: Serving, more: int, status: int, piece: int) -> None:
    """A head of just 64 KiB is taken, one of a byte more is not, whatever the pieces that it comes in."""
    frame = len(b"GET /?x HTTP/1.1\r\n\r\n") - 1
    sent = b"GET /?" + b"x" * (MAX_HEAD_BYTES + more - frame) + b" HTTP/1.1\r\n\r\n"
    caller = await server.call()
    for at in range(0, len(sent), piece):
        await caller.send(sent[at : at + piece])

    assert status == (await caller.answer())[0]


async def test_small_chunks_are_no_long_head(server: Serving) -> None:
    """A body in chunks of a byte each is taken, whatever its length."""
    caller = await server.call()
    await caller.send(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")

    assert (200, b"50000") == await caller.answer()


async def test_trailers_are_no_headers(server: Serving) -> None:
    """What comes behind a body changes nothing of what came before it."""
    server.app.gate = asyncio.Event()
    caller = await server.call()
    await caller.send(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: late\r\n\r\n" + GET)
    await eventually(lambda: server.app.calls)
    server.app.gate.set()

    assert [(200, b"1"), (200, b"0")] == [await caller.answer() for _ in range(2)]
    names = [[name for name, _ in call["headers"]] for call in server.app.calls]
    assert [[b"host", b"transfer-encoding"], [b"host"]] == names


@pytest.mark.parametrize(
    "sent", [b"NONSENSE\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", CHUNKED + b"q"]
)
async def test_nonsense_is_a_problem_too(server: Serving, sent: bytes) -> None:
    """What cannot be read is answered in the shape of every other error."""
    caller = await server.call()
    await caller.send(sent)

    assert (400, ErrorCode.MALFORMED_HTTP) == await caller.refused()


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\r\n", GET + b"\r\n"])
async def test_a_slow_head_is_refused(server: Serving, sent: bytes) -> None:
    """A head has ten seconds from its first byte, on a new connection and on one that was used."""
    caller = await server.call()
    await caller.send(sent[:-2] if sent.startswith(GET) else sent)
    if sent.startswith(GET):
        assert (200, b"0") == await caller.answer()
        await caller.send(b"\r\n")
    await eventually(lambda: [each for each in server.half_open._since if each._spent])
    server.look(HEAD_LOOKS - 1)
    assert 1 == len(server.half_open)
    server.look()

    assert (408, ErrorCode.TOO_SLOW) == await caller.refused()


async def test_silence_is_closed_without_a_word(server: Serving) -> None:
    """A client that connects and sends nothing for ten seconds is disconnected without an answer it did not ask for."""
    caller = await server.call()
    server.look(HEAD_LOOKS)

    assert await caller.closed()


async def test_a_connection_between_two_calls_owes_nothing(server: Serving) -> None:
    """A client may keep its connection, quiet for longer than a head may take."""
    caller = await server.call()
    for _ in range(3):
        await caller.send(GET)
        assert (200, b"0") == await caller.answer()
        assert 0 == len(server.half_open)
        server.look(HEAD_LOOKS)
    assert 1 == server.connections


async def test_a_body_that_stalls_is_refused(server: Serving) -> None:
    """A body that brings too little for 30 s is 408, and its handler learns that the caller is gone."""
    caller = await server.call()
    await caller.send(HEAD + b"Content-Length: %d\r\n\r\n" % BODY_BYTES)
    await eventually(lambda: server.app.calls)
    for _ in range(BODY_LOOKS):
        await caller.send(b"x" * 100)
        server.look()

    assert (408, ErrorCode.TOO_SLOW) == await caller.refused()
    await eventually(lambda: server.app.gone == 1)


async def test_a_slow_body_is_taken(server: Serving) -> None:
    """A caller who sends little more than a kilobyte a second gets to the end of a long body."""
    caller, pieces = await server.call(), 5
    await caller.send(HEAD + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES * pieces))
    await eventually(lambda: server.app.calls)
    for piece in range(pieces):
        server.look(BODY_LOOKS - 1)
        await caller.send(b"x" * BODY_BYTES)
        if piece < pieces - 1:
            await eventually(lambda: [each for each in server.half_open._since if each._received >= BODY_BYTES])

    assert (200, b"%d" % (BODY_BYTES * pieces)) == await caller.answer()


@pytest.mark.parametrize("expects", [True, False])
async def test_who_waits_for_us_is_not_slow(server: Serving, expects: bool) -> None:
    """A body that we do not read yet, or have not asked for yet, has all the time that we take."""
    server.app.gate = asyncio.Event()
    caller, length = await server.call(), 1024 * 1024
    await caller.send(HEAD + b"Content-Length: %d\r\n" % length + b"Expect: 100-continue\r\n" * expects + b"\r\n")
    await eventually(lambda: server.app.calls)
    sending = None if expects else asyncio.create_task(caller.send(b"x" * length))
    if sending:
        await eventually(lambda: [each for each in server.half_open._since if each.flow.read_paused])
    server.look(3 * BODY_LOOKS)
    server.app.gate.set()
    if expects:
        async with asyncio.timeout(20):
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == await caller.reader.readuntil(b"\r\n\r\n")
        await caller.send(b"x" * length)

    assert (200, b"%d" % length) == await caller.answer()
    if sending:
        await sending


async def unread(server: Serving, path: bytes, more: bytes = b"") -> Caller:
    """A caller who has asked and does not read, and for whom bytes wait."""
    before = server.unread
    caller = await server.call(receive_buffer=4096)
    caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await caller.send(b"GET %b HTTP/1.1\r\nHost: localhost\r\n%b\r\n" % (path, more))
    await eventually(lambda: server.unread > before)
    return caller


@pytest.mark.parametrize("path", [b"/?long", b"/?stream", b"/?little", b"/?ended"])
@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
async def test_an_answer_that_nobody_reads_is_dropped(server: Serving, path: bytes, more: bytes) -> None:
    """Whether it is whole or goes on, is long or little: who takes nothing of it for 30 s is cut off."""
    caller = await unread(server, path, more=more)
    # A little is looked for; with more, its writer is paused at once.
    server.look(BODY_LOOKS - 1 + (SWEEP_LOOKS if path in (b"/?little", b"/?ended") else 0))
    assert 1 == server.connections
    server.look()

    await eventually(lambda: server.connections == 0)
    assert 0 == len(server.half_open._unread) == len(server.half_open)
    caller.writer.close()


async def test_calls_behind_an_unread_answer_gain_no_time(server: Serving) -> None:
    """A client that keeps sending and reads nothing is cut off all the same."""
    caller = await unread(server, b"/?long")
    for _ in range(BODY_LOOKS):
        await caller.send(GET)
        server.look()

    await eventually(lambda: server.connections == 0)


@pytest.mark.parametrize("path", [b"/?long", b"/?stream"])
async def test_a_slow_reader_is_served(server: Serving, path: bytes) -> None:
    """A client that takes more than a kilobyte a second gets all of a long answer, however much the kernel buffers."""
    caller = await unread(server, path)
    (connection,) = server._server.server_state.connections
    assert isinstance(connection, BoundedProtocol)
    caller.writer.transport.resume_reading()  # type: ignore[attr-defined]
    taken = 0
    for _ in range(5):
        before, received = connection._outstanding(), 0
        while received < 4 * BODY_BYTES or connection._outstanding() > before - BODY_BYTES:
            received += len(await caller.reader.read(BODY_BYTES))
        taken += received
        server.look(BODY_LOOKS - 1)
    assert 1 == server.connections
    async with asyncio.timeout(20):
        while taken < LONG:
            taken += len(await caller.reader.read(LONG))
    await eventually(lambda: 0 == server.unread)
    assert (16 * 1024, 64 * 1024) == connection.transport.get_write_buffer_limits()  # type: ignore[attr-defined]


async def test_a_silent_stream_is_left_alone(server: Serving) -> None:
    """A stream that has nothing to say, and whose reader has taken all of it, may be silent for as long as it likes."""
    server.app.gate = asyncio.Event()
    caller = await server.call()
    await caller.send(b"GET /?slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    async with asyncio.timeout(20):
        await caller.reader.readuntil(b"begun\r\n")
    server.look(10 * BODY_LOOKS)
    server.app.gate.set()

    async with asyncio.timeout(20):
        await caller.reader.readuntil(b"0\r\n\r\n")
    assert 1 == server.connections


async def test_unread_bytes_of_an_address_are_bounded(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more lies unread by one address than a process may hold of it, the oldest answers are dropped."""
    callers = [await unread(server, b"/?long") for _ in range(3)]
    held = [each.transport.get_write_buffer_size() for each in server.half_open._unread]
    monkeypatch.setattr(http_server, "MAX_UNREAD_BYTES", sum(held[1:]))
    server.look(YOUNG - 1)
    assert 3 == server.connections
    server.look()

    await eventually(lambda: server.connections == 2)
    callers[0].writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await callers[0].reader.readexactly(2 * LONG)
    assert 2 == server.unread


async def test_pipelined_calls_are_answered_in_their_order(server: Serving) -> None:
    """Calls that come at once, and heads in pieces, are answered one after another."""
    caller = await server.call()
    sent = b"".join(HEAD + b"Content-Length: %d\r\n\r\n" % length + b"x" * length for length in range(20))
    for at in range(0, len(sent), 7):
        await caller.send(sent[at : at + 7])

    assert [(200, b"%d" % length) for length in range(20)] == [await caller.answer() for _ in range(20)]
    assert (0, 1) == (len(server.half_open), server.connections)


async def test_an_answer_under_way_is_not_mixed_with_a_refusal(server: Serving) -> None:
    """A client that sends a bad head before the previous answer is out is cut off without a word."""
    server.app.gate = asyncio.Event()
    caller = await server.call()
    await caller.send(GET + b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200)

    assert await caller.closed()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", HEAD + b"Content-Length: 9\r\n\r\n"])
async def test_half_open_connections_are_bounded(server: Serving, sent: bytes) -> None:
    """Of more than 256 from one address that owe something the oldest are closed; a whole call is answered."""
    callers = []
    for _ in range(MAX_HALF_OPEN + 20):
        callers.append(await server.call())
        await callers[-1].send(sent)
    idle = http_server._Phase.IDLE
    await eventually(lambda: not sent or idle not in {each._phase for each in server.half_open._since})
    server.look(YOUNG - 1)
    assert len(callers) == len(server.half_open)
    server.look()

    for caller in callers[:20]:
        if sent:
            assert (429, ErrorCode.TOO_MANY_CONNECTIONS) == await caller.refused()
        else:
            assert await caller.closed()
    server.look(YOUNG + 1)
    await server.settled(MAX_HALF_OPEN)
    good = await server.call()
    await good.send(GET)
    assert (200, b"0") == await good.answer()


async def stalled(server: Serving, count: int, path: bytes, forwarded: Iterable[bytes]) -> int:
    """How many of ``count`` connections with a body that stalls are left after a while."""
    for _, address in zip(range(count), forwarded, strict=False):
        caller = await server.call()
        await caller.send(b"POST %b HTTP/1.1\r\nX-Forwarded-For: %b\r\nContent-Length: 9\r\n\r\n" % (path, address))
    await eventually(lambda: len(server.app.calls) == count)
    server.look(YOUNG + 1)
    return sum(not each._refused for each in server.half_open._since)


async def test_who_showed_the_token_is_not_counted(server: Serving) -> None:
    """A worker may hold as many calls open as it likes."""
    count = MAX_HALF_OPEN + 5
    assert count == await stalled(server, count, b"/?known", [b"192.0.2.1"] * count)


async def test_callers_behind_a_trusted_proxy_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """They count by the address that the proxy saw; through a proxy that is not trusted they are one."""
    monkeypatch.setattr(http_server, "LOOK_SECONDS", 3600)
    count, many = MAX_HALF_OPEN + 5, [b"192.0.2.%d" % (each % 250) for each in range(MAX_HALF_OPEN + 5)]
    async with serving("127.0.0.0/8") as behind:
        assert count == await stalled(behind, count, b"/", many)
    async with serving("127.0.0.0/8") as behind:
        assert MAX_HALF_OPEN == await stalled(behind, count, b"/", [b"192.0.2.1"] * count)
    async with serving() as alone:
        assert MAX_HALF_OPEN == await stalled(alone, count, b"/", many)


async def test_the_looks_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """While something is half-open it is looked at, and what is refused and stays is cut off."""
    monkeypatch.setattr(http_server, "LOOK_SECONDS", 0.01)
    async with serving() as server:
        caller = await server.call()
        await caller.send(b"GET / HTTP/1.1\r\n")
        assert (408, ErrorCode.TOO_SLOW) == await caller.refused()
        await eventually(lambda: server.connections == 0)
        await eventually(lambda: not server.half_open._looking)


async def test_a_drain_does_not_wait_for_half_a_head(server: Serving) -> None:
    """A server that stops closes what is half-open at once."""
    caller = await server.call()
    await caller.send(b"GET / HTTP/1.1\r\n")
    await eventually(lambda: [each for each in server.half_open._since if each._spent])
    server._server.should_exit = True

    assert await caller.closed()


@pytest.mark.parametrize("how", ["signal", "wake"])
async def test_an_idle_server_ends_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A signal, or a part that wants the process to exit, ends a server that has nothing else to wake for."""
    monkeypatch.setattr(http_server, "_TICK_SECONDS", 3600)
    config = server_config(App(), Proxies(""))
    config.load()
    server = Server(config)
    serving = asyncio.create_task(server.main_loop())
    await eventually(lambda: server.server_state.default_headers)
    if how == "signal":
        asyncio.get_running_loop().call_soon(server.handle_exit, signal.SIGTERM, None)
    else:
        server.should_exit = True
        server.wake()

    await asyncio.wait_for(serving, 10)
