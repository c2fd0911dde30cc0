"""A proxy for Postgres that cuts a connection just after passing on a COMMIT, before its answer.

The server has committed, and the client cannot know it: both repeating and not repeating may be wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from faults.proxy import Link, Proxy, listening
from faults.toxics import ConnectionCutError, Way

# The two requests for encryption that may precede the first regular message.
_ENCRYPTION = (80877103, 80877104)


class PostgresProxy(Proxy):
    """``cut_commits``: how many of the next commits lose their answer and connection. ``cuts``: how many did."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.cut_commits = 0
        self.cuts = 0

    def link(self) -> Link:
        """See ``Proxy``."""
        return _Session(self)


class _Session(Link):
    def __init__(self, proxy: PostgresProxy) -> None:
        self._proxy = proxy
        self._rest = b""
        self._greeted = False
        self._doomed = False

    async def forward(self, data: bytes, writer: asyncio.StreamWriter, way: Way) -> None:
        if way is Way.UP:
            commits = [each for each in self._messages(data) if _commits(each)]
            if commits and self._proxy.cut_commits > 0:
                self._proxy.cut_commits -= 1
                self._doomed = True
        elif self._doomed:  # The server answers, so it has committed.
            self._proxy.cuts += 1
            raise ConnectionCutError(reset=True)
        await super().forward(data, writer, way)

    def _messages(self, data: bytes) -> Iterator[bytes]:
        """Complete messages of the client, with type and length. The first of a connection has no type."""
        self._rest += data
        while True:
            kind = 1 if self._greeted else 0
            size = kind + int.from_bytes(self._rest[kind : kind + 4])
            if len(self._rest) < kind + 4 or len(self._rest) < size:
                return
            message, self._rest = self._rest[:size], self._rest[size:]
            if not self._greeted:
                self._greeted = int.from_bytes(message[4:8]) not in _ENCRYPTION
            yield message


def _commits(message: bytes) -> bool:
    """True for a simple query or a prepared statement that says COMMIT."""
    kind, body = message[:1], message[5:]
    if kind == b"P":
        body = body.partition(b"\0")[2]
    return kind in b"QP" and body.lstrip().upper().startswith(b"COMMIT")


@asynccontextmanager
async def postgres_proxy(host: str, port: int) -> AsyncIterator[PostgresProxy]:
    """A proxy to the Postgres at this address."""
    made = PostgresProxy(host, port)
    async with listening(made):
        yield made
