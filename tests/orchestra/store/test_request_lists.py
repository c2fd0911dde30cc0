"""Promises of orchestra/store/request_lists.py: any combination of filters, and a bounded number of rows."""

import re
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, pages, request_lists, requests
from orchestra.store.database import Database
from orchestra.store.endings import Items
from orchestra.store.intake import NewRequest
from orchestra.store.request_lists import Asked, Position
from schemas.api.requests import ListedRequest, RequestFilter
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.plans import rows_read
from tests.support.store import claim, claim_one, finish, new_worker, request, take

EVERYTHING = RequestFilter()


async def listed(
    database: Database, filter: RequestFilter = EVERYTHING, before: Position | None = None, limit: int = 100
) -> tuple[list[ListedRequest], Position | None]:
    """A page, and where the next one goes on."""
    found = await request_lists.page(database, Asked("default", None, filter, before), limit)
    return found.data, found.next


async def page(database: Database, filter: RequestFilter = EVERYTHING, only: str | None = None) -> set[UUID]:
    """The ids on the first page."""
    found = await request_lists.page(database, Asked("default", only, filter), 100)
    return {each.id for each in found.data}


async def born(database: Database, each: NewRequest, day: int) -> None:
    """As if intake had written it on this day of January."""
    at = datetime(2026, 1, day, tzinfo=UTC)
    await database.run("UPDATE requests SET created_at = :at WHERE id = :id", at=at, id=each.id)


async def test_a_list_shows_what_a_look_shows(database: Database) -> None:
    """Each request in a list is as it is by its id, with its owner, its priority, and its answer or its error."""
    asked = [request(user="ada", priority=8), request(), request()]
    for each in asked:
        await take(database, each)
    await finish(database, (await claim(database, await new_worker(database), 1))[0], reply="done")
    await finish(
        database,
        (await claim(database, await new_worker(database), 1))[0],
        Status.FAILED,
        error=(ErrorCode.TIMEOUT, "slow"),
    )

    found, more = await listed(database)

    known = await requests.find_detail(database, [each.ref for each in asked])
    details = [known[each.ref].resource.model_dump() for each in reversed(asked)]
    assert ([ListedRequest.model_validate(each) for each in details], None) == (found, more)
    assert [(None, 5), (None, 5), ("ada", 8)] == [(each.owner, each.priority) for each in found]


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
        ({"owner": "ada"}, {3}),
        ({"error_code": "timeout"}, {1}),
        ({"priority": 8}, {2}),
        ({"attempts_min": 1}, {0, 1}),
        ({"waited_min": 3600}, {2, 3}),
        ({"id": [str(UUID(int=1)), str(UUID(int=9))]}, {0}),
        ({"id": [str(UUID(int=1))], "status": "failed"}, set()),
        ({"created_after": "2026-01-02T00:00:00Z"}, {1, 2, 3}),
        ({"created_before": "2026-01-02T00:00:00Z"}, {0}),
        ({"status": "pending", "model": "m", "created_after": "2026-01-04T00:00:00Z"}, set()),
    ],
)
async def test_filters(database: Database, filter: dict[str, Any], places: set[int]) -> None:
    """Every condition must hold; a waiting request is pending; a period includes its start and not its end."""
    talk = UUID(int=7)
    made = [
        request(id=UUID(int=1)), request(), request(talk, model="m", priority=8),
        request(talk, task_type="analyst"),
    ]  # fmt: skip
    await take(database, made[0])
    await finish(database, await claim_one(database))
    await take(database, made[1])
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "slow"))
    await take(database, *made[2:])
    for day, each in enumerate(made, start=1):
        await born(database, each, day)
    await database.run("UPDATE requests SET started_at = created_at WHERE started_at IS NOT NULL")
    await database.run("UPDATE requests SET user_name = 'ada' WHERE id = :id", id=made[3].id)

    assert {made[place].id for place in places} == await page(database, RequestFilter.model_validate(filter))


async def test_a_list_holds_ones_own(database: Database) -> None:
    """With an owner, the list has no other owner's requests, no other tenant's, and none that is deleted."""
    of_ann, of_bob, gone = request(user="ann"), request(user="bob"), request(user="ann")
    await take(database, of_ann, of_bob, gone, request(tenant="them"))
    await cancels.mark_deleted(database, gone.conversation)

    assert {of_ann.id} == await page(database, only="ann")
    assert {of_ann.id, of_bob.id} == await page(database)
    await database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=of_ann.id)
    assert {of_bob.id} == await page(database)


async def test_pages_go_on_where_the_last_one_ended(database: Database) -> None:
    """Pages show each request once, newest first, also among requests of the same moment, and tell of more."""
    made = [request() for _ in range(7)]
    await take(database, *made)  # One transaction: one moment.
    for each in made[:2]:
        await born(database, each, 1)
    seen: list[ListedRequest] = []
    found, before = await listed(database, limit=3)
    seen += found

    while before:
        found, before = await listed(database, EVERYTHING, before, 3)
        seen += found

    places = [(each.created_at, each.id) for each in seen]
    assert places == sorted(places, reverse=True, key=str)
    assert {each.id for each in made} == {each.id for each in seen}
    assert len(made) == len(seen)


async def test_long_replies_make_a_page_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would be too big ends earlier, has one request at least, and says that there are more."""
    monkeypatch.setattr(request_lists, "PAGE_BYTES", 10)
    for _ in range(3):
        await take(database, request())
        await finish(database, await claim_one(database), reply="long enough")

    found, more = await listed(database, limit=2)

    assert 1 == len(found)
    assert more


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
    shown, _ = await listed(database)
    assert (ITEMS, None) == (found[asked[0].ref].resource.output, found[plain.ref].resource.output)
    assert [ITEMS, ITEMS, None] == [each.output for each in shown]
    assert '"output"' not in found[plain.ref].resource.model_dump_json()

    monkeypatch.setattr(request_lists, "PAGE_BYTES", 50)
    shown, more = await listed(database, limit=2)
    assert 1 == len(shown)
    assert more


PLANS: list[tuple[str | None, dict[str, Any], str]] = [
    (None, {}, "newest"),
    ("user-1", {}, "owned"),
    (None, {"status": "completed"}, "newest"),
    (None, {"status": "failed"}, "unanswered"),
    (None, {"status": "pending"}, "runnable_by_owner"),
    (None, {"status": "in_progress"}, "running"),
    (None, {"worker": str(UUID(int=7))}, "running"),
    (None, {"id": [str(UUID(int=7))]}, "pkey"),
    (None, {"owner": "user-1", "model": "m", "priority": 3}, "owned"),
    (None, {"status": "failed", "error_code": "timeout", "owner": "user-1"}, "unanswered"),
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
        asked = Asked("default", only, RequestFilter.model_validate(filter))
        sql, parameters = await request_lists.page_statement(many, asked)
        plan = "\n".join(line[0] for line in await many.run_in_order(f"EXPLAIN {sql}", **parameters, limit=21))
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

    async def doors(**filter: str) -> list[tuple[UUID, str | None]]:
        found, _ = await listed(database, RequestFilter.model_validate(filter))
        return sorted((each.id, each.door) for each in found)

    assert [(chat.id, "chat")] == await doors(door="chat")
    everything = sorted([(chat.id, "chat"), (responses.id, "responses"), (plain.id, None)], key=lambda each: each[0])
    assert everything == await doors()
    found = await requests.find(database, [chat.ref, plain.ref])
    assert ("chat", None) == (found[chat.ref].resource.door, found[plain.ref].resource.door)
    assert '"door"' not in found[plain.ref].resource.model_dump_json()


async def test_only_what_is_newer(database: Database) -> None:
    """After a place come those that are newer than it, and no others."""
    made = [request() for _ in range(5)]
    for day, each in enumerate(made, start=1):
        await take(database, each)
        await born(database, each, day)
    after = (datetime(2026, 1, 3, tzinfo=UTC), made[2].id)

    found = await request_lists.page(database, Asked("default", None, EVERYTHING, after=after), 10)

    assert [made[4].id, made[3].id] == [each.id for each in found.data]


async def test_what_a_worker_runs(database: Database) -> None:
    """Only what it runs now, not what waits or what another one runs."""
    first, second = await new_worker(database), await new_worker(database)
    await take(database, request(), request(), request())
    (mine,) = await claim(database, first, 1)
    await claim(database, second, 1)

    assert {mine.id} == await page(database, RequestFilter(worker=first))
    assert {mine.id} == await page(database, RequestFilter(worker=first, status=Status.IN_PROGRESS))
    assert set() == await page(database, RequestFilter(worker=uuid4()))


async def test_a_search_that_ends_early_says_how_far_it_went(many: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that are not full go on where their search ended, until all is found."""
    monkeypatch.setattr(pages, "MAX_SEARCHED", 3000)
    monkeypatch.setattr(request_lists, "MAX_SET", 5)
    filter, places, seen = RequestFilter(status=Status.PENDING, priority=5), [], []
    before: Position | None = None

    while True:
        found = await request_lists.page(many, Asked("default", None, filter, before), 100)
        seen += [each.id for each in found.data]
        if not found.next:
            break
        assert found.searched_to == found.next[0]
        places.append(found.next)
        before = found.next

    assert 6 == len(places)
    assert 20 == len(seen) == len(set(seen))
    empty = await request_lists.page(many, Asked("default", None, RequestFilter(error_code=ErrorCode.TIMEOUT)), 100)
    assert ([], places[0]) == (empty.data, empty.next)


CHOICES: dict[str, list[Any]] = {
    "status": [None, *Status], "model": [None, "m", "rare"], "conversation_id": [None, UUID(int=7)],
    "task_type": [None, "analyst"], "door": [None, "chat"], "owner": [None, "user-1"],
    "error_code": [None, "timeout"], "worker": [None, UUID(int=7)], "priority": [None, 5, 9],
    "attempts_min": [None, 1], "waited_min": [None, 60.0], "id": [None, [UUID(int=7)]],
    "created_after": [None, datetime(2026, 1, 1, tzinfo=UTC)],
    "created_before": [None, datetime(2999, 1, 1, tzinfo=UTC)],
}  # fmt: skip
LIMIT = 20
BOUND = 2000


async def test_any_combination_of_filters_reads_a_bounded_number_of_rows(
    many: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is combined, what a page reads of tables and indexes has a limit, and nothing is scanned."""
    # A set that is too large is counted, and then each request that is looked at may have its conversation looked up.
    assert request_lists.MAX_SET + 2 * pages.MAX_SEARCHED <= 10_000
    monkeypatch.setattr(pages, "MAX_SEARCHED", BOUND // 5 * 2)
    monkeypatch.setattr(request_lists, "MAX_SET", BOUND // 5)
    draw = Random(20)
    for _ in range(60):
        given = {name: draw.choice(choices if draw.random() < 0.3 else [None]) for name, choices in CHOICES.items()}
        only, before = draw.choice([None, "user-1"]), draw.choice([None, (datetime.now(UTC), UUID(int=0))])
        asked = Asked("default", only, RequestFilter(**given), before)
        sql, values = await request_lists.page_statement(many, asked)
        read = await rows_read(many.run_in_order, sql, **values, limit=LIMIT + 1)
        assert read <= 10 * LIMIT + BOUND, (given, only, read)
