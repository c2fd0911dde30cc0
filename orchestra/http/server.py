"""The HTTP server of every service, with bounds on what a client may send before it is identified.

Unread responses have bounds as well.
"""

import asyncio
import fcntl
import struct
import termios
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from enum import Enum
from http import HTTPStatus
from types import FrameType
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from orchestra.http.client_address import CONNECTION, Connection, Proxies, client_address, network_of
from orchestra.http.hot_routes import CALL_ID, NOT_KEPT, new_call_id
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.errors import ErrorCode

# Limit of a head: request line and all header lines. Of a body: trailers, extensions and chunk lines.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_LINES = 100
# Framing of one chunk that is not counted, so that many small chunks do not look like a long head.
_CHUNK_BYTES = 32
# Longer than any client keeps an idle connection, so that it is never closed under a request.
_KEEP_ALIVE_SECONDS = 120
_BACKLOG = 2048
_TICK_SECONDS = 1.0
# Time is counted in checks, one per second while there are connections: if the process hung, no client is blamed.
LOOK_SECONDS = 1.0
HEAD_LOOKS = 10
# In this many checks a body must deliver this many bytes, and a reader must take as many: about 1 KiB/s.
BODY_LOOKS = 30
BODY_BYTES = 32 * 1024
MAX_HALF_OPEN = 256
# Unread response bytes per address.
MAX_UNREAD_BYTES = 128 * 1024 * 1024
# A small unread rest does not pause the writer, so no event reports it: the check looks for it.
SWEEP_LOOKS = 10
# Connections opened since the last check are not counted yet: a thousand callers may arrive at once.
_YOUNG_LOOKS = 1
# A client cut off while sending may never read the reason; keep draining its body for a while first.
_LINGER_LOOKS = 2


class _Phase(Enum):
    """What a connection delivers next: nothing, a head, a body, or, once refused, bytes that are ignored."""

    IDLE, HEAD, BODY, LINGER = "idle", "head", "body", "linger"


log = structlog.get_logger()


class HalfOpen:
    """Connections that owe the rest of a head or body, are being refused, or do not read; creates the protocols.

    Its length is their number, without those that do not read.
    """

    def __init__(self, proxies: Proxies) -> None:
        self.proxies = proxies
        # With the check at which each started or last made progress; oldest first.
        self._since: dict[BoundedProtocol, int] = {}
        # The same for connections whose response waits to be read.
        self._unread: dict[BoundedProtocol, int] = {}
        self._connections: Collection[Any] = ()
        self._looks = 0
        self._looking = False
        self._refused: Counter[ErrorCode] = Counter()

    def __call__(self, **given: Any) -> "BoundedProtocol":
        """Create the protocol of a new connection."""
        made = BoundedProtocol(self, **given)
        self._connections = made.connections
        return made

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._since)

    def add(self, connection: "BoundedProtocol") -> None:
        """Start its time, or restart it."""
        self._since.pop(connection, None)
        self._since[connection] = self._looks
        if not self._looking:
            self._looking = True
            connection.loop.call_later(LOOK_SECONDS, self._look, connection.loop)

    def discard(self, connection: "BoundedProtocol") -> None:
        """It owes nothing any more, or is gone."""
        self._since.pop(connection, None)

    def add_reader(self, connection: "BoundedProtocol") -> None:
        """Start, or restart, the time in which it must read some of its response."""
        self._unread.pop(connection, None)
        self._unread[connection] = self._looks

    def discard_reader(self, connection: "BoundedProtocol") -> None:
        """It has read everything, or is gone."""
        self._unread.pop(connection, None)

    def count(self, code: ErrorCode) -> None:
        """Count a refusal for the log."""
        self._refused[code] += 1

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._looks += 1
        if self._looks % SWEEP_LOOKS == 0:
            for each in list(self._connections):
                each.look_for_unread()
        self._look_at_readers()
        counted: Counter[str] = Counter()
        # Newest first: if one address has too many, the oldest are dropped.
        for connection, since in reversed(list(self._since.items())):
            age = self._looks - since
            connection.looked_at(age)
            if age <= _YOUNG_LOOKS or self._since.get(connection) != since or not (address := connection.counted_for):
                continue
            counted[address] += 1
            if counted[address] > MAX_HALF_OPEN:
                connection.refuse(ErrorCode.TOO_MANY_CONNECTIONS)
        for code, count in self._refused.items():
            log.warning("connections_refused", code=code, count=count)
        self._refused.clear()
        self._looking = bool(self._connections)
        if self._looking:
            loop.call_later(LOOK_SECONDS, self._look, loop)

    def _look_at_readers(self) -> None:
        held: Counter[str] = Counter()
        for connection, since in reversed(list(self._unread.items())):
            age = self._looks - since
            size = connection.reader_looked_at(age)
            if age > _YOUNG_LOOKS and (address := connection.counted_as_reader):
                held[address] += size
                if held[address] > MAX_UNREAD_BYTES:
                    connection.cut(ErrorCode.TOO_MANY_CONNECTIONS)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on heads, on the framing of bodies, and on the time that either takes.

    A client that exceeds one gets a problem document, and the connection is closed.
    """

    def __init__(self, half_open: HalfOpen, **given: Any) -> None:
        super().__init__(**given)
        self._half_open = half_open
        self._connection = Connection(half_open.proxies)
        self._phase = _Phase.IDLE
        # Each head and each body is a stage; 0 means no stage. `_watched`: the stage registered with `half_open`.
        self._stage = self._watched = 0
        # Bytes of this stage that are not body content. The parser joins the pieces of a header at quadratic cost, so
        # they are counted before it sees them.
        self._spent = 0
        self._lines = 0
        # Body bytes since it last made enough progress.
        self._received = 0
        # Unread bytes when the client last took enough of them.
        self._waited = 0
        self._reason = ErrorCode.MALFORMED_HTTP

    @property
    def counted_for(self) -> str:
        """The address it counts for while half-open; empty: for none."""
        if self._refused or self._connection.known or self.client is None:
            return ""
        if self._phase is _Phase.BODY:
            return network_of(client_address(self.scope))
        # Behind a proxy only heads distinguish clients, and the proxy has to receive those in full.
        return "" if self.client[0] in self._half_open.proxies else network_of(self.client[0])

    def looked_at(self, age: int) -> None:
        """Called once a second while it is half-open; ``age``: checks since its time started."""
        if self._refused:
            if age >= _LINGER_LOOKS:
                self.transport.abort()
        elif self.flow.read_paused or (self._phase is _Phase.BODY and self.cycle.waiting_for_100_continue):
            self._half_open.add(self)  # The delay is on our side.
        elif self._phase is not _Phase.BODY:
            if age >= HEAD_LOOKS:
                self.refuse(ErrorCode.TOO_SLOW)
        elif self._received >= BODY_BYTES:
            self._received = 0
            self._half_open.add(self)
        elif age >= BODY_LOOKS:
            self.refuse(ErrorCode.TOO_SLOW)

    @property
    def counted_as_reader(self) -> str:
        """The address that its unread bytes count for; empty: for none."""
        return "" if self._connection.known or self.scope is None else network_of(client_address(self.scope))

    def look_for_unread(self) -> None:
        """Pause the writer until all pending bytes have been read."""
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)

    def reader_looked_at(self, age: int) -> int:
        """Called once a second while bytes are pending; returns how many. ``age``: checks since its time started."""
        waiting = self._outstanding()
        if self._waited - waiting >= BODY_BYTES:
            self._waited = waiting
            self._half_open.add_reader(self)
        elif age >= BODY_LOOKS:
            self.cut(ErrorCode.TOO_SLOW)
            return 0
        return self.transport.get_write_buffer_size()

    def cut(self, code: ErrorCode) -> None:
        """Drop the rest of a response and the connection, with no way to send a reason."""
        self._half_open.count(code)
        self.transport.abort()

    def refuse(self, code: ErrorCode) -> None:
        """Answer with this error, unless a response has started or nothing was requested, and close."""
        self._half_open.count(code)
        if self._may_answer():
            if self._phase is _Phase.BODY:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            self.transport.write(_refusal(code, self.server_state.default_headers))
            self._phase = _Phase.LINGER
            self._half_open.add(self)
            self.flow.pause_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
        else:
            self._half_open.discard(self)
            self.transport.close()

    def send_400_response(self, _msg: str) -> None:
        """Refuse input that the parser rejects, or that a method below stopped."""
        self.refuse(self._reason)

    def shutdown(self) -> None:
        """Do not wait for clients that are being refused."""
        if self._refused:
            self.transport.close()
        else:
            super().shutdown()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client owes a head."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._stage = 1
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._half_open.discard(self)
        self._half_open.discard_reader(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Bytes are pending. Nothing more is written until the client took them, so any decrease is progress."""
        super().pause_writing()
        self._waited = self._outstanding()
        self._half_open.add_reader(self)

    def resume_writing(self) -> None:
        """The client has read all but a small rest."""
        super().resume_writing()
        self.transport.set_write_buffer_limits()
        self._half_open.discard_reader(self)

    def data_received(self, data: bytes) -> None:
        """Give the parser no more than the bounds allow."""
        while data and not self._refused:
            room = MAX_HEAD_BYTES - self._spent
            piece, data = (data, b"") if len(data) <= room else (data[:room], data[room:])
            self._spent += len(piece)
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._spent >= MAX_HEAD_BYTES and not self._refused:
                self.refuse(ErrorCode.HEAD_TOO_LARGE)
        if self._refused:
            return
        # Empty lines, which may come before a head, count as part of it.
        if self._phase is not _Phase.IDLE or self._spent:
            self._watch()
        elif self._watched:
            self._watched = 0
            self._half_open.discard(self)

    def on_message_begin(self) -> None:
        """A head starts."""
        super().on_message_begin()
        self.scope[CONNECTION] = self._connection  # type: ignore[literal-required]
        self._phase, self._lines = _Phase.HEAD, 0
        self._stage += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """A line of the head, or of trailers, which are ignored."""
        self._lines += 1
        if self._lines >= MAX_HEAD_LINES:  # The first line has the method.
            self._reason = ErrorCode.HEAD_TOO_LARGE
            raise ValueError("too many lines")
        if self._phase is _Phase.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is complete."""
        super().on_headers_complete()
        self._phase, self._spent, self._received = _Phase.BODY, 0, 0
        self._stage += 1

    def on_chunk_header(self) -> None:
        """The line before a chunk is complete."""
        self._spent = max(0, self._spent - _CHUNK_BYTES)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._spent = max(0, self._spent - len(body))
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Head and body are complete; the client owes nothing until it sends more."""
        super().on_message_complete()
        self._phase, self._spent = _Phase.IDLE, 0

    @property
    def _refused(self) -> bool:
        return self._phase is _Phase.LINGER

    def _outstanding(self) -> int:
        """Bytes that the client has not received, including those in the kernel, which takes megabytes at once."""
        waiting = self.transport.get_write_buffer_size()
        try:
            in_kernel = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # The system does not report it, or the socket is closed.
            return waiting
        return waiting + int(struct.unpack("i", in_kernel)[0])

    def _watch(self) -> None:
        if self._watched != self._stage:
            self._watched = self._stage
            self._half_open.add(self)

    def _may_answer(self) -> bool:
        if self.transport.is_closing():
            return False
        if self._phase is _Phase.BODY:
            return not (self.pipeline or self.cycle.response_started)
        # A client that has sent nothing expects nothing.
        return bool(self._spent) and (self.cycle is None or self.cycle.response_complete)


class Server(uvicorn.Server):
    """uvicorn's server, which wakes once a second, for the date header, and when it is to exit.

    By itself it wakes ten times a second to see whether it is to exit.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Check at once whether to exit."""
        self._woken.set()

    async def main_loop(self) -> None:
        """Serve until it is time to exit."""
        while not await self.on_tick(0):
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._woken.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal. Python calls this between any two instructions, so the event loop has to be woken."""
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self.wake)


def server_config(app: ASGIApp, proxies: Proxies, **more: Any) -> uvicorn.Config:
    """Uvicorn's configuration, the same in every service."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=HalfOpen(proxies),  # type: ignore[arg-type]  # called like a class
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        **more,
    )


def _refusal(code: ErrorCode, more: Sequence[tuple[bytes, bytes]]) -> bytes:
    problem = Problem.of(code)
    body = problem.model_dump_json(exclude_none=True).encode()
    headers = [
        *more, *NOT_KEPT, (b"content-type", MEDIA_TYPE.encode()), (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"), (CALL_ID.encode(), new_call_id().encode()),
    ]  # fmt: skip
    if problem.status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"retry-after", b"%d" % HEAD_LOOKS))
    return b"".join([STATUS_LINE[problem.status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body])
