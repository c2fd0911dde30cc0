"""Attempts to sign in: one at a time for each address, and fewer the more of them fail."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from orchestra.http.client_address import network_of
from schemas.errors import ErrorCode, OrchestraError

_WITHIN_SECONDS = 300.0
_MOST_OF_ADDRESS = 30
_MOST_KEPT = _MOST_OF_ADDRESS + 1  # One of them may be taken back.
# So many failures cost no pause; from then on each doubles it.
_WITHOUT_PAUSE = 5
_LONGEST_PAUSE_SECONDS = 60.0
_MOST_IN_LINE = 16
_LINE_SECONDS = 1.0
_MOST_REMEMBERED = 30_000
# What a wrong password is answered with.
_WRONG = frozenset({ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN})

_Value = TypeVar("_Value")


class Attempts:
    """Attempts to sign in, by address and by username. ``clock`` in seconds.

    An address has 30 failures within five minutes. Beyond five failures of a name, wherever they came from, an address
    that has failed with this name pauses before it may try it again: 1 s, then twice as long each time, 60 s at most.
    One that has not is never kept waiting by what others did. An address from which somebody has signed in is counted
    apart for that name: there neither strangers' failures count nor its own with other names.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._failed: _Latest[list[float]] = _Latest()
        self._paused: _Latest[float] = _Latest()
        self._at_home: _Latest[None] = _Latest()

    @asynccontextmanager
    async def attempt(self, username: str, address: str) -> AsyncIterator[None]:
        """One attempt, once those before it from this address are over.

        It fails when the body raises ``UNAUTHORIZED`` or ``FORBIDDEN``, and counts as failed while it is under way.
        Raises ``TOO_MANY_ATTEMPTS``, with the seconds after which there may be another.
        """
        place = network_of(address)
        async with self._turn(place):
            keys = here, of_name, both = _key(place), _key("", username), _key(place, username)
            now, at_home = self._clock(), both in self._at_home
            paused = self._paused.get(both, now)
            self._check(here, both)
            for key in keys:
                self._failed[key] = [*self._recent(key), now][-_MOST_KEPT:]
            self._paused[both] = now + _pause(len(self._recent(both if at_home else of_name)))
            try:
                yield
            except BaseException as error:
                if not (isinstance(error, OrchestraError) and error.code in _WRONG):
                    self._take_back(now, *keys)
                    self._paused[both] = paused
                raise
            self._take_back(now, here, of_name)
            self._failed.pop(both, None)
            self._paused.pop(both, None)
            self._at_home[both] = None

    @asynccontextmanager
    async def _turn(self, place: str) -> AsyncIterator[None]:
        """The place's turn: a client that sends many waits behind its own, and in nobody else's way."""
        line = self._lines.setdefault(place, _Line())
        if line.length >= _MOST_IN_LINE:
            detail = "too many try to sign in from this address at the same time"
            raise OrchestraError(ErrorCode.TOO_MANY_ATTEMPTS, detail, retry_after=_LINE_SECONDS)
        line.length += 1
        try:
            async with line.lock:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[place]

    def _check(self, here: bytes, both: bytes) -> None:
        now, failed = self._clock(), self._recent(here)
        until = self._paused.get(both, now)
        if len(failed) >= _MOST_OF_ADDRESS and both not in self._at_home:
            until = max(until, failed[-_MOST_OF_ADDRESS] + _WITHIN_SECONDS)
        if until > now:
            raise OrchestraError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=until - now)

    def _recent(self, key: bytes) -> list[float]:
        since = self._clock() - _WITHIN_SECONDS
        return [moment for moment in self._failed.get(key, []) if moment > since]

    def _take_back(self, moment: float, *keys: bytes) -> None:
        for key in keys:
            failed = self._failed.get(key, [])
            if moment in failed:
                failed.remove(moment)


class _Line:
    """Those who try to sign in from one address."""

    def __init__(self) -> None:
        self.length = 0
        self.lock = asyncio.Lock()


class _Latest(OrderedDict[bytes, _Value]):
    """What was set last, by key: 30,000 of them."""

    def __setitem__(self, key: bytes, value: _Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _MOST_REMEMBERED:
            self.popitem(last=False)


def _pause(failures: int) -> float:
    beyond = failures - _WITHOUT_PAUSE
    return float(min(2 ** (beyond - 1), _LONGEST_PAUSE_SECONDS)) if beyond > 0 else 0.0


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode()).digest()
