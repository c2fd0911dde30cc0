"""Hashes passwords in separate threads, with equal work for users that exist and names that do not."""

import asyncio
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers import HasherProtocol
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from schemas.errors import ErrorCode, OrchestraError

# A hash takes 64 MiB and tenths of a second: at most 2 run at once, and at most 64 run or wait.
_AT_ONCE = 2
_MAX_WAITING = 64
# Version and cost, as in `$2b$12$`.
_COST_OF_BCRYPT = 7

_T = TypeVar("_T")


class Passwords:
    """Creates Argon2 hashes; also accepts bcrypt hashes of the previous system (v0)."""

    def __init__(self, hasher: PasswordHash | None = None) -> None:
        self._hasher = hasher or PasswordHash((Argon2Hasher(), BcryptHasher()))
        self._threads = ThreadPoolExecutor(_AT_ONCE, "passwords")
        self._room = threading.BoundedSemaphore(_MAX_WAITING)
        self._nobodys: dict[HasherProtocol, str] = {}

    async def hash(self, password: SecretStr) -> str:
        """The hash to store. Raises ``OVERLOADED``."""
        return await self._in_thread(lambda: self._hasher.hash(password.get_secret_value()))

    async def verify(self, password: SecretStr, kept: str | None) -> tuple[bool, str | None]:
        """Whether the password matches the hash, and a new hash to store if that one is outdated.

        A wrong password costs one hash of each kind, whatever kind the user has and whether there is such a user.
        Raises ``OVERLOADED``.
        """
        return await self._in_thread(lambda: self._verify(password.get_secret_value(), kept))

    def _verify(self, password: str, kept: str | None) -> tuple[bool, str | None]:
        for hasher in self._hasher.hashers:
            mine = kept if kept is not None and hasher.identify(kept) else None
            try:
                right, better = self._hasher.verify_and_update(password, mine or self._nobody(hasher))
            except ValueError:  # bcrypt refuses passwords over 72 bytes: then it is skipped for every user.
                continue
            if mine and isinstance(hasher, BcryptHasher):
                # The previous system may have used another cost; a name without a user must take as long.
                self._nobodys[hasher] = mine[:_COST_OF_BCRYPT] + self._nobody(hasher)[_COST_OF_BCRYPT:]
            if mine and right:
                return True, better
        return False, None

    def _nobody(self, hasher: HasherProtocol) -> str:
        """A hash of this kind that no password matches."""
        if hasher not in self._nobodys:
            self._nobodys[hasher] = hasher.hash(secrets.token_urlsafe())
        return self._nobodys[hasher]

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        # Released when the thread ends, not when the caller leaves: the hash still runs.
        if not self._room.acquire(blocking=False):
            raise OrchestraError(ErrorCode.OVERLOADED, "too many passwords are being checked")
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(future)
