"""Promises of orchestra/store/requests.py: what a gateway sees of a request."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, requests
from orchestra.store.claims import Claimed
from orchestra.store.database import Database
from orchestra.store.endings import Items
from orchestra.store.intake import NewRequest
from orchestra.store.turns import ConversationRef
from schemas.api.requests import RequestFilter, RequestResource
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
    listed, _ = await requests.page(database, "default", None, RequestFilter(), None, 10)

    assert ({"order": "7"}, "length") == (found.metadata, found.finish_reason)
    assert [found] == listed


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


EVERYTHING = RequestFilter()


async def page(database: Database, filter: RequestFilter = EVERYTHING, only: str | None = None) -> set[UUID]:
    """The ids on the first page."""
    found, _ = await requests.page(database, "default", only, filter, None, 100)
    return {each.id for each in found}


async def born(database: Database, each: NewRequest, day: int) -> None:
    """As if intake had written it on this day of January."""
    at = datetime(2026, 1, day, tzinfo=UTC)
    await database.run("UPDATE requests SET created_at = :at WHERE id = :id", at=at, id=each.id)


async def test_a_list_shows_what_a_look_shows(database: Database) -> None:
    """Each request in a list is as it is by its id, with its answer or its error."""
    asked = [request(), request(), request()]
    for each in asked:
        await take(database, each)
    await finish(database, (await claim(database, await new_worker(database), 1))[0], reply="done")
    await finish(
        database,
        (await claim(database, await new_worker(database), 1))[0],
        Status.FAILED,
        error=(ErrorCode.TIMEOUT, "slow"),
    )

    found, more = await requests.page(database, "default", None, EVERYTHING, None, 100)

    known = await requests.find(database, [each.ref for each in asked])
    assert ([known[each.ref].resource for each in reversed(asked)], False) == (found, more)


@pytest.mark.parametrize(
    ("filter", "places"),
    [
        ({}, {0, 1, 2, 3}),
        ({"status": "completed"}, {0}),
        ({"status": "failed"}, {1}),
        ({"status": "pending"}, {2, 3}),
        ({"status": "in_progress"}, set()),
        ({"model": "m"}, {2}),
        ({"conversation_id": str(UUID(int=7))}, {2, 3}),
        ({"task_type": "analyst"}, {3}),
        ({"created_after": "2026-01-02T00:00:00Z"}, {1, 2, 3}),
        ({"created_before": "2026-01-02T00:00:00Z"}, {0}),
        ({"status": "pending", "model": "m", "created_after": "2026-01-04T00:00:00Z"}, set()),
    ],
)
async def test_filters(database: Database, filter: dict[str, Any], places: set[int]) -> None:
    """Every condition must hold; a waiting request is pending; a period includes its start and not its end."""
    made = [request(), request(), request(UUID(int=7), model="m"), request(UUID(int=7), task_type="analyst")]
    await take(database, made[0])
    await finish(database, await claim_one(database))
    await take(database, made[1])
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "slow"))
    await take(database, *made[2:])
    for day, each in enumerate(made, start=1):
        await born(database, each, day)

    assert {made[place].id for place in places} == await page(database, RequestFilter.model_validate(filter))


async def test_a_list_holds_ones_own(database: Database) -> None:
    """With an owner, the list has no other owner's requests, no other tenant's, and none that is deleted."""
    hers, his, theirs, gone = request(user="ann"), request(user="bob"), request(tenant="them"), request(user="ann")
    await take(database, hers, his, theirs, gone)
    await cancels.mark_deleted(database, gone.conversation)

    assert {hers.id} == await page(database, only="ann")
    assert {hers.id, his.id} == await page(database)
    await database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=hers.id)
    assert {his.id} == await page(database)


async def test_pages_go_on_where_the_last_one_ended(database: Database) -> None:
    """Pages show each request once, newest first, also among requests of the same moment, and tell of more."""
    made = [request() for _ in range(7)]
    await take(database, *made)  # One transaction: one moment.
    for each in made[:2]:
        await born(database, each, 1)
    seen: list[RequestResource] = []
    before, more = None, True

    while more:
        found, more = await requests.page(database, "default", None, EVERYTHING, before, 3)
        seen += found
        assert found[-1].created_at is not None
        before = found[-1].created_at, found[-1].id

    places = [(each.created_at, each.id) for each in seen]
    assert places == sorted(places, reverse=True, key=str)
    assert {each.id for each in made} == {each.id for each in seen}
    assert len(made) == len(seen)


async def test_long_replies_make_a_page_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would be too big ends earlier, has one request at least, and says that there are more."""
    monkeypatch.setattr(requests, "PAGE_BYTES", 10)
    for _ in range(3):
        await take(database, request())
        await finish(database, await claim_one(database), reply="long enough")

    found, more = await requests.page(database, "default", None, EVERYTHING, None, 2)

    assert (1, True) == (len(found), more)


ITEMS = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "long" * 20}]


async def test_items_of_an_answer_are_shown_and_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are in a look-up and in a list, and long ones make a page short; a plain answer has none."""
    plain = request()
    await take(database, plain)
    await finish(database, await claim_one(database))
    asked = [request() for _ in range(2)]
    for each in asked:
        await take(database, each)
        await finish(database, await claim_one(database), reply="", items=Items(ITEMS, 1))

    found = await requests.find(database, [asked[0].ref, plain.ref])
    listed, _ = await requests.page(database, "default", None, EVERYTHING, None, 10)
    assert (ITEMS, None) == (found[asked[0].ref].resource.output, found[plain.ref].resource.output)
    assert [ITEMS, ITEMS, None] == [each.output for each in listed]
    assert '"output"' not in found[plain.ref].resource.model_dump_json()

    monkeypatch.setattr(requests, "PAGE_BYTES", 50)
    page, more = await requests.page(database, "default", None, EVERYTHING, None, 2)
    assert (1, True) == (len(page), more)


PLANS: list[tuple[str | None, dict[str, Any], str]] = [
    (None, {}, "newest"),
    ("user-1", {}, "owned"),
    (None, {"status": "completed"}, "newest"),
    (None, {"status": "failed"}, "unanswered"),
    (None, {"status": "pending"}, "one_head|runnable|oldest"),
    (None, {"status": "in_progress"}, "running|one_head"),
    (None, {"model": "rare"}, "by_model"),
    (None, {"conversation_id": str(UUID(int=7))}, "tenant_conversation_id_seq_key"),
    (None, {"created_before": "2020-01-01T00:00:00Z"}, "newest"),
    (None, {"task_type": "analyst"}, "by_type"),
    ("user-1", {"task_type": "analyst"}, "by_type_owned"),
    (None, {"door": "chat"}, "by_door"),
    ("user-1", {"door": "responses"}, "by_door_owned"),
]


async def test_a_list_reads_its_page_and_not_the_table(many: Database) -> None:
    """However many requests there are, the planner goes by an index that fits what is asked for."""
    for only, filter, index in PLANS:
        sql, parameters = requests.page_statement("default", only, RequestFilter.model_validate(filter), None)
        plan = "\n".join(line[0] for line in await many.run(f"EXPLAIN {sql}", **parameters, limit=21))
        assert "Seq Scan on requests" not in plan
        assert re.search(f"requests_({index})\\b", plan), (filter, plan)


@pytest.fixture
async def many(database: Database) -> Database:
    """20,000 requests of 100 users: nearly all are answered, a few failed, are open, or of a rare model."""
    await database.run("INSERT INTO conversations (id) SELECT gen_random_uuid() FROM generate_series(1, 20000)")
    await database.run(
        "INSERT INTO requests (id, conversation_id, seq, status, finished_at, user_name, model, task_type, door,"
        " body_hash, created_at, deadline_at, src_topic, src_partition, src_offset, src_timestamp)"
        " SELECT gen_random_uuid(), id, 1, s, CASE WHEN s <> 'pending' THEN now() END, 'user-' || n % 100,"
        " CASE WHEN n % 5000 = 0 THEN 'rare' ELSE 'm' END, CASE WHEN n % 1000 = 1 THEN 'analyst' END,"
        " CASE n % 1000 WHEN 4 THEN 'chat' WHEN 5 THEN 'responses' END, 'h',"
        " now() - n * interval '1 minute', now() + interval '1 hour', 't', 0, n, 0"
        " FROM (SELECT id, row_number() OVER () AS n FROM conversations) AS c, LATERAL (SELECT CASE"
        " WHEN n % 500 = 2 THEN 'failed' WHEN n % 1000 = 3 THEN 'pending' ELSE 'completed' END AS s) AS state"
    )
    await database.run("ANALYZE requests")
    await database.run("ANALYZE conversations")
    return database


async def test_a_request_says_by_which_api_it_came(database: Database) -> None:
    """A list can be restricted to an API of OpenAI's, and shows the API of each request that has one, also later."""
    chat, responses, plain = request(body={"door": "chat"}), request(body={"door": "responses"}), request()
    await take(database, chat, responses, plain)
    await database.run("UPDATE requests SET body = body - 'door'")

    async def listed(**filter: str) -> list[tuple[UUID, str | None]]:
        found, _ = await requests.page(database, "default", None, RequestFilter.model_validate(filter), None, 10)
        return sorted((each.id, each.door) for each in found)

    assert [(chat.id, "chat")] == await listed(door="chat")
    everything = sorted([(chat.id, "chat"), (responses.id, "responses"), (plain.id, None)], key=lambda each: each[0])
    assert everything == await listed()
    found = await requests.find(database, [chat.ref, plain.ref])
    assert ("chat", None) == (found[chat.ref].resource.door, found[plain.ref].resource.door)
    assert '"door"' not in found[plain.ref].resource.model_dump_json()
