import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI, Request

from gateway.deletion import Deletion
from gateway.drain import Drain
from gateway.following.events import Hub
from gateway.http.problems import Problems
from gateway.metrics import Metrics
from gateway.people.principal import EVERYTHING, Principal, nameless
from gateway.routes.tasks import Tasks
from gateway.submission import Submission
from gateway.submit import Submissions
from gateway.tasks import MAX_CANCELS, TaskService
from gateway.timings import Timings
from orchestra.agents.catalogue import Agents
from orchestra.receipts import Receipts
from orchestra.store import cancels, tasks
from orchestra.store.requests import StoredRequest
from orchestra.store.tasks import OpenTask
from schemas.api.keys import Scope
from schemas.api.requests import RequestResource
from schemas.api.tasks import TaskFilter, TaskResource
from schemas.changes import Change
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode, OrchestraError
from schemas.ids import conversation_id_for_request
from schemas.replies import RequestError
from schemas.requests import MessageRequested
from schemas.status import Status
from tests.support.events import SIGNER
from tests.support.fakes import Calls, away
from tests.support.people import routed

WANTED = {"task_type": "summarization", "prompt": "long"}
ALICE = {"X-User-ID": "alice"}
ID = uuid4()


def resource(status: Status = Status.COMPLETED, **more: Any) -> TaskResource:
    fields: dict[str, Any] = {
        "id": ID,
        "task_id": ID,
        "user_id": "alice",
        "status": status,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "conversation_id": conversation_id_for_request(ID),
    }
    return TaskResource.model_validate({**fields, **more})


@dataclass
class World:
    """The parts behind the routes. ``caller`` None: an open gateway, where X-User-ID is the name."""

    caller: Principal | None = None
    scopes: list[Scope] = field(default_factory=list)
    asked: list[Submission] = field(default_factory=list)
    done: list[tuple[str, Any]] = field(default_factory=list)
    known: dict[UUID, StoredRequest] = field(default_factory=dict)
    looked_up: RequestResource | None = None
    drain: Drain = field(default_factory=Drain)
    priority_limit: int = 9

    async def identify(self, request: Request, scope: Scope, _or_scope: object) -> Principal:
        self.scopes.append(scope)
        return self.caller or nameless(request.headers.get("x-user-id", ""))

    async def message(self, ask: Submission) -> None:
        self.asked.append(ask)
        stored = RequestResource(id=ask.id, status=Status.PENDING)
        self.known[ask.id] = StoredRequest(stored, ask.body_hash, ask.caller.user)

    async def cancel(self, caller: Principal, id: UUID, conversation_id: UUID | None, _change: Change) -> None:
        self.done.append(("cancel", (caller, id, conversation_id)))

    async def delete_conversation(self, caller: Principal, id: UUID, _change: Change) -> None:
        self.done.append(("delete", (caller, id)))

    async def stored(self, _caller: Principal, id: UUID) -> StoredRequest | None:
        return self.known.get(id)

    async def resource(self, _caller: Principal, _id: UUID) -> RequestResource:
        if self.looked_up is None:
            raise OrchestraError(ErrorCode.NOT_FOUND)
        return self.looked_up

    def check(self, *_: Any) -> None:
        """No limit is reached."""

    @property
    def body(self) -> MessageRequested:
        """The last submission."""
        body = self.asked[-1].body
        assert isinstance(body, MessageRequested)
        return body


SOON = Timings(look_for_row=0.001, row_of_task=0.001)


@pytest.fixture
def priority_limit() -> int:
    return 9


@pytest.fixture
def world(priority_limit: int) -> World:
    return World(priority_limit=priority_limit)


@pytest.fixture
def store(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, Calls]:
    """Functions of the store that record their calls and return what a test sets."""
    results: dict[str, Any] = {
        "get": None, "page": ([], False), "body": None, "remove": True, "alone": False, "untouched": 0,
        "open_tasks": [], "count_by_status": {"pending": 1}, "count_by_type": {"analyst": 2},
    }  # fmt: skip
    calls = {name: Calls(result) for name, result in results.items()}
    for name, call in calls.items():
        monkeypatch.setattr(tasks, name, call)
    for name, result in {"life_of": cancels.Life(datetime.now(UTC), deleted=False), "mark_deleted": None}.items():
        calls[name] = Calls(result)
        monkeypatch.setattr(cancels, name, calls[name])
    return calls


@pytest.fixture
async def client(world: World, store: dict[str, Calls]) -> AsyncIterator[httpx.AsyncClient]:
    around: Any = world
    hub = Hub(Metrics(), 1024 * 1024, SIGNER)
    submissions = Submissions(Receipts([b"x" * 32]), around, around, Agents.load(None), around, hub, world.drain, SOON)
    database: Any = object()
    deletion = Deletion(database, around, hub)
    desk = TaskService(database, submissions, around, deletion, around, hub, "auto", world.priority_limit, SOON)
    app = FastAPI()
    Problems(Metrics()).install(app)
    table = Tasks(database, desk)
    app.include_router(routed(around, [*table.routes(), *table.routes_of_v0()], world.drain))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


def gives(call: Calls, *results: Any) -> None:
    """Let a function of the store return these in turn, and the last one from then on."""
    call._results = list(results)


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_the_old_post(client: httpx.AsyncClient, world: World) -> None:
    """The old POST answers with id and status, accepts any content type, and ignores unknown fields."""
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "x": 1}]
    headers = {**ALICE, "content-type": "application/x-www-form-urlencoded"}
    sent = json.dumps({**WANTED, "history": said, "unknown": 1})

    response = await client.post("/tasks", content=sent, headers=headers)

    (ask,) = world.asked
    assert response.status_code == 201
    assert response.json() == {"task_id": str(ask.id), "status": "pending"}
    assert response.headers["location"] == f"/tasks/{ask.id}"
    assert (ask.caller.user, ask.caller_waits, ask.agent) == ("alice", False, "summarization")
    assert world.body.model_dump(exclude_none=True) == {
        "task_type": "summarization",
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "long"},
        ],
    }


async def test_the_old_post_takes_what_it_took(client: httpx.AsyncClient, world: World) -> None:
    """The old POST still accepts a task with unsupported fields; its response has no room for a warning."""
    plain = await client.post("/tasks", json=WANTED, headers=ALICE)
    asking = await client.post("/tasks", json={**WANTED, "tools": [{}], "n": 1, "user": None}, headers=ALICE)

    assert {"task_id", "status"} == plain.json().keys() == asking.json().keys()
    assert world.asked[0].body_hash == world.asked[1].body_hash


async def test_a_warning_of_the_new_post(client: httpx.AsyncClient) -> None:
    """An unknown field is refused, and one in the history is listed as a warning."""
    said = [{"role": "user", "content": "a", "author": "ada"}]
    warned = await client.post("/v1/tasks", json={**WANTED, "history": said}, headers=ALICE)

    assert ["history.author"] == warned.json()["warnings"]
    assert "warnings" not in (await client.post("/v1/tasks", json=WANTED, headers=ALICE)).json()
    assert code(await client.post("/v1/tasks", json={**WANTED, "colour": 1})) == (422, "invalid_request")


async def test_the_old_post_wants_a_user(client: httpx.AsyncClient, world: World) -> None:
    """Without X-User-ID the old POST is refused in open mode, and only there."""
    assert code(await client.post("/tasks", json=WANTED)) == (400, "missing_header")
    assert (await client.post("/v1/tasks", json=WANTED)).status_code == 201
    world.caller = Principal(DEFAULT_TENANT, "key:ci", frozenset({Scope.WRITE}))
    assert (await client.post("/tasks", json=WANTED)).status_code == 201
    assert [ask.caller.user for ask in world.asked] == ["", "key:ci"]


async def test_the_new_post(client: httpx.AsyncClient, world: World) -> None:
    """The new POST answers with the whole task, even before its row exists."""
    sent = {
        **WANTED, "history": [{"role": "user", "content": "a"}], "priority": 9, "model": "m", "temperature": 0.5,
        "not_before": "2026-01-01T00:00:00", "deadline": "2026-01-01T01:00:00Z", "on_busy": "reject",
        "conversation_id": str(ID), "metadata": {"k": "v"},
    }  # fmt: skip

    response = await client.post("/v1/tasks", json=sent, headers=ALICE)

    (ask,) = world.asked
    assert (response.status_code, response.headers["location"]) == (201, f"/v1/tasks/{ask.id}")
    assert TaskResource.model_validate(response.json()) == TaskResource.model_validate(
        {
            "id": ask.id, "task_id": ask.id, "user_id": "alice", "task_type": "summarization", "prompt": "long",
            "history": sent["history"], "status": "pending", "conversation_id": ID, "model": "m", "priority": 9,
            "not_before": "2026-01-01T00:00:00Z", "deadline": "2026-01-01T01:00:00Z", "metadata": {"k": "v"},
        }
    )  # fmt: skip
    assert (world.body.temperature, world.body.on_busy, world.body.metadata) == (0.5, "reject", {"k": "v"})


async def test_the_new_post_is_strict(client: httpx.AsyncClient, world: World) -> None:
    """The new POST refuses unknown fields and other content types."""
    assert code(await client.post("/v1/tasks", json={**WANTED, "unknown": 1})) == (422, "invalid_request")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert code(await client.post("/v1/tasks", content=json.dumps(WANTED), headers=form)) == (422, "invalid_request")
    assert world.asked == []


@pytest.mark.parametrize("path", ["/tasks", "/v1/tasks"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"task_type": None}, "invalid_request"),
        ({"task_type": "Not A Name"}, "invalid_request"),
        ({"task_type": "nobody"}, "unknown_agent"),
        ({"prompt": None}, "invalid_request"),
        ({"prompt": "nul \0 canary"}, "invalid_request"),
        ({"model": "nul \0 canary"}, "invalid_request"),
        ({"history": [{"role": "canary", "content": "x"}]}, "invalid_request"),
        ({"history": "canary"}, "invalid_request"),
        ({"priority": 10}, "invalid_request"),
        ({"deadline": "2999-01-01T00:00:00Z"}, "invalid_request"),
        ({"not_before": "2999-01-01T00:00:00Z"}, "invalid_request"),
        ({"not_before": "2026-01-02T00:00:00Z", "deadline": "2026-01-01T00:00:00Z"}, "invalid_request"),
        ({"deadline": "0001-01-01T00:00:00+05:00"}, "invalid_request"),
    ],
)
async def test_bad_bodies(
    client: httpx.AsyncClient, world: World, path: str, change: dict[str, Any], expected: str
) -> None:
    """Invalid fields, an unknown type and impossible times are refused; nothing is sent and nothing echoed."""
    response = await client.post(path, json={**WANTED, **change}, headers=ALICE)

    assert code(response) == (422, expected)
    assert "canary" not in response.text
    assert world.asked == []


async def test_not_json_and_too_large(client: httpx.AsyncClient) -> None:
    """Invalid JSON is a 400, and a body over the limit a 413."""
    assert code(await client.post("/tasks", content=b"{", headers=ALICE)) == (400, "not_json")
    assert code(await client.post("/tasks", content=b" " * 10_001, headers=ALICE)) == (413, "too_large")


async def test_the_same_key_makes_one_task(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """The same key and body is the same task on both paths, with its current status; another body is refused."""
    headers = {**ALICE, "Idempotency-Key": "k"}
    first = (await client.post("/tasks", json=WANTED, headers=headers)).json()
    gives(store["get"], resource(id=first["task_id"], task_id=first["task_id"]))

    again = await client.post("/tasks", json=WANTED, headers=headers)
    new = await client.post("/v1/tasks", json=WANTED, headers=headers)
    other = await client.post("/tasks", json={**WANTED, "prompt": "other"}, headers=headers)

    assert (again.status_code, again.json()) == (201, {"task_id": first["task_id"], "status": "completed"})
    assert (new.status_code, new.json()["id"]) == (201, first["task_id"])
    assert code(other) == (422, "idempotency_key_reused")
    assert other.json()["request_id"] == first["task_id"]
    assert len(world.asked) == 1


async def test_lists_pass_on_what_is_asked(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """A list is filtered by what was named, shows only the caller's own unless it is an admin, and pages by cursor."""
    world.caller = Principal(DEFAULT_TENANT, "alice", frozenset({Scope.READ}))
    gives(store["page"], ([resource()], True), ([], False))
    query = "status=failed&type=analyst&user=bob&created_after=2026-01-01T00:00:00&created_before=2026-02-01T00:00:00Z"

    first = await client.get(f"/v1/tasks?{query}&limit=7")
    second = await client.get("/v1/tasks", params={"cursor": first.json()["next"]})

    wanted = TaskFilter(
        status=Status.FAILED, type="analyst", user="bob",
        created_after=datetime(2026, 1, 1, tzinfo=UTC), created_before=datetime(2026, 2, 1, tzinfo=UTC),
    )  # fmt: skip
    assert store["page"].calls == [
        (DEFAULT_TENANT, "alice", wanted, None, 7),
        (DEFAULT_TENANT, "alice", TaskFilter(), (datetime(2026, 1, 1, tzinfo=UTC), ID), 20),
    ]
    assert [each["id"] for each in first.json()["data"]] == [str(ID)]
    assert second.json() == {"data": [], "next": None}


async def test_the_old_list_is_a_bare_array(client: httpx.AsyncClient, store: dict[str, Calls]) -> None:
    """The old list is an array of at most 100, with a Link to the next page while there is one."""
    gives(store["page"], ([resource()], True), ([], False))

    first = await client.get("/tasks?type=analyst")

    assert [each["id"] for each in first.json()] == [str(ID)]
    url, _, rest = first.headers["link"].partition(">")
    assert (url[:8], rest) == ("</tasks?", '; rel="next"')
    second = await client.get(url[1:])
    assert (second.json(), "link" in second.headers) == ([], False)
    (_, _, filter, before, limit) = store["page"].calls[1]
    assert (filter.type, before, limit) == ("analyst", (datetime(2026, 1, 1, tzinfo=UTC), ID), 100)


@pytest.mark.parametrize("path", ["/tasks", "/v1/tasks"])
@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "cursor=nonsense", "status=waiting", "type=A%20B", "created_after=yesterday",
        "created_before=0001-01-01T00:00:00%2B05:00", "user=", "user=%00",
    ],
)  # fmt: skip
async def test_bad_queries(client: httpx.AsyncClient, store: dict[str, Calls], path: str, query: str) -> None:
    """Invalid parameters of a list are refused."""
    assert code(await client.get(f"{path}?{query}")) == (422, "invalid_request")
    assert store["page"].calls == []


@pytest.mark.parametrize("prefix", ["/tasks", "/v1/tasks"])
async def test_counts_and_one(client: httpx.AsyncClient, store: dict[str, Calls], prefix: str) -> None:
    """Counts and a single task are found under both prefixes."""
    gives(store["get"], resource(result="short"))
    assert (await client.get(f"{prefix}/stats/status")).json() == {"pending": 1}
    assert (await client.get(f"{prefix}/stats/type")).json() == {"analyst": 2}
    found = await client.get(f"{prefix}/{ID}")
    assert (found.status_code, found.json()["result"]) == (200, "short")
    old = {"id", "user_id", "task_type", "prompt", "status", "result", "created_at", "completed_at", "history"}
    assert old <= found.json().keys()


async def test_a_task_without_a_row(client: httpx.AsyncClient, world: World) -> None:
    """A task without a row is pending, a dead letter failed with its reason, and an unknown id 404."""
    assert code(await client.get(f"/tasks/{ID}")) == (404, "not_found")
    assert code(await client.get("/tasks/no-uuid")) == (404, "not_found")
    world.looked_up = RequestResource(id=ID, status=Status.PENDING)
    found = (await client.get(f"/tasks/{ID}")).json()
    assert (found["id"], found["task_id"], found["status"], found["result"]) == (str(ID), str(ID), "pending", None)
    error = RequestError(code=ErrorCode.UNKNOWN_AGENT, detail="no such agent")
    world.looked_up = RequestResource(id=ID, status=Status.FAILED, error=error)
    found = (await client.get(f"/tasks/{ID}")).json()
    assert (found["status"], found["result"]) == ("failed", "no such agent")


async def test_a_message_is_no_task(client: httpx.AsyncClient, world: World) -> None:
    """The id of a message is unknown here, for every operation."""
    world.looked_up = RequestResource(id=ID, status=Status.FAILED, created_at=datetime.now(UTC))
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
        assert code(await client.request(method, f"/v1/tasks/{ID}{path}")) == (404, "not_found")
    assert world.done == []


async def test_cancel(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """A cancel of an open task is accepted and shown; a task that has ended stays as it is."""
    gives(store["get"], resource(Status.IN_PROGRESS), resource(Status.COMPLETED))

    first, second = [await client.post(f"/v1/tasks/{ID}/cancel") for _ in range(2)]

    assert (first.status_code, first.json()["cancel_requested"]) == (202, True)
    assert (second.status_code, second.json()["cancel_requested"]) == (200, False)
    assert [(kind, what[1:]) for kind, what in world.done] == [("cancel", (ID, conversation_id_for_request(ID)))]


@pytest.mark.parametrize(("count", "cancelled", "more"), [(0, 0, False), (3, 3, False), (1001, 1000, True)])
async def test_cancel_by_filter(
    client: httpx.AsyncClient, world: World, store: dict[str, Calls], count: int, cancelled: int, more: bool
) -> None:
    """A cancel by filter cancels each matching open task, at most 1,000 per call, and says whether there are more."""
    found = [OpenTask(uuid4(), uuid4()) for _ in range(count)]
    gives(store["open_tasks"], found)

    response = await client.post("/v1/tasks/cancel", json={"type": "analyst", "user": "bob"})

    assert (response.status_code, response.json()) == (202, {"cancel_requested": cancelled, "more": more})
    assert {what[1:] for _, what in world.done} == {(each.id, each.conversation_id) for each in found[:MAX_CANCELS]}
    assert store["open_tasks"].calls == [(DEFAULT_TENANT, None, TaskFilter(type="analyst", user="bob"), 1001)]


@pytest.mark.parametrize("body", [{}, {"status": None}, {"unknown": 1}, {"status": "waiting"}, []])
async def test_cancel_by_a_filter_that_names_nothing(
    client: httpx.AsyncClient, store: dict[str, Calls], body: Any
) -> None:
    """A filter that would match every task, or is invalid, is refused."""
    assert code(await client.post("/v1/tasks/cancel", json=body)) == (422, "invalid_request")
    assert store["open_tasks"].calls == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.EXPIRED, Status.CANCELLED])
async def test_retry(client: httpx.AsyncClient, world: World, store: dict[str, Calls], status: Status) -> None:
    """A retry sends the failed task again, without its times and for its owner, and repeating it creates one task."""
    gives(store["get"], resource(status), None)
    body = {
        "task_type": "analyst", "messages": [{"role": "user", "content": "x"}], "priority": 8,
        "deadline": "2026-01-01T01:00:00Z", "not_before": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    gives(store["body"], body)

    first = await client.post(f"/v1/tasks/{ID}/retry")
    gives(store["get"], resource(status), None)
    second = await client.post(f"/v1/tasks/{ID}/retry")

    (ask,) = world.asked
    assert (first.status_code, first.json()["retry_of"], first.json()["id"]) == (201, str(ID), str(ask.id))
    assert (second.status_code, second.json()["id"]) == (201, str(ask.id))
    assert ask.caller.user == "alice"
    assert ask.id != ID
    assert world.body.model_dump(mode="json", exclude_none=True) == {
        "task_type": "analyst", "messages": body["messages"], "priority": 8, "retry_of": str(ID),
    }  # fmt: skip


async def test_retry_in_a_named_conversation(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """A retry joins the conversation of the first task, however that was named; a key of its own makes another task."""
    conversation = uuid4()
    gives(store["get"], resource(Status.FAILED, conversation_id=conversation))
    gives(store["body"], {"task_type": "analyst", "messages": [{"role": "user", "content": "x"}]})

    await client.post(f"/v1/tasks/{ID}/retry")
    await client.post(f"/v1/tasks/{ID}/retry", headers={"Idempotency-Key": "k"})

    assert [ask.body.conversation_id for ask in world.asked] == [conversation] * 2
    assert len({ask.id for ask in world.asked}) == 2


async def test_not_retryable(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """A task that is open, completed or was never taken in cannot be retried."""
    gives(store["get"], *[resource(each) for each in (Status.PENDING, Status.IN_PROGRESS, Status.COMPLETED)], None)
    error = RequestError(code=ErrorCode.NOT_JSON, detail="no")
    world.looked_up = RequestResource(id=ID, status=Status.FAILED, error=error)
    for _ in range(4):
        assert code(await client.post(f"/v1/tasks/{ID}/retry")) == (409, "not_retryable")
    assert world.asked == []


@pytest.mark.parametrize("prefix", ["/tasks", "/v1/tasks"])
@pytest.mark.parametrize(
    ("status", "alone", "record"),
    [
        (Status.IN_PROGRESS, False, "cancel"),
        (Status.COMPLETED, False, None),
        (Status.PENDING, True, "delete"),
        (Status.COMPLETED, True, "delete"),
    ],
)
async def test_delete(
    client: httpx.AsyncClient,
    world: World,
    store: dict[str, Calls],
    prefix: str,
    status: Status,
    alone: bool,
    record: str | None,
) -> None:
    """Deleting a task cancels it if it is open, and deletes its conversation if that holds nothing else."""
    conversation = conversation_id_for_request(ID)
    gives(store["get"], resource(status))
    gives(store["alone"], alone)

    response = await client.delete(f"{prefix}/{ID}")

    assert (response.status_code, response.content) == (204, b"")
    assert [kind for kind, _ in world.done] == ([record] if record else [])
    removed = [call[:3] for call in store["remove"].calls]
    assert removed == ([] if alone else [((DEFAULT_TENANT, ID), conversation, None)])
    assert [bool(call[3]) for call in store["remove"].calls] == ([] if alone else [status.terminal])  # Audited here.
    assert store["mark_deleted"].calls == ([((DEFAULT_TENANT, conversation),)] if alone else [])


async def test_a_task_alone_in_a_conversation_of_another_owner(
    client: httpx.AsyncClient, world: World, store: dict[str, Calls]
) -> None:
    """A task that was refused there is deleted, and the conversation is not."""
    gives(store["get"], resource(Status.FAILED))
    gives(store["alone"], True)
    gives(store["life_of"], None)

    assert (await client.delete(f"/v1/tasks/{ID}")).status_code == 204

    assert ([], []) == (world.done, store["mark_deleted"].calls)
    assert [call[:3] for call in store["remove"].calls] == [
        ((DEFAULT_TENANT, ID), conversation_id_for_request(ID), None)
    ]


async def test_delete_before_the_row_is_there(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """A deletion waits for the row, asks to retry if it does not come, and does not find a dead letter."""
    world.looked_up = RequestResource(id=ID, status=Status.PENDING)
    early = await client.delete(f"/tasks/{ID}")
    assert (*code(early), early.headers["retry-after"]) == (503, "unavailable", "1")
    world.looked_up = RequestResource(id=ID, status=Status.FAILED)
    assert code(await client.delete(f"/tasks/{ID}")) == (404, "not_found")
    assert store["remove"].calls == []


async def test_a_removal_whose_record_is_lost_removes_nothing(
    client: httpx.AsyncClient, world: World, store: dict[str, Calls], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While Kafka is away an open task stays visible, so that its deletion can be requested again."""
    gives(store["get"], resource(Status.IN_PROGRESS))

    async def lost(*_: Any) -> None:
        raise OrchestraError(ErrorCode.OUTCOME_UNKNOWN)

    monkeypatch.setattr(world, "cancel", lost)
    assert code(await client.delete(f"/tasks/{ID}")) == (503, "outcome_unknown")
    assert store["remove"].calls == []


async def test_postgres_away(client: httpx.AsyncClient, world: World, store: dict[str, Calls]) -> None:
    """While Postgres is away a task is still accepted, and every read is a 503."""
    for name in ("get", "page", "count_by_status"):
        store[name].__init__(away())  # type: ignore[misc]
    made = await client.post("/v1/tasks", json=WANTED)
    assert (made.status_code, made.json()["status"], len(world.asked)) == (201, "pending", 1)
    for path in ("", f"/{ID}", "/stats/status"):
        assert code(await client.get(f"/v1/tasks{path}")) == (503, "unavailable")


async def test_scopes_and_drain(client: httpx.AsyncClient, world: World) -> None:
    """Reads need the scope `read`, everything else `write`; while draining no new work is accepted."""
    world.caller = Principal(DEFAULT_TENANT, "alice", EVERYTHING)
    world.drain.begin()
    written = [
        ("POST", "/tasks"), ("POST", "/v1/tasks"), ("POST", f"/v1/tasks/{ID}/retry"), ("POST", "/v1/tasks/cancel"),
        ("POST", f"/v1/tasks/{ID}/cancel"), ("DELETE", f"/tasks/{ID}"), ("DELETE", f"/v1/tasks/{ID}"),
    ]  # fmt: skip
    for method, path in written:
        assert code(await client.request(method, path, json=WANTED)) == (503, "unavailable")
    assert world.scopes == [Scope.WRITE] * len(written)
    world.scopes.clear()
    paths = ("", f"/{ID}", "/stats/status", "/stats/type")
    for path in paths:
        assert (await client.get(f"/tasks{path}")).status_code in (200, 404)
        assert (await client.get(f"/v1/tasks{path}")).status_code in (200, 404)
    assert world.scopes == [Scope.READ] * 2 * len(paths)


async def test_other_methods(client: httpx.AsyncClient) -> None:
    """Another method is a 405."""
    assert code(await client.put("/tasks")) == (405, "method_not_allowed")


@pytest.mark.parametrize("priority_limit", [8])
@pytest.mark.parametrize(
    ("scopes", "priority", "warnings"),
    [({"write"}, 8, ["priority"]), ({"write", "priority"}, 9, []), (EVERYTHING, 9, [])],
)
async def test_a_priority_above_what_the_caller_may_is_lowered(
    client: httpx.AsyncClient, world: World, scopes: set[str], priority: int, warnings: list[str]
) -> None:
    """A priority above the caller's limit is lowered, with a warning except in the old call's response."""
    world.caller = Principal(DEFAULT_TENANT, "alice", frozenset(map(Scope, scopes)), key_id="x")

    new = await client.post("/v1/tasks", json={**WANTED, "priority": 9})
    old = await client.post("/tasks", json={**WANTED, "priority": 9})

    assert [priority, priority] == [ask.body.priority for ask in world.asked]
    assert (201, 201, warnings) == (new.status_code, old.status_code, new.json().get("warnings", []))
