import asyncio
from uuid import uuid4

import pytest

from gateway.following.live import Ending, LiveRequest
from orchestra.store.requests import StoredRequest
from orchestra.transcript import text_of
from schemas.api.requests import RequestResource
from schemas.errors import ErrorCode, OrchestraError
from schemas.replies import RequestError
from schemas.status import Status

LIMITED = RequestError(code=ErrorCode.RATE_LIMITED, detail="not now")


def text(live: LiveRequest) -> str:
    """The plain text so far."""
    return text_of(live.window.since(0) or [])


def test_ending_never_changes() -> None:
    """The first ending stays."""
    live = LiveRequest()
    live.finish(Ending(Status.COMPLETED, 1, "yes"))
    live.finish(Ending(Status.CANCELLED, 1))
    assert live.ending == Ending(Status.COMPLETED, 1, "yes")


def test_an_ending_voids_the_answer_of_an_earlier_attempt() -> None:
    """A gateway that missed the start of the last attempt never sends an earlier attempt's text as that one's."""
    live = LiveRequest()
    live.begin(1)
    live.add(0, "What the first attempt sai")
    epoch = live.epoch

    live.finish(Ending(Status.COMPLETED, 2, "The answer"))

    assert (2, [], epoch + 1) == (live.attempt, live.window.since(0), live.epoch)


def test_learn() -> None:
    """A row that is ahead of the events begins its attempt; a row that has ended sets the ending."""
    live, id = LiveRequest(), uuid4()
    live.learn(StoredRequest(RequestResource(id=id, status=Status.PENDING, attempts=0), "hash"))
    assert (live.attempt, live.body_hash, live.ending) == (0, "hash", None)
    live.add(0, "abc")
    live.learn(StoredRequest(RequestResource(id=id, status=Status.IN_PROGRESS, attempts=2), "hash"))
    assert (live.attempt, text(live)) == (2, "")
    row = RequestResource(id=id, status=Status.COMPLETED, attempts=2, reply="done", model="m")
    live.learn(StoredRequest(row, "hash"))
    assert live.ending == Ending(Status.COMPLETED, 2, "done", model="m")


def test_learn_an_answer_of_more_than_a_text() -> None:
    """The items of an answer are part of its ending."""
    live, items = LiveRequest(), [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    row = RequestResource.model_validate(
        {
            "id": uuid4(),
            "status": "completed",
            "attempts": 1,
            "reply": "",
            "output": items,
            "finish_reason": "tool_calls",
        }
    )
    live.learn(StoredRequest(row, "hash"))
    assert live.ending == Ending(Status.COMPLETED, 1, "", finish_reason="tool_calls", output=items)
    assert [piece.kind for piece in live.ending.pieces] == ["tool_call", "tool_arguments"]


def test_a_failed_attempt() -> None:
    """A failed attempt voids its text and stays failed until the next begins; its error is kept beyond that."""
    live = LiveRequest()
    live.begin(1)
    live.add(0, "abc")
    live.fail_attempt(1, LIMITED)
    version = live.version
    live.fail_attempt(1, LIMITED)
    assert (live.attempt, text(live), live.failed, live.last_error) == (1, "", True, LIMITED)
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
