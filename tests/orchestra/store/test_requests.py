"""Promises of orchestra/store/requests.py: what a gateway sees of a request."""

from uuid import uuid4

import pytest

from orchestra.store import cancels, requests
from orchestra.store.database import Database
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.replies import RequestError
from schemas.status import Status
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
    """Code and detail, and no reply."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "too slow"))

    found = (await requests.find(database, [asked.ref]))[asked.ref].resource

    assert (RequestError(code=ErrorCode.TIMEOUT, detail="too slow"), None) == (found.error, found.reply)


async def test_a_wanted_cancel_is_seen_while_the_turn_runs(database: Database) -> None:
    """Before the worker has stopped it."""
    await take(database, asked := request())
    await claim_one(database)
    await take(database, cancels=[asked.ref])

    found = (await requests.find(database, [asked.ref]))[asked.ref].resource

    assert (Status.IN_PROGRESS, True) == (found.status, found.cancel_requested)


async def test_what_is_not_there_deleted_or_anothers_is_not_found(database: Database) -> None:
    """All three look the same."""
    mine, deleted = request(), request()
    await take(database, mine, deleted)
    await cancels.mark_deleted(database, ("default", deleted.conversation_id))

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


async def test_a_conversation_with_too_many_open_turns_is_full(database: Database) -> None:
    """The head does not count, the turns behind it do; ended ones neither."""
    full, room = uuid4(), uuid4()
    await take(database, *(request(full) for _ in range(4)), *(request(room) for _ in range(3)))

    assert {("default", full): None} == await requests.full_conversations(database, 3)
    turns = {turn.conversation_id: turn for turn in await claim(database, await new_worker(database))}
    await finish(database, turns[full])
    assert {} == await requests.full_conversations(database, 3)


async def test_how_much_is_open_is_estimated(database: Database) -> None:
    """From statistics: about right once they were gathered, and never negative."""
    assert await requests.estimated_open(database) >= 0
    conversation = uuid4()
    await take(database, *(request() for _ in range(20)), *(request(conversation) for _ in range(20)))
    async with database._engine.connect() as connection:
        plain = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await plain.exec_driver_sql("VACUUM ANALYZE requests")

    assert 40 == await requests.estimated_open(database)


async def test_deleted_requests_are_told_from_unknown_ones(database: Database) -> None:
    """Deleted with their conversation, hidden or emptied already; living and unknown ones are not among them."""
    living, hidden, emptied = request(), request(), request()
    await take(database, living, hidden, emptied)
    await cancels.mark_deleted(database, ("default", hidden.conversation_id))
    await take(database, deletes=[("default", emptied.conversation_id)])
    refs = [living.ref, hidden.ref, emptied.ref, ("default", uuid4()), ("other", hidden.id)]

    assert {hidden.ref, emptied.ref} == await requests.deleted_among(database, refs)
    assert await requests.deleted_among(database, []) == set()
