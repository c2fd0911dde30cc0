import asyncio
import threading
from typing import Any

import pytest
from pwdlib import PasswordHash
from pydantic import SecretStr

from gateway.passwords import Attempts, Passwords
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import BCRYPT, FAST, HASH, PASSWORD, Clock
from tests.support.waiting import eventually

RIGHT, WRONG = SecretStr(PASSWORD), SecretStr("wrong")


class Counting(PasswordHash):
    """Counts what it verifies, and how much of it at once; waits while ``gate`` is closed."""

    def __init__(self) -> None:
        super().__init__(FAST.hashers)
        self.gate = threading.Event()
        self.gate.set()
        self.verified: list[str] = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def verify(self, password: Any, hash: Any) -> bool:
        self._count(hash)
        return super().verify(password, hash)

    def verify_and_update(self, password: Any, hash: Any) -> tuple[bool, str | None]:
        self._count(hash)
        return super().verify_and_update(password, hash)

    def _count(self, hash: str) -> None:
        with self._lock:
            self.verified.append(hash)
            self.now += 1
            self.most = max(self.most, self.now)
        self.gate.wait(20)
        with self._lock:
            self.now -= 1


async def test_right_and_wrong() -> None:
    """The right password is right, any other is not, and a hash of today needs no better one."""
    passwords = Passwords(FAST)
    kept = await passwords.hash(RIGHT)

    assert kept.startswith("$argon2id$")
    assert (True, None) == await passwords.verify(RIGHT, kept)
    assert (False, None) == await passwords.verify(WRONG, kept)


async def test_bcrypt_is_taken_and_upgraded() -> None:
    """The right password of a bcrypt hash comes with an Argon2 hash of the same password."""
    passwords, kept = Passwords(FAST), BCRYPT.hash(PASSWORD)
    right, better = await passwords.verify(RIGHT, kept)

    assert right
    assert better is not None
    assert better.startswith("$argon2id$")
    assert (True, None) == await passwords.verify(RIGHT, better)
    assert (False, None) == await passwords.verify(WRONG, kept)
    assert (False, None) == await passwords.verify(SecretStr("x" * 73), kept)


async def test_nobody_costs_as_much() -> None:
    """Without a user, or with a hash of no known kind, as much is hashed, and any password is wrong."""
    hasher = Counting()
    passwords = Passwords(hasher)
    for kept in (None, "plain text", "", "nobody's"):
        assert (False, None) == await passwords.verify(SecretStr("nobody's"), kept)

    argon = [hash for hash in hasher.verified if hash.startswith("$argon2id$")]
    assert len(argon) == 4


async def test_only_two_at_once_and_not_without_end() -> None:
    """Two are hashed at a time, more wait, and what would wait too long is refused."""
    hasher = Counting()
    passwords = Passwords(hasher)
    hasher.gate.clear()
    waiting = [asyncio.create_task(passwords.verify(RIGHT, HASH)) for _ in range(64)]
    await eventually(lambda: hasher.now == 2)
    with pytest.raises(OrchestraError) as caught:
        await passwords.verify(RIGHT, HASH)
    hasher.gate.set()

    assert caught.value.code is ErrorCode.OVERLOADED
    assert [(True, None)] * 64 == await asyncio.gather(*waiting)
    assert hasher.most == 2
    assert (True, None) == await passwords.verify(RIGHT, HASH)


def fail(
    attempts: Attempts, username: str = "ann", address: str = "::1", code: ErrorCode = ErrorCode.UNAUTHORIZED
) -> OrchestraError:
    with pytest.raises(OrchestraError) as caught, attempts.attempt(username, address):
        raise OrchestraError(code)
    return caught.value


def test_ten_failures() -> None:
    """After ten failures of a name from an address there is no eleventh within five minutes, also not a right one."""
    clock = Clock()
    attempts = Attempts(clock)
    assert {ErrorCode.UNAUTHORIZED} == {fail(attempts).code for _ in range(10)}
    clock.now += 100

    refused = fail(attempts)
    assert refused.code is ErrorCode.TOO_MANY_ATTEMPTS
    assert refused.retry_after == 200
    assert {ErrorCode.UNAUTHORIZED} == {fail(attempts, "bob").code, fail(attempts, address="::2").code}
    clock.now += 200
    assert fail(attempts).code is ErrorCode.UNAUTHORIZED


def test_ten_at_once() -> None:
    """Attempts under way count, so that nobody guesses faster by guessing at the same time."""
    attempts = Attempts(Clock())
    under_way = [attempts.attempt("ann", "::1") for _ in range(10)]
    for each in under_way:
        each.__enter__()

    assert fail(attempts).code is ErrorCode.TOO_MANY_ATTEMPTS
    for each in under_way:
        each.__exit__(None, None, None)


def test_success_wipes_failures() -> None:
    """Who got in has all his attempts again."""
    attempts = Attempts(Clock())
    for _ in range(9):
        fail(attempts)
    with attempts.attempt("ann", "::1"):
        pass

    assert {ErrorCode.UNAUTHORIZED} == {fail(attempts).code for _ in range(10)}


def test_what_is_nobodys_fault_does_not_count() -> None:
    """An attempt that met Postgres away or too many passwords is none."""
    attempts = Attempts(Clock())
    for _ in range(20):
        assert fail(attempts, code=ErrorCode.OVERLOADED).code is ErrorCode.OVERLOADED
        with pytest.raises(RuntimeError), attempts.attempt("ann", "::1"):
            raise RuntimeError


def test_it_does_not_grow_without_end() -> None:
    """Guesses at ever new names are forgotten, the oldest first."""
    attempts = Attempts(Clock())
    for number in range(10_100):
        fail(attempts, f"user {number}")

    assert len(attempts._failed) == 10_000
