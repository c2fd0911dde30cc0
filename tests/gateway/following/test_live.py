import asyncio
import random
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.following.live import MAX_TEXT_BYTES, Ending, LiveRequest
from orchestra.store.requests import StoredRequest
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.replies import RequestError
from schemas.status import Status

texts = st.text(st.characters(codec="utf-8"), max_size=200)
LIMITED = RequestError(code=ErrorCode.RATE_LIMITED, detail="not now")


@given(st.lists(texts, max_size=150), st.randoms())
def test_any_position(pieces: list[str], order: random.Random) -> None:
    """From every position on, the text is what was sent from there, however the pieces overlap."""
    live, whole, at = LiveRequest(), "".join(pieces), 0
    live.begin(1)
    for piece in pieces:
        start = order.randrange(at + 1) if order.random() < 0.3 else at
        at += len(piece)
        live.add(start, whole[start:at])
    for position in range(len(whole) + 2):
        assert live.since(position) == whole[position:]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5000), min_size=10, max_size=40))
def test_window(pieces: list[str]) -> None:
    """A text never takes more than 64 KiB; its newest part is kept, and a read before it returns None."""
    live, whole = LiveRequest(), "".join(pieces)
    at = 0
    for piece in pieces:
        live.add(at, piece)
        at += len(piece)
        assert live.text_bytes <= MAX_TEXT_BYTES
        assert live.end == at
    assert live.since(live.base) == whole[live.base :]
    assert live.base == 0 or live.since(live.base - 1) is None
    if len(whole.encode()) <= MAX_TEXT_BYTES:
        assert live.base == 0


def test_lost_piece() -> None:
    """After a lost piece only the text behind it is available."""
    live = LiveRequest()
    live.begin(1)
    assert live.add(0, "abc")
    assert live.add(5, "fg")
    assert [live.since(position) for position in (0, 4, 5, 6, 7, 9)] == [None, None, "fg", "g", "", ""]


def test_huge_piece() -> None:
    """A single piece far beyond the limit is not kept and does not break the count of bytes."""
    live = LiveRequest()
    live.add(0, "x" * 1_000_000)
    assert (live.since(0), live.end, live.text_bytes) == (None, 1_000_000, 0)
    assert live.add(1_000_000, "y")
    assert live.since(1_000_000) == "y"


def test_ending_never_changes() -> None:
    """The first ending stays."""
    live = LiveRequest()
    live.finish(Ending(Status.COMPLETED, 1, "yes"))
    live.finish(Ending(Status.CANCELLED, 1))
    assert live.ending == Ending(Status.COMPLETED, 1, "yes")


def test_learn() -> None:
    """A row that is ahead of the events begins its attempt; a row that has ended sets the ending."""
    live, id = LiveRequest(), uuid4()
    live.learn(StoredRequest(RequestResource(id=id, status=Status.PENDING, attempts=0), "hash"))
    assert (live.attempt, live.body_hash, live.ending) == (0, "hash", None)
    live.add(0, "abc")
    live.learn(StoredRequest(RequestResource(id=id, status=Status.IN_PROGRESS, attempts=2), "hash"))
    assert (live.attempt, live.since(0)) == (2, "")
    row = RequestResource(id=id, status=Status.COMPLETED, attempts=2, reply="done", model="m")
    live.learn(StoredRequest(row, "hash"))
    assert live.ending == Ending(Status.COMPLETED, 2, "done", model="m")


def test_a_failed_attempt() -> None:
    """A failed attempt voids its text and stays failed until the next begins; its error is kept beyond that."""
    live = LiveRequest()
    live.begin(1)
    live.add(0, "abc")
    live.fail_attempt(1, LIMITED)
    version = live.version
    live.fail_attempt(1, LIMITED)
    assert (live.attempt, live.since(0), live.failed, live.last_error) == (1, "", True, LIMITED)
    assert live.version == version
    live.begin(2)
    assert (live.failed, live.last_error) == (False, LIMITED)


def test_learn_why_it_waits() -> None:
    """A row that waits after a failure shows its error, unless a newer attempt is known to have begun."""
    id = uuid4()

    def row(status: Status, attempts: int) -> StoredRequest:
        return StoredRequest(RequestResource(id=id, status=status, attempts=attempts, last_error=LIMITED), "hash")

    for attempts in (0, 3):
        live = LiveRequest()
        live.learn(row(Status.PENDING, attempts))
        assert (live.attempt, live.failed, live.last_error) == (attempts, True, LIMITED)
    live.begin(4)
    live.learn(row(Status.PENDING, 3))
    assert (live.attempt, live.failed) == (4, False)
    live.learn(row(Status.IN_PROGRESS, 5))
    assert (live.attempt, live.failed, live.last_error) == (5, False, LIMITED)


def test_hash() -> None:
    """A body with another hash is detected; while the hash is unknown, no body is refused."""
    live = LiveRequest()
    live.check_hash("mine")
    live.body_hash = "mine"
    live.check_hash("mine")
    live.check_hash(None)
    with pytest.raises(OrchestraError):
        live.check_hash("other")


async def test_change() -> None:
    """Every waiting call wakes at a change, and a change that came before the wait is not missed."""
    live = LiveRequest()
    seen = live.version
    waiting = [asyncio.create_task(live.change(seen, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    live.begin(1)
    assert await asyncio.gather(*waiting) == [True] * 3
    assert await live.change(seen, 60)
    assert not await live.change(live.version, 0)


async def test_who_waits_no_longer_keeps_nobody_from_waking() -> None:
    """When one of several waiting calls is cancelled and one times out, the others still wake at the change."""
    live = LiveRequest()
    leaving, patient = (asyncio.create_task(live.change(0, 60)) for _ in range(2))
    assert not await live.change(0, 0)
    leaving.cancel()
    live.begin(1)
    assert await patient
    with pytest.raises(asyncio.CancelledError):
        await leaving
