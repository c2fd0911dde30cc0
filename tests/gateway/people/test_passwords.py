import asyncio
import threading
from typing import Any

import pytest
from pwdlib import PasswordHash
from pwdlib.hashers.bcrypt import BcryptHasher
from pydantic import SecretStr

from gateway.people.passwords import Passwords
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import BCRYPT, FAST, HASH, PASSWORD
from tests.support.waiting import eventually

RIGHT, WRONG = SecretStr(PASSWORD), SecretStr("wrong")


class Counting(PasswordHash):
    """Counts what it verifies, and how much at once; waits while ``gate`` is closed."""

    def __init__(self) -> None:
        super().__init__(FAST.hashers)
        self.gate = threading.Event()
        self.gate.set()
        self.verified: list[str] = []
        self.now = self.most = 0
        self._lock = threading.Lock()

    def verify_and_update(self, password: Any, hash: Any) -> tuple[bool, str | None]:
        found = super().verify_and_update(password, hash)
        self._count(hash)  # Passwords that bcrypt refuses cost no work, so they do not count.
        return found

    def computed(self, kind: str) -> int:
        return sum(hash.startswith(kind) for hash in self.verified)

    def _count(self, hash: str) -> None:
        with self._lock:
            self.verified.append(hash)
            self.now += 1
            self.most = max(self.most, self.now)
        self.gate.wait(20)
        with self._lock:
            self.now -= 1


async def test_right_and_wrong() -> None:
    """The right password is accepted, any other is not, and a current hash needs no upgrade."""
    passwords = Passwords(FAST)
    kept = await passwords.hash(RIGHT)

    assert kept.startswith("$argon2id$")
    assert (True, None) == await passwords.verify(RIGHT, kept)
    assert (False, None) == await passwords.verify(WRONG, kept)


async def test_bcrypt_is_taken_and_upgraded() -> None:
    """The right password of a bcrypt hash returns an Argon2 hash of the same password."""
    passwords, kept = Passwords(FAST), BCRYPT.hash(PASSWORD)
    right, better = await passwords.verify(RIGHT, kept)

    assert right
    assert better is not None
    assert better.startswith("$argon2id$")
    assert (True, None) == await passwords.verify(RIGHT, better)
    assert (False, None) == await passwords.verify(WRONG, kept)
    assert (False, None) == await passwords.verify(SecretStr("x" * 73), kept)


@pytest.mark.parametrize("password", ["wrong", "x" * 100, "nul\0", "\N{SNOWMAN}" * 25])
@pytest.mark.parametrize(
    "kept",
    [None, "plain text", "", HASH, BCRYPT.hash(PASSWORD)],
    ids=["nobody", "plain text", "empty", "argon2", "bcrypt"],
)
async def test_a_wrong_password_costs_the_same_for_everybody(password: str, kept: str | None) -> None:
    """An unknown name, a current hash and one of the previous system cost the same number of hashes of each kind."""
    hasher = Counting()
    passwords = Passwords(hasher)
    assert (False, None) == await passwords.verify(SecretStr(password), kept)

    bcrypt = len(password.encode()) <= 72
    assert {"$argon2id$": 1, "$2b$": int(bcrypt)} == {kind: hasher.computed(kind) for kind in ("$argon2id$", "$2b$")}


async def test_no_password_is_nobodys() -> None:
    """Without a user, or with a hash of an unknown kind, no password is right."""
    passwords = Passwords(FAST)
    for kept in (None, "plain text", "", "nobody's"):
        assert (False, None) == await passwords.verify(SecretStr("nobody's"), kept)


async def test_nobody_costs_what_the_system_before_costs() -> None:
    """Once an old hash was seen, an unknown name is checked at that bcrypt cost."""
    hasher = Counting()
    passwords = Passwords(hasher)
    await passwords.verify(WRONG, BcryptHasher(5, "2a").hash(PASSWORD))
    hasher.verified.clear()
    await passwords.verify(WRONG, None)

    assert ["$2a$05$"] == [hash[:7] for hash in hasher.verified if hash.startswith("$2")]


async def test_only_two_at_once_and_not_without_end() -> None:
    """Two hashes run at a time, a bounded number waits, and further ones are refused."""
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
