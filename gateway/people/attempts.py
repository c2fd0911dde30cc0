"""Throttles sign-in: one attempt at a time per address, and a growing pause after failures."""

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
_MAX_OF_ADDRESS = 30
_MAX_KEPT = _MAX_OF_ADDRESS + 1  # One of them may be taken back.
# Failures without a pause; each one beyond doubles it.
_WITHOUT_PAUSE = 5
_LONGEST_PAUSE_SECONDS = 60.0
_MAX_IN_LINE = 16
_LINE_SECONDS = 1.0
_MAX_REMEMBERED = 30_000
# The errors that a wrong password causes.
_WRONG = frozenset({ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN})

_Value = TypeVar("_Value")


class Attempts:
    """Sign-in attempts by address and by username. ``clock`` returns seconds.

    An address may fail 30 times within five minutes. After five failures with one name, from any address, each address
    that has failed with this name must pause before it tries the name again: 1 s, doubling each time, at most 60 s. An
    address that has not failed with the name never has to wait because of others. An address from which the name has
    signed in before is counted separately for it: neither failures from other addresses nor its own failures with other
    names count there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._failed: _Latest[list[float]] = _Latest()
        self._paused: _Latest[float] = _Latest()
        self._at_home: _Latest[None] = _Latest()

    @asynccontextmanager
    async def attempt(self, username: str, address: str) -> AsyncIterator[None]:
        """Run one attempt as the body, after the earlier ones from this address have ended.

        It has failed if the body raises ``UNAUTHORIZED`` or ``FORBIDDEN``, and counts as failed while it runs. Raises
        ``TOO_MANY_ATTEMPTS`` with the seconds until the next attempt is allowed.
        """
        place = network_of(address)
        async with self._turn(place):
            keys = here, of_name, both = _key(place), _key("", username), _key(place, username)
            now, at_home = self._clock(), both in self._at_home
            paused = self._paused.get(both, now)
            self._check(here, both)
            for key in keys:
                self._failed[key] = [*self._recent(key), now][-_MAX_KEPT:]
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
        """Hold the turn of this place: attempts from one address wait for each other, not for those of others."""
        line = self._lines.setdefault(place, _Line())
        if line.length >= _MAX_IN_LINE:
            detail = "too many simultaneous sign-in attempts from this address"
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
        if len(failed) >= _MAX_OF_ADDRESS and both not in self._at_home:
            until = max(until, failed[-_MAX_OF_ADDRESS] + _WITHIN_SECONDS)
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
    """The attempts from one address that wait or run."""

    def __init__(self) -> None:
        self.length = 0
        self.lock = asyncio.Lock()


class _Latest(OrderedDict[bytes, _Value]):
    """Keeps the 30,000 keys that were set last."""

    def __setitem__(self, key: bytes, value: _Value) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _MAX_REMEMBERED:
            self.popitem(last=False)


def _pause(failures: int) -> float:
    beyond = failures - _WITHOUT_PAUSE
    return float(min(2 ** (beyond - 1), _LONGEST_PAUSE_SECONDS)) if beyond > 0 else 0.0


def _key(*parts: str) -> bytes:
    return hashlib.sha256("\n".join(parts).encode()).digest()
