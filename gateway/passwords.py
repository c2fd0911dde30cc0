"""Passwords: hashed slowly in threads of their own, and guessed at only a few times."""

import asyncio
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from schemas.errors import ErrorCode, OrchestraError

# A hash takes 64 MiB and tenths of a second: so many at once, and so many that wait or are under way.
_AT_ONCE = 2
_MOST_WAITING = 64
_MOST_FAILURES = 10
_WITHIN_SECONDS = 300.0
_MOST_REMEMBERED = 10_000

_T = TypeVar("_T")


class Passwords:
    """Makes Argon2 hashes; takes bcrypt's, which the system before this one made, for good too."""

    def __init__(self, hasher: PasswordHash | None = None) -> None:
        self._hasher = hasher or PasswordHash((Argon2Hasher(), BcryptHasher()))
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords")
        self._room = threading.BoundedSemaphore(_MOST_WAITING)
        self._nobodys: str | None = None

    async def hash(self, password: SecretStr) -> str:
        """The hash to keep. Raises ``OVERLOADED``."""
        return await self._in_thread(lambda: self._hasher.hash(password.get_secret_value()))

    async def verify(self, password: SecretStr, kept: str | None) -> tuple[bool, str | None]:
        """Whether this is the password of a hash, and a better hash where that one is of an old kind.

        Without a hash, for there is no such user, it is wrong after as much work. Raises ``OVERLOADED``.
        """
        return await self._in_thread(lambda: self._verify(password.get_secret_value(), kept))

    def _verify(self, password: str, kept: str | None) -> tuple[bool, str | None]:
        if kept is not None:
            try:
                return self._hasher.verify_and_update(password, kept)
            except ValueError:  # bcrypt knows no password longer than 72 bytes.
                return False, None
            except UnknownHashError:  # A row that somebody wrote by hand.
                pass
        if self._nobodys is None:
            self._nobodys = self._hasher.hash("nobody's")
        self._hasher.verify(password, self._nobodys)
        return False, None

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        # Let go of in the thread: who has left leaves his work behind.
        if not self._room.acquire(blocking=False):
            raise OrchestraError(ErrorCode.OVERLOADED, "too many passwords are being looked at")
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)


class Attempts:
    """Failed attempts to sign in, by username and address. ``clock`` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: OrderedDict[bytes, list[float]] = OrderedDict()

    @contextmanager
    def attempt(self, username: str, address: str) -> Iterator[None]:
        """One attempt: it fails when the body raises ``UNAUTHORIZED``, and counts from its start on.

        Raises ``TOO_MANY_ATTEMPTS`` when ten failed within the last five minutes.
        """
        who = hashlib.sha256(f"{address}\n{username}".encode()).digest()
        failed, now = self._recent(who), self._clock()
        if len(failed) >= _MOST_FAILURES:
            raise OrchestraError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=failed[0] + _WITHIN_SECONDS - now)
        failed.append(now)
        try:
            yield
        except OrchestraError as error:
            if error.code is not ErrorCode.UNAUTHORIZED:
                failed.remove(now)
            raise
        except BaseException:
            failed.remove(now)
            raise
        self._failed.pop(who, None)

    def _recent(self, who: bytes) -> list[float]:
        since = self._clock() - _WITHIN_SECONDS
        failed = self._failed.setdefault(who, [])
        failed[:] = [moment for moment in failed if moment > since]
        self._failed.move_to_end(who)
        if len(self._failed) > _MOST_REMEMBERED:
            self._failed.popitem(last=False)
        return failed
