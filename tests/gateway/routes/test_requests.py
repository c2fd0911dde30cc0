"""Promises of gateway/routes/requests.py: the list, one request, why it waits; changes are in tests/pipeline."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from gateway.following.lookup import Lookup
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from gateway.routes.requests import Requests
from orchestra.receipts import Receipts
from orchestra.store import cancels, leases, pauses
from orchestra.store.database import Database
from orchestra.store.intake import NewRequest
from orchestra.store.turns import RequestRef
from orchestra.store.worker_state import StateOfModel, WorkerState
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.status import Status
from tests.support.people import bearer, calling, make_key, routed
from tests.support.store import claim, claim_one, finish, new_worker, request, take

URL = "/v1/requests"
SECRET = b"s" * 32
LATER = datetime.now(UTC) + timedelta(hours=1)


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    callers, lookup, other = Callers(database, Tokens([SECRET]), asks=True), Lookup(database, Receipts([SECRET])), Any
    routes = Requests(database, lookup, other, other, other).routes()  # type: ignore[arg-type]
    async with calling(routed(callers, routes)) as opened:
        yield opened


async def test_everybody_sees_his_own(client: httpx.AsyncClient, database: Database) -> None:
    """A caller lists its own requests, an admin those of the tenant, page by page, newest first."""
    mine, other = [request(user="key:program") for _ in range(3)], request(user="somebody")
    for each in (*mine, other):
        await take(database, each)
    headers = bearer(await make_key(database, "read"))

    first = (await client.get(URL, params={"limit": 2}, headers=headers)).json()
    second = (await client.get(URL, params={"limit": 2, "cursor": first["next"]}, headers=headers)).json()

    seen = [each["id"] for each in first["data"] + second["data"]]
    assert ([str(each.id) for each in reversed(mine)], None) == (seen, second["next"])
    everything = (await client.get(URL, headers=bearer(await make_key(database, "admin")))).json()
    assert {str(each.id) for each in (*mine, other)} == {each["id"] for each in everything["data"]}
    shown = [(each["owner"], each["priority"]) for each in everything["data"]]
    assert [("somebody", 5), *[("key:program", 5)] * 3] == shown
    theirs = bearer(await make_key(database, "admin", tenant="them"))
    assert {"data": [], "next": None, "newest": None} == (await client.get(URL, headers=theirs)).json()


async def test_a_filter_by_name(client: httpx.AsyncClient, database: Database) -> None:
    """All filters of a query must match."""
    wanted = request(uuid4(), model="m", task_type="analyst")
    await take(database, wanted, request(model="m"))
    headers = bearer(await make_key(database, "admin"))
    query: dict[str, Any] = {
        "id": [str(wanted.id), str(uuid4())], "priority": "5", "attempts_min": "0", "waited_min": "0",
        "status": "pending", "model": "m", "conversation_id": str(wanted.conversation_id), "task_type": "analyst",
        "created_after": "2026-01-01", "created_before": "2999-01-01T00:00:00Z",
    }  # fmt: skip

    found = (await client.get(URL, params=query, headers=headers)).json()["data"]

    assert [str(wanted.id)] == [each["id"] for each in found]


@pytest.mark.parametrize(
    "query", ["canary=1", "status=canary", "status=waiting", "model=", "model=%00", "conversation_id=canary",
              "task_type=CANARY%20", "limit=0", "limit=canary", "cursor=canary", "created_after=canary",
              "newer_than=canary", "owner=", "error_code=canary",
              "worker=canary", "priority=10", "attempts_min=-1", "waited_min=nan", "id=canary",
              "&".join(["id=7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01"] * 101)],
)  # fmt: skip
async def test_bad_queries(client: httpx.AsyncClient, database: Database, query: str) -> None:
    """An invalid query is refused, an unknown parameter too, and the error repeats nothing of it."""
    refused = await client.get(f"{URL}?{query}", headers=bearer(await make_key(database, "read")))

    assert (422, "invalid_request") == (refused.status_code, refused.json()["code"])
    assert "canary" not in refused.text.lower()


async def test_an_invalid_id_in_a_list_is_named(client: httpx.AsyncClient, database: Database) -> None:
    """Of a parameter that is a list, the error names the parameter."""
    refused = await client.get(URL, params={"id": ["x"]}, headers=bearer(await make_key(database, "read")))

    assert "id: must be a UUID" == refused.json()["detail"]


async def test_a_page_says_what_is_newer_than_it(client: httpx.AsyncClient, database: Database) -> None:
    """`newest` of a page brings only what came since; as long as nothing did, it stays."""
    await take(database, request())
    headers = bearer(await make_key(database, "admin"))
    newest = (await client.get(URL, headers=headers)).json()["newest"]
    assert [] == (await client.get(URL, params={"newer_than": newest}, headers=headers)).json()["data"]
    await take(database, new := request())

    found = (await client.get(URL, params={"newer_than": newest}, headers=headers)).json()

    assert ([str(new.id)], None) == ([each["id"] for each in found["data"]], found["next"])


async def test_a_request_has_all_that_is_known(client: httpx.AsyncClient, database: Database) -> None:
    """What it is due and how it was sent, the errors of its attempts, and who runs it."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    mine = request(
        user="key:program", priority=7, deadline=LATER, max_tries=3, traceparent=f"00-{trace}-00f067aa0ba902b7-01"
    )
    await take(database, mine)
    await finish(database, await claim_one(database), Status.PENDING, error=(ErrorCode.TIMEOUT, "slow"))
    headers, worker = bearer(await make_key(database, "read")), await new_worker(database)
    turn = await claim_one(database, worker)

    found = (await client.get(f"{URL}/{mine.id}", headers=headers)).json()

    expected = {
        "owner": "key:program", "priority": 7, "tries": 2, "max_tries": 3, "trace_id": trace, "worker": str(worker),
        "not_before": None, "cost": None, "messages": [{"role": "user", "content": "hello"}],
        "record": {"topic": "llm.requests", "partition": 0, "offset": mine.record.offset},
    }  # fmt: skip
    assert expected == {name: found[name] for name in expected}
    assert [(1, "timeout", "slow")] == [(each["attempt"], each["code"], each["detail"]) for each in found["errors"]]
    assert LATER == datetime.fromisoformat(found["deadline"])
    assert found["created_at"] <= found["runnable_at"] <= found["started_at"] or found["runnable_at"]
    await finish(database, turn, usage=Usage(input_tokens=1, output_tokens=1, cost=0.25))
    ended = (await client.get(f"{URL}/{mine.id}", headers=headers)).json()
    assert (0.25, None, "answer") == (ended["cost"], ended["worker"], ended["reply"])
    listed = (await client.get(URL, headers=headers)).json()["data"][0]
    assert not {"messages", "errors", "worker"} & listed.keys()


async def test_anothers_request_is_not_found(client: httpx.AsyncClient, database: Database) -> None:
    """Neither the request nor why it waits."""
    await take(database, theirs := request(user="ada"))
    headers = bearer(await make_key(database, "read"))

    answers = [await client.get(f"{URL}/{theirs.id}{path}", headers=headers) for path in ("", "/waiting")]

    assert [404, 404] == [each.status_code for each in answers]


async def at_work(database: Database, slots: int = 4, **model: Any) -> UUID:
    """A worker that has said how many slots it has, and how it sees a model."""
    worker = await new_worker(database)
    models = [StateOfModel(model="llama3", **model)] if model else []
    await leases.renew(database, worker, WorkerState(version="1", in_flight=0, capacity=slots, models=models))
    return worker


async def behind(database: Database) -> NewRequest:
    """A turn whose conversation runs another one."""
    worker, talk = await at_work(database), uuid4()
    await take(database, request(talk), second := request(talk))
    await claim(database, worker)
    return second


async def later(database: Database) -> NewRequest:
    """A turn that is due in an hour."""
    await at_work(database)
    await take(database, made := request(not_before=LATER))
    return made


async def failed(database: Database) -> NewRequest:
    """A turn that is tried again in a minute."""
    worker = await at_work(database)
    await take(database, made := request())
    await finish(
        database, (await claim(database, worker))[0], Status.PENDING, error=(ErrorCode.TIMEOUT, "slow"), delay=60.0
    )
    return made


async def held_back(database: Database) -> NewRequest:
    """A turn whose model refuses the calls of the only worker."""
    await at_work(database, room=0, held_seconds=60.0, code=ErrorCode.AUTH, detail="the key is wrong")
    await take(database, made := request())
    return made


async def alone(database: Database) -> NewRequest:
    """A turn without a worker."""
    await take(database, made := request())
    return made


async def crowded(database: Database) -> NewRequest:
    """A turn that waits while the only slot is taken."""
    worker = await at_work(database, slots=1)
    await take(database, request())
    await claim(database, worker, 1)
    await take(database, made := request())
    return made


async def paused(database: Database, model: str | None = None) -> NewRequest:
    """A turn of a tenant that is paused."""
    await at_work(database)
    await take(database, made := request())
    async with database.transaction() as tx:
        await pauses.pause(tx, "default", model, reason="maintenance", until=LATER, by="user:1")
    return made


async def model_paused(database: Database) -> NewRequest:
    """A turn of a model that is paused."""
    return await paused(database, "llama3")


async def cancelled(database: Database) -> NewRequest:
    """A turn that runs, and was cancelled."""
    worker = await at_work(database)
    await take(database, made := request())
    await claim(database, worker)
    await take(database, cancels=[made.ref])
    return made


@pytest.mark.parametrize(
    ("make", "code", "detail"),
    [
        (behind, "behind_in_conversation", "behind 1 request of its conversation"),
        (later, "not_before", "has not come"),
        (failed, "backing_off", "timeout: slow"),
        (held_back, "model_held_back", "auth: the key is wrong"),
        (paused, "tenant_paused", "maintenance"),
        (model_paused, "model_paused", "maintenance"),
        (alone, "no_worker", "No worker is alive"),
        (crowded, "no_free_slot", "taken"),
        (cancelled, "cancelling", "cancel"),
    ],
)
async def test_each_reason_for_waiting(
    client: httpx.AsyncClient, database: Database, make: Any, code: str, detail: str
) -> None:
    """Each has its code, a sentence, and its end where that is known."""
    made = await make(database)
    headers = bearer(await make_key(database, "admin"))

    found = (await client.get(f"{URL}/{made.id}/waiting", headers=headers)).json()

    (reason,) = found["reasons"]
    assert (code, True) == (reason["code"], detail in reason["detail"])
    assert re.fullmatch(r"[A-Z].+[.]", reason["detail"])
    assert (code in ("not_before", "backing_off", "model_held_back", "tenant_paused", "model_paused")) == (
        reason["until"] is not None
    )
    assert ("request_id" in reason) == (code == "behind_in_conversation")
    assert found["estimate_seconds"] is None


async def test_a_record_that_no_worker_has_read(client: httpx.AsyncClient, database: Database) -> None:
    """A request without a row waits for intake."""
    await at_work(database)
    headers = bearer(await make_key(database, "admin"))
    id = Receipts([SECRET]).mint("default", "key:program", datetime.now(UTC))

    found = (await client.get(f"{URL}/{id}/waiting", headers=headers)).json()

    assert (["not_read_yet"], "pending") == ([each["code"] for each in found["reasons"]], found["status"])


async def test_a_cancel_shows_before_any_worker_has_read_the_request(
    client: httpx.AsyncClient, database: Database
) -> None:
    """To the owner and to admins; a cancel of another owner or an unsigned one, which will not count, does not."""
    await at_work(database)
    mine = bearer(await make_key(database, "read"))
    admin = bearer(await make_key(database, "admin"))
    asked, anothers, unsigned = (Receipts([SECRET]).mint("default", "key:program", datetime.now(UTC)) for _ in range(3))
    await cancels.keep_early(database, RequestRef("default", asked), "key:program")
    await cancels.keep_early(database, RequestRef("default", anothers), "ada")
    async with database.transaction() as tx:
        await cancels.cancel(tx, [RequestRef("default", unsigned)])

    for headers, expected in ((mine, [True, False, False]), (admin, [True, True, False])):
        ids = (asked, anothers, unsigned)
        found = [(await client.get(f"{URL}/{id}", headers=headers)).json()["cancel_requested"] for id in ids]
        assert expected == found
    why = (await client.get(f"{URL}/{asked}/waiting", headers=mine)).json()["reasons"]
    assert ["cancelling", "not_read_yet"] == [each["code"] for each in why]


async def test_when_it_was_accepted(client: httpx.AsyncClient, database: Database) -> None:
    """It is the time of the record in Kafka if that has one, and before it is read that of the id."""
    headers = bearer(await make_key(database, "read"))
    now = datetime.now(UTC).replace(microsecond=0)
    unread = Receipts([SECRET]).mint("default", "key:program", now)
    early, without = request(user="key:program"), request(user="key:program")
    await take(database, early, without)
    await database.run("UPDATE requests SET src_timestamp = :ms WHERE id = :id", id=early.id, ms=1769860798023)
    await database.run("UPDATE requests SET src_timestamp = -1 WHERE id = :id", id=without.id)

    found = [(await client.get(f"{URL}/{id}", headers=headers)).json() for id in (early.id, without.id, unread)]

    times = [each["accepted_at"] for each in found]
    assert ["2026-01-31T11:59:58.023000Z", None, now.isoformat().replace("+00:00", "Z")] == times
    assert (None, None) == (found[2]["created_at"], found[2]["messages"])


async def test_an_operator_sees_requests_of_all_owners_without_their_texts(
    client: httpx.AsyncClient, database: Database
) -> None:
    """In the list, by id, and why they wait; the operator's own requests have their texts."""
    theirs, own = request(user="ada", text="canary"), request(user="key:program", text="own words")
    theirs.body["metadata"] = {"who": "canary"}
    answered, waits = request(user="ada", text="canary"), request(user="ada", text="canary")
    await take(database, answered)
    await finish(database, await claim_one(database), reply="canary")
    await take(database, theirs, own, waits)
    headers = bearer(await make_key(database, "read", "operate"))

    listed = await client.get(URL, headers=headers)
    details = {
        each.id: await client.get(f"{URL}/{each.id}", headers=headers) for each in (theirs, answered, own, waits)
    }
    why = await client.get(f"{URL}/{waits.id}/waiting", headers=headers)

    assert {each.id for each in (theirs, answered, own, waits)} == {UUID(each["id"]) for each in listed.json()["data"]}
    assert "canary" not in listed.text + "".join(each.text for each in details.values()) + why.text
    assert "own words" in details[own.id].text
    assert ("ada", "completed", 200) == (
        details[answered.id].json()["owner"], details[answered.id].json()["status"], why.status_code,
    )  # fmt: skip


async def test_a_request_that_ended_does_not_wait(client: httpx.AsyncClient, database: Database) -> None:
    """Nor does one that runs."""
    await take(database, made := request())
    turn = await claim_one(database)
    headers = bearer(await make_key(database, "admin"))

    runs = (await client.get(f"{URL}/{made.id}/waiting", headers=headers)).json()
    await finish(database, turn)
    ended = (await client.get(f"{URL}/{made.id}/waiting", headers=headers)).json()

    nothing = {"id": str(made.id), "position": None, "ahead": None, "estimate_seconds": None, "reasons": []}
    assert {**nothing, "status": "in_progress"} == runs
    assert {**nothing, "status": "completed"} == ended
