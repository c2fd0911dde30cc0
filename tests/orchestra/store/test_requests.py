"""Promises of orchestra/store/requests.py: what a gateway sees of a request."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, requests
from orchestra.store.claims import Claimed
from orchestra.store.database import Database
from orchestra.store.request_lists import Asked, page
from orchestra.store.turns import ConversationRef
from schemas.api.requests import RequestFilter
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.replies import RequestError
from schemas.status import Status
from tests.support.plans import plan_of
from tests.support.store import claim, claim_one, finish, new_worker, request, take


async def test_a_request_is_seen_as_it_stands(database: Database) -> None:
    """Waiting shows as pending; attempts, times and the answer appear as they come."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)

    seen = {ref: each.resource for ref, each in (await requests.find(database, [first.ref, second.ref])).items()}
    assert [Status.PENDING, Status.PENDING] == [seen[each.ref].status for each in (first, second)]
    assert (None, 0, conversation) == (
        seen[first.ref].started_at,
        seen[first.ref].attempts,
        seen[first.ref].conversation_id,
    )

    turn = await claim_one(database)
    assert Status.IN_PROGRESS == (await requests.find(database, [first.ref]))[first.ref].resource.status
    await finish(database, turn, reply="done")
    found = (await requests.find(database, [first.ref]))[first.ref]
    assert (Status.COMPLETED, "done", 1) == (found.resource.status, found.resource.reply, found.resource.attempts)
    assert Usage(input_tokens=1, output_tokens=2) == found.resource.usage
    assert first.body_hash == found.body_hash
    assert found.resource.finished_at is not None


async def test_a_failure_is_seen_with_its_reason(database: Database) -> None:
    """A failed request has a code and a detail, and no reply."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "too slow"))

    found = (await requests.find(database, [asked.ref]))[asked.ref].resource

    assert (RequestError(code=ErrorCode.TIMEOUT, detail="too slow"), None) == (found.error, found.reply)
    assert found.last_error is None


async def test_an_open_request_shows_why_its_last_attempt_failed(database: Database) -> None:
    """A request that may still be answered has no error; an answer or a cancel removes the last error."""
    answered, cancelled = request(), request()
    await take(database, answered, cancelled)
    worker, last = await new_worker(database), RequestError(code=ErrorCode.RATE_LIMITED, detail="not now")
    for turn in await claim(database, worker):
        await finish(database, turn, Status.PENDING, error=(ErrorCode.RATE_LIMITED, "not now"))

    turns: dict[UUID, Claimed] = {}
    for status in (Status.PENDING, Status.IN_PROGRESS):
        for found in (await requests.find(database, [answered.ref, cancelled.ref])).values():
            assert (status, None, last) == (found.resource.status, found.resource.error, found.resource.last_error)
        turns |= {turn.id: turn for turn in await claim(database, worker)}

    await finish(database, turns[answered.id], finish_reason="stop")
    await finish(database, turns[cancelled.id], Status.CANCELLED)
    for found in (await requests.find(database, [answered.ref, cancelled.ref])).values():
        assert (None, None) == (found.resource.error, found.resource.last_error)


async def test_a_request_shows_its_metadata_and_how_its_answer_ended(database: Database) -> None:
    """The caller's metadata comes back, in a look-up and in a list."""
    asked = request()
    await take(database, replace(asked, body={**asked.body, "metadata": {"order": "7"}}))
    await finish(database, await claim_one(database), finish_reason="length")

    found = (await requests.find(database, [asked.ref]))[asked.ref].resource
    listed = (await page(database, Asked("default", None, RequestFilter()), 10)).data

    assert ({"order": "7"}, "length") == (found.metadata, found.finish_reason)
    assert [found.model_dump()] == [each.model_dump(exclude={"owner", "priority"}) for each in listed]


async def test_a_wanted_cancel_is_seen_while_the_turn_runs(database: Database) -> None:
    """A cancel shows before the worker has stopped the request."""
    await take(database, asked := request())
    await claim_one(database)
    await take(database, cancels=[asked.ref])

    found = (await requests.find(database, [asked.ref]))[asked.ref].resource

    assert (Status.IN_PROGRESS, True) == (found.status, found.cancel_requested)


async def test_what_is_not_there_deleted_or_anothers_is_not_found(database: Database) -> None:
    """Deleted, hidden and unknown requests look the same."""
    mine, deleted = request(), request()
    await take(database, mine, deleted)
    await cancels.mark_deleted(database, ConversationRef("default", deleted.conversation_id))

    assert await requests.find(database, [("other", mine.id), deleted.ref, ("default", uuid4())]) == {}
    assert await requests.find(database, []) == {}


async def test_the_age_of_the_queue_is_that_of_what_could_run(database: Database) -> None:
    """Turns that wait, run or rest do not count; among the rest the oldest of any priority does."""
    assert await requests.oldest_runnable_age(database) == 0
    conversation = uuid4()
    await take(database, request(conversation, priority=9), request(conversation), request(priority=0))
    await database.run("UPDATE requests SET run_at = now() - interval '50 seconds' WHERE status = 'waiting'")
    await database.run("UPDATE requests SET run_at = now() - interval '30 seconds' WHERE priority = 0")

    assert await requests.oldest_runnable_age(database) == pytest.approx(30, abs=5)


async def test_a_model_that_is_held_back_does_not_age_the_queue(database: Database) -> None:
    """Turns that wait for a held-back model do not count as waiting for a worker; turns that failed otherwise do."""
    await take(database, held := request(), failed := request())
    age = "UPDATE requests SET run_at = now() - interval '1 hour', error_code = :code WHERE id = :id"
    await database.run(age, id=held.id, code="auth")
    assert await requests.oldest_runnable_age(database) < 1800

    await database.run(age, id=failed.id, code="bad_upstream")

    assert await requests.oldest_runnable_age(database) >= 3600


async def test_a_conversation_with_too_many_open_turns_is_full(database: Database) -> None:
    """The head does not count, the turns behind it do; ended ones neither."""
    full, room = uuid4(), uuid4()
    await take(database, *(request(full) for _ in range(4)), *(request(room) for _ in range(3)))

    assert {("default", full): None} == await requests.full_conversations(database, 3)
    turns = {turn.conversation_id: turn for turn in await claim(database, await new_worker(database))}
    await finish(database, turns[full])
    assert {} == await requests.full_conversations(database, 3)


async def test_only_waiting_turns_are_read_for_full_conversations(database: Database) -> None:
    """However many conversations have an open turn, only those in which turns wait are looked at."""
    plan = await plan_of(database, requests._FULL, max_open=3)

    assert "Index Only Scan using requests_waiting" in plan
    assert "Index Scan using conversations_pkey" in plan
    assert "Seq Scan" not in plan


async def test_how_much_is_open_is_estimated(database: Database) -> None:
    """The estimate comes from statistics: about right once they are gathered, and never negative."""
    assert await requests.estimated_open(database) >= 0
    conversation = uuid4()
    await take(database, *(request() for _ in range(20)), *(request(conversation) for _ in range(20)))
    await database.run("VACUUM ANALYZE requests")

    assert 40 == await requests.estimated_open(database)


async def test_deleted_requests_are_told_from_unknown_ones(database: Database) -> None:
    """Deleted with their conversation, hidden or emptied already; living and unknown ones are not among them."""
    living, hidden, emptied = request(), request(), request()
    await take(database, living, hidden, emptied)
    await cancels.mark_deleted(database, ConversationRef("default", hidden.conversation_id))
    await take(database, deletes=[ConversationRef("default", emptied.conversation_id)])
    refs = [living.ref, hidden.ref, emptied.ref, ("default", uuid4()), ("other", hidden.id)]

    assert {hidden.ref, emptied.ref} == await requests.deleted_among(database, refs)
    assert await requests.deleted_among(database, []) == set()
