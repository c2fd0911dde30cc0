"""Promises of gateway/people/attempts.py: guessing gets slower, and no user is locked out by others."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.people.attempts import _MAX_REMEMBERED, Attempts
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import Clock
from tests.support.waiting import eventually

HERE = "192.0.2.1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


async def fail(
    attempts: Attempts, username: str = "ann", address: str = HERE, code: ErrorCode = ErrorCode.UNAUTHORIZED
) -> OrchestraError:
    with pytest.raises(OrchestraError) as caught:
        async with attempts.attempt(username, address):
            raise OrchestraError(code)
    return caught.value


async def succeed(attempts: Attempts, username: str = "ann", address: str = HERE) -> None:
    async with attempts.attempt(username, address):
        pass


async def pauses(clock: Clock, attempt: Callable[[], Awaitable[OrchestraError]], count: int) -> list[float]:
    """How long each of several failures had to wait, in seconds."""
    waited = []
    for _ in range(count):
        began = clock.now
        while (error := await attempt()).code is ErrorCode.TOO_MANY_ATTEMPTS:
            assert error.retry_after
            clock.now += error.retry_after
        waited.append(clock.now - began)
    return waited


async def test_guessing_at_a_name_gets_slower(attempts: Attempts, clock: Clock) -> None:
    """Five failures cost no pause; after that each doubles it, up to a minute, as Retry-After says."""
    assert [0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60] == await pauses(clock, lambda: fail(attempts), 14)


async def test_guesses_from_many_addresses_count_together(attempts: Attempts, clock: Clock) -> None:
    """An address that has failed with a name pauses as long as all failures of that name require."""
    for number in range(20):
        await fail(attempts, address=f"198.51.100.{number}")
    await fail(attempts)

    refused = await fail(attempts)
    assert (ErrorCode.TOO_MANY_ATTEMPTS, 60) == (refused.code, refused.retry_after)
    assert ErrorCode.UNAUTHORIZED == (await fail(attempts, "bob")).code


async def test_strangers_keep_nobody_out(attempts: Attempts, clock: Clock) -> None:
    """The right password is accepted at once from an address without failures, whatever other addresses did."""
    for number in range(200):
        await fail(attempts, address=f"198.51.100.{number}")

    await succeed(attempts)


async def test_a_slip_is_waited_for_once(attempts: Attempts, clock: Clock) -> None:
    """Failures from other addresses do not extend a pause that was already announced."""
    for number in range(8):
        await fail(attempts, address=f"198.51.100.{number}")
    await fail(attempts)
    told = (await fail(attempts)).retry_after
    assert told
    for number in range(100):
        await fail(attempts, address=f"203.0.113.{number}")
    clock.now += told

    await succeed(attempts)


async def test_an_address_has_thirty_failures(attempts: Attempts, clock: Clock) -> None:
    """With ever new names an address may fail thirty times within five minutes; after that nothing is checked."""
    for number in range(30):
        assert ErrorCode.UNAUTHORIZED == (await fail(attempts, f"user {number}")).code
        clock.now += 1

    refused = await fail(attempts, "another")
    assert (ErrorCode.TOO_MANY_ATTEMPTS, 270) == (refused.code, refused.retry_after)
    await succeed(attempts, "another", "192.0.2.2")
    clock.now += 270
    assert ErrorCode.UNAUTHORIZED == (await fail(attempts, "another")).code
    assert ErrorCode.TOO_MANY_ATTEMPTS == (await fail(attempts, "one more")).code


async def test_who_signed_in_from_an_address_is_counted_apart_there(attempts: Attempts, clock: Clock) -> None:
    """Neither attacks on a name nor neighbours at an address lock out a user who signed in from there before."""
    await succeed(attempts)
    for number in range(30):
        await fail(attempts, address=f"198.51.100.{number}")
        await fail(attempts, f"user {number}")
    assert ErrorCode.TOO_MANY_ATTEMPTS == (await fail(attempts, "another")).code

    await fail(attempts)
    await succeed(attempts)
    assert [0, 0, 0, 0, 0, 0, 1, 2] == await pauses(clock, lambda: fail(attempts), 8)


async def test_a_success_does_not_wipe_the_failures_of_an_address(attempts: Attempts) -> None:
    """A user's own successful sign-ins allow no more guesses at other accounts."""
    codes = []
    for number in range(31):
        await succeed(attempts, "mallory")
        codes.append((await fail(attempts, f"user {number}")).code)

    assert [ErrorCode.UNAUTHORIZED] * 30 + [ErrorCode.TOO_MANY_ATTEMPTS] == codes


async def test_what_is_nobodys_fault_does_not_count(attempts: Attempts) -> None:
    """An attempt that failed because of Postgres or overload does not count, and a pause stays as it was."""
    for _ in range(40):
        assert ErrorCode.OVERLOADED == (await fail(attempts, code=ErrorCode.OVERLOADED)).code
        with pytest.raises(RuntimeError):
            async with attempts.attempt("ann", HERE):
                raise RuntimeError


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("2001:db8::1", "2001:db8::2:3:4", True), ("2001:db8::1", "2001:db8:0:1::1", False),
     ("192.0.2.1", "::ffff:192.0.2.1", True), ("192.0.2.1", "192.0.2.2", False), ("", "", True)],
)  # fmt: skip
async def test_what_is_one_address(attempts: Attempts, one: str, other: str, same: bool) -> None:
    """A 64-bit IPv6 network is one address, and so is an IPv4 address in either notation."""
    for number in range(30):
        await fail(attempts, f"user {number}", one)

    expected = ErrorCode.TOO_MANY_ATTEMPTS if same else ErrorCode.UNAUTHORIZED
    assert expected == (await fail(attempts, "another", other)).code


async def test_one_at_a_time_for_each_address(attempts: Attempts) -> None:
    """Attempts from one address queue separately, at most sixteen, while others are served; more are refused."""
    gate, under_way = asyncio.Event(), 0

    async def attempt(number: int) -> None:
        nonlocal under_way
        async with attempts.attempt(f"user {number}", HERE):
            under_way += 1
            await gate.wait()

    flood = [asyncio.create_task(attempt(number)) for number in range(80)]
    await eventually(lambda: sum(task.done() for task in flood) == 64)
    refused = [task.exception() for task in flood if task.done()]
    assert {(ErrorCode.TOO_MANY_ATTEMPTS, 1.0)} == {(each.code, each.retry_after) for each in refused}  # type: ignore[union-attr]
    assert 1 == under_way

    await succeed(attempts, "ann", "192.0.2.2")
    gate.set()
    await asyncio.gather(*flood, return_exceptions=True)
    assert (16, {}) == (under_way, attempts._lines)


async def test_guesses_under_way_count(attempts: Attempts) -> None:
    """Concurrent guesses at one name from many addresses count before they have failed."""
    gate = asyncio.Event()

    async def attempt(number: int) -> None:
        async with attempts.attempt("ann", f"198.51.100.{number}"):
            await gate.wait()
            raise OrchestraError(ErrorCode.UNAUTHORIZED)

    guesses = [asyncio.create_task(attempt(number)) for number in range(20)]
    await eventually(lambda: len(attempts._lines) == 20)
    await fail(attempts)
    assert 60 == (await fail(attempts)).retry_after
    gate.set()
    await asyncio.gather(*guesses, return_exceptions=True)


async def test_it_does_not_grow_without_end(attempts: Attempts) -> None:
    """Failures and sign-ins are remembered within bounds, the oldest dropped first; a refusal adds nothing."""
    for number in range(_MAX_REMEMBERED // 2):
        await fail(attempts, f"user {number}", f"2001:db8:{number % 60_000:x}::1")
        await succeed(attempts, f"user {number}", f"2001:db9:{number % 60_000:x}::1")
    for number in range(30):
        await fail(attempts, f"user {number}")
    before = list(attempts._failed)
    for number in range(100):
        await fail(attempts, f"{number}")

    assert before == list(attempts._failed)
    assert max(len(attempts._failed), len(attempts._paused), len(attempts._at_home)) <= _MAX_REMEMBERED
    assert len(attempts._failed) == _MAX_REMEMBERED
