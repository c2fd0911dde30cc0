"""A simulated pooler in front of Postgres, with the faults of real ones. Each client has its own session."""

import asyncio
import re
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from faults.proxy import Link, Proxy, listening
from faults.toxics import Way
from tests.support.stack import moved

# What PgBouncer takes from a client's start-up message.
_KEPT = ("user", "database", "client_encoding", "application_name", "timezone")
# The start of a prepared statement's name, with as many characters as what replaces it.
_NAME = re.compile(rb"(orchestra_(?=[0-9a-f]{16}\0)|__asyncpg_)")


@dataclass(frozen=True)
class Habits:
    """``settings`` of its connections to Postgres; None: those that clients ask for. ``tracks``: renames statements."""

    settings: Mapping[str, str] | None = None
    tracks: bool = True


class _Pooler(Proxy):
    def __init__(self, host: str, port: int, habits: Habits) -> None:
        super().__init__(host, port)
        self._habits = habits

    def link(self) -> Link:
        return _Session(self._habits)


class _Session(Link):
    def __init__(self, habits: Habits) -> None:
        self._habits = habits
        self._greeted = False
        self._greeting: bytes | None = b""

    async def forward(self, data: bytes, writer: asyncio.StreamWriter, way: Way) -> None:
        if way is Way.DOWN:
            data = self._answer(data)
        elif not self._greeted:
            self._greeted = True
            data = self._start(data)
        elif self._habits.tracks:
            data = _NAME.sub(b"PGBOUNCER_", data)
        await super().forward(data, writer, way)

    def _start(self, message: bytes) -> bytes:
        words = message[8:].rstrip(b"\0").decode().split("\0")
        asked = dict(zip(words[::2], words[1::2], strict=True))
        if self._habits.settings is not None:
            asked = {name: value for name, value in asked.items() if name.lower() in _KEPT} | self._habits.settings
        body = "".join(f"{name}\0{value}\0" for name, value in asked.items()).encode() + b"\0"
        return struct.pack("!I", len(body) + 8) + message[4:8] + body

    def _answer(self, data: bytes) -> bytes:
        """Whole messages, up to the one with the process id, which is changed; what follows passes as it is."""
        if self._greeting is None:
            return data
        self._greeting += data
        passed = b""
        while len(self._greeting) >= 5:
            size = 1 + int.from_bytes(self._greeting[1:5])
            if len(self._greeting) < size:
                break
            message, self._greeting = self._greeting[:size], self._greeting[size:]
            if message[:1] == b"K":
                invented = bytes([message[5] ^ 0x40])
                rest, self._greeting = self._greeting, None
                return passed + message[:5] + invented + message[6:] + rest
            passed += message
        return passed


@asynccontextmanager
async def open_pooler(url: str, habits: Habits = Habits()) -> AsyncIterator[str]:
    """A URL that leads through such a pooler to the Postgres at ``url``."""
    where = urlsplit(url)
    made = _Pooler(where.hostname or "127.0.0.1", where.port or 5432, habits)
    async with listening(made):
        yield moved(url, made.port)


@asynccontextmanager
async def open_refusing(url: str) -> AsyncIterator[str]:
    """A URL whose server refuses start-up settings as PgBouncer does."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        fields = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"
        writer.write(b"E" + struct.pack("!I", len(fields) + 4) + fields)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield moved(url, server.sockets[0].getsockname()[1])
