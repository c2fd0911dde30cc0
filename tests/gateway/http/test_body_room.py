"""Promises of gateway/http/body_room.py: memory for large bodies is bounded, and taken only for what has arrived."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import Request

from gateway.http import bodies
from gateway.http.bodies import read_body
from gateway.http.body_room import BodyRoom, Hold, release_body
from gateway.http.problems import UNREAD
from schemas.errors import ErrorCode, OrchestraError
from tests.support.homes import MIB

ANN, BOB = ("default", "ann"), ("default", "bob")


def room(*, shared: bool = True) -> BodyRoom:
    """Room for 8 MiB, 6 MiB for one body."""
    return BodyRoom(6 * MIB, shared=shared, max_held_bytes=8 * MIB)


def call(chunks: Sequence[bytes], claimed: int | None = None) -> Request:
    """A call that sends these chunks, and claims to send this many bytes."""
    left = [*chunks]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = [] if claimed is None else [(b"content-length", str(claimed).encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def code_of(reading: Any) -> ErrorCode:
    with pytest.raises(OrchestraError) as refused:
        await reading
    return refused.value.code


async def test_a_body_takes_memory_as_it_arrives() -> None:
    """What a body claims costs nothing; what has arrived is given back at the end."""
    whole = room(shared=False)
    with whole.hold(ANN) as claims:
        with whole.hold(ANN) as hold:
            assert 5 * MIB == len(await read_body(call([bytes(MIB)] * 5, 6 * MIB), 1024, hold))
            assert ErrorCode.OVERLOADED == await code_of(read_body(call([bytes(MIB)] * 6, 6 * MIB), 1024, claims))
        assert 6 * MIB == len(await read_body(call([bytes(MIB)] * 6), 1024, claims))


async def test_a_body_that_is_too_large() -> None:
    """It is refused by what it claims before it is read, and otherwise as soon as it is."""
    with room(shared=False).hold(ANN) as hold:
        assert ErrorCode.TOO_LARGE == await code_of(read_body(call([], 6 * MIB + 1), 1024, hold))
        assert ErrorCode.TOO_LARGE == await code_of(read_body(call([bytes(MIB)] * 7), 1024, hold))
    assert ErrorCode.TOO_LARGE == await code_of(read_body(call([bytes(1025)]), 1024))


async def test_a_large_body_must_arrive_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stalls behind the first MiB does not hold its memory."""
    monkeypatch.setattr(bodies, "_LARGE_SECONDS", 0.01)
    whole = room(shared=False)

    async def receive() -> dict[str, Any]:
        if sent:
            await asyncio.Event().wait()
        sent.append(True)
        return {"type": "http.request", "body": bytes(6 * MIB), "more_body": True}

    sent: list[bool] = []
    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with whole.hold(ANN) as hold:
        assert ErrorCode.TOO_SLOW == await code_of(read_body(request, 1024, hold))
    assert request.scope[UNREAD]
    with whole.hold(ANN) as hold:
        assert 6 * MIB == hold.grow(6 * MIB)


async def test_one_owner_has_half_of_it() -> None:
    """One owner's bodies leave room for those of another; where all callers are one owner, they have all of it."""

    def take(hold: Hold) -> ErrorCode | None:
        try:
            hold.grow(5 * MIB)
        except OrchestraError as error:
            return error.code
        return None

    with room().hold(ANN) as of_one, room(shared=False).hold(ANN) as of_all:
        assert (ErrorCode.OVERLOADED, None) == (take(of_one), take(of_all))
    both = room()
    with both.hold(ANN) as anns, both.hold(BOB) as bobs:
        assert (4 * MIB, 4 * MIB) == (anns.grow(4 * MIB), bobs.grow(4 * MIB))


async def test_what_is_accepted_gives_its_memory_back() -> None:
    """A call that goes on to wait for an answer holds none."""
    whole = room(shared=False)
    with whole.hold(ANN) as waits:
        waits.grow(6 * MIB)
        release_body()
        with whole.hold(BOB) as next_one:
            assert 6 * MIB == next_one.grow(6 * MIB)
