"""What a proxy can do to the bytes that pass through: Toxiproxy's toxics, under its names."""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Flag, auto


class Way(Flag):
    """The direction that a toxic applies to: the client's bytes, the server's, or both."""

    UP = auto()
    DOWN = auto()
    BOTH = UP | DOWN


class ConnectionCutError(Exception):
    """A toxic closes the connection. ``reset``: at once, with RST; otherwise gracefully."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("cut by a toxic")
        self.reset = reset


@dataclass
class Piece:
    """Bytes in transit. ``read_at``: when the proxy received them, by the loop's clock."""

    data: bytes
    read_at: float


@dataclass(frozen=True, kw_only=True)
class Toxic:
    """Changes nothing by itself. ``way``: the direction it applies to."""

    way: Way = Way.BOTH

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """The pieces to pass on instead of this one; ``passed`` bytes went this way before it."""
        del passed
        yield piece

    async def at_end(self) -> None:
        """Called when one side has closed, before the other side is closed."""


@dataclass(frozen=True, kw_only=True)
class Latency(Toxic):
    """Everything arrives ``seconds`` later, give or take ``jitter``, whatever its amount."""

    seconds: float
    jitter: float = 0.0

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        del passed
        due = piece.read_at + self.seconds + random.uniform(-self.jitter, self.jitter)
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        yield piece


@dataclass(frozen=True, kw_only=True)
class Bandwidth(Toxic):
    """At most this many bytes a second."""

    bytes_per_second: float

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        del passed
        step = max(1, int(self.bytes_per_second / 10))
        for at in range(0, len(piece.data), step):
            part = piece.data[at : at + step]
            await asyncio.sleep(len(part) / self.bytes_per_second)
            yield Piece(part, piece.read_at)


@dataclass(frozen=True, kw_only=True)
class SlowClose(Toxic):
    """The end of a connection is passed on ``seconds`` late."""

    seconds: float

    async def at_end(self) -> None:
        """See ``Toxic``."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Timeout(Toxic):
    """Nothing is passed on; after ``seconds`` the connection is closed, never for 0."""

    seconds: float = 0.0

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        del passed
        if not self.seconds:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        raise ConnectionCutError(reset=False)
        yield piece


@dataclass(frozen=True, kw_only=True)
class ResetPeer(Toxic):
    """The connection is reset, ``seconds`` after the first byte."""

    seconds: float = 0.0

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        del passed
        await asyncio.sleep(self.seconds)
        raise ConnectionCutError(reset=True)
        yield piece


@dataclass(frozen=True, kw_only=True)
class Slicer(Toxic):
    """Each piece is passed on in pieces of about ``size`` bytes, ``seconds`` apart."""

    size: int
    variation: int = 0
    seconds: float = 0.0

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        del passed
        at = 0
        while at < len(piece.data):
            size = max(1, self.size + random.randint(-self.variation, self.variation))
            yield Piece(piece.data[at : at + size], piece.read_at)
            at += size
            await asyncio.sleep(self.seconds)


@dataclass(frozen=True, kw_only=True)
class LimitData(Toxic):
    """The connection is closed after this many bytes."""

    max_bytes: int = field()

    async def apply(self, piece: Piece, passed: int) -> AsyncIterator[Piece]:
        """See ``Toxic``."""
        room = self.max_bytes - passed
        yield Piece(piece.data[:room], piece.read_at)
        if len(piece.data) >= room:
            raise ConnectionCutError(reset=False)
