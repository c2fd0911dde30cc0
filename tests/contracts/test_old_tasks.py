"""The calls of the task service, of users and of tokens before this system, replayed with curl on real services."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.curl import Reply, curl
from tests.support.gateway import own_env
from tests.support.people import BCRYPT, PASSWORD
from tests.support.ports import free_port
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

STATES = {"pending", "in_progress", "completed", "failed"}
COUNTED = {*STATES, "cancelled", "expired"}
TASK = {"id", "user_id", "task_type", "prompt", "status", "result", "created_at", "completed_at", "history"}
USER = {"id", "username", "role", "created_at"}
TYPES = ("summarization", "translation", "code_generation", "analyst", "interviewer", "programmer")
HISTORY = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
SLOW = "simulated:latency_ms=50000"
NOT_THERE = ["00000000-0000-4000-8000-000000000000", "42", "task-1"]


@dataclass
class OldSystem:
    """Where the old system is: ``url`` requires no credentials, as its services did; ``closed`` always does."""

    url: str
    closed: str
    database: asyncpg.Connection

    async def post_task(self, user: str, url: str = "", **fields: Any) -> Reply:
        """`POST /tasks`."""
        body = {"task_type": "summarization", "prompt": "Some text", **fields}
        return await curl(f"{url or self.url}/tasks -H 'X-User-ID: {user}' {data(body)}")

    async def made(self, user: str, **fields: Any) -> str:
        """The id of a new task."""
        return str((await self.post_task(user, **fields)).json["task_id"])

    async def until(self, id: str, *states: str) -> dict[str, Any]:
        """A task, once it is in one of these states. Meanwhile it is in one that clients of old know."""

        async def attempt() -> dict[str, Any] | None:
            task = (await curl(f"{self.url}/tasks/{id}")).json
            assert task["status"] in STATES
            return dict(task) if task["status"] in states else None

        found = await eventually(attempt, pause=0.1)
        assert found is not None
        return found

    async def tasks_of(self, user: str) -> list[str]:
        """Ids of one user's tasks, in the order of `GET /tasks`."""
        reply = await curl(f"{self.url}/tasks")
        assert reply.status == 200
        return [task["id"] for task in reply.json if task["user_id"] == user]

    async def post_user(self, username: str, **fields: Any) -> Reply:
        """`POST /v1/users`."""
        return await curl(f"{self.url}/v1/users {data({'username': username, 'password': PASSWORD, **fields})}")

    async def token(self, username: str, url: str = "") -> str:
        """`POST /token` with the password of all tests; the header that shows the token."""
        reply = await curl(f"{url or self.url}/token {form(username, PASSWORD)}")
        assert reply.status == 200, reply.text
        return f"-H 'Authorization: Bearer {reply.json['access_token']}'"


@dataclass
class Ground:
    """Both gateways by port, the database, and the list of users before any user was created."""

    ports: dict[str, str]
    closed: dict[str, str]
    database: asyncpg.Connection
    no_users: Reply


def data(body: Any) -> str:
    """`-d` as curl has it: a form type over whatever is sent."""
    return f"-d {shlex.quote(body if isinstance(body, str) else json.dumps(body))}"


def form(username: str, password: str) -> str:
    return f"--data-urlencode 'username={username}' --data-urlencode 'password={password}'"


def name() -> str:
    return f"somebody-{uuid4()}"


def ahead() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).isoformat()


@pytest.fixture(scope="module")
async def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """Our services in the place of the old ones, with a database that had no users."""
    env = await own_env(stack)
    services = Services(env, tmp_path_factory.mktemp("old"))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        database = await asyncpg.connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        tasks_ports = free_port(), free_port()
        await services.llm()
        _, open_one, closed = await asyncio.gather(
            services.worker(),
            services.gateway(TASKS_PORT=str(tasks_ports[0])),
            services.gateway(TASKS_PORT=str(tasks_ports[1]), OPEN_MODE="false"),
        )
        first, second = [
            {"gateway": each.url, "tasks": f"http://127.0.0.1:{port}"}
            for each, port in zip((open_one, closed), tasks_ports, strict=True)
        ]
        yield Ground(first, second, database, await curl(f"{open_one.url}/v1/users"))


@pytest.fixture(params=["gateway", "tasks"])
def old(running: Ground, request: pytest.FixtureRequest) -> OldSystem:
    """The old system on each of the two ports, which have the same routes."""
    return OldSystem(running.ports[request.param], running.closed[request.param], running.database)


async def test_a_task(old: OldSystem) -> None:
    """`POST /tasks` answers 201 with the id, a UUID, and `pending`."""
    reply = await old.post_task(name(), task_type="translation", prompt="Bonjour", history=HISTORY, unknown=1)

    assert reply.status == 201
    assert reply.json == {"task_id": str(UUID(reply.json["task_id"])), "status": "pending"}
    assert reply.headers["location"] == f"/tasks/{reply.json['task_id']}"


async def test_a_task_of_nobody(old: OldSystem) -> None:
    """Without X-User-ID `POST /tasks` is 400, and makes nothing."""
    before = (await curl(f"{old.url}/tasks/stats/type")).json
    body = data({"task_type": "summarization", "prompt": "x"})
    for header in ("", "-H 'X-User-ID;'", "-H 'X-User-ID:  '"):
        assert (await curl(f"{old.url}/tasks {header} {body}")).status == 400

    assert (await curl(f"{old.url}/tasks/stats/type")).json == before


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("not json", 400),
        ("task_type=summarization&prompt=x", 400),
        ({"task_type": "poetry", "prompt": "x"}, 422),
        ({"prompt": "x"}, 422),
        ({"task_type": "summarization"}, 422),
        ({"task_type": "summarization", "prompt": "x", "history": [{"role": "robot", "content": "x"}]}, 422),
    ],
)
async def test_what_is_no_task(old: OldSystem, body: Any, status: int) -> None:
    """What is not JSON is 400; an unknown type, or a body without type or prompt, is 422."""
    assert (await curl(f"{old.url}/tasks -H 'X-User-ID: {name()}' {data(body)}")).status == status


@pytest.mark.parametrize("task_type", TYPES)
async def test_types(old: OldSystem, task_type: str) -> None:
    """Each type of old is answered, with or without a dialogue before it."""
    for more in ({}, {"history": HISTORY}, {"history": []}, {"history": None}):
        task = await old.until(await old.made(name(), task_type=task_type, prompt="What now?", **more), "completed")
        assert (task["result"], task["history"]) == ("echo: What now?", more.get("history") or [])


async def test_one_task(old: OldSystem) -> None:
    """`GET /tasks/{id}` has the fields of old; there is no result and no end before it is done."""
    user = name()
    id = await old.made(user, task_type="translation", prompt="Bonjour", history=HISTORY)
    task = await old.until(id, "completed")
    assert task.keys() >= TASK
    shown = {field: task[field] for field in TASK - {"created_at", "completed_at"}}
    assert shown == {
        "id": id, "user_id": user, "task_type": "translation", "prompt": "Bonjour", "status": "completed",
        "result": "echo: Bonjour", "history": HISTORY,
    }  # fmt: skip
    created, completed = (datetime.fromisoformat(task[each]) for each in ("created_at", "completed_at"))
    assert created.utcoffset() == completed.utcoffset() == timedelta(0)
    assert created < completed

    running = await old.until(await old.made(user, model=SLOW), "in_progress")
    assert running.keys() >= TASK
    assert (running["result"], running["completed_at"]) == (None, None)
    assert (await curl(f"-X DELETE {old.url}/tasks/{running['id']}")).status == 204


async def test_a_task_that_waits(old: OldSystem) -> None:
    """Until a worker has it a task is `pending`, with no result and no end."""
    id = await old.made(name(), not_before=ahead())
    task = (await curl(f"{old.url}/tasks/{id}")).json

    assert (task["status"], task["result"], task["completed_at"]) == ("pending", None, None)
    assert (await curl(f"-X DELETE {old.url}/tasks/{id}")).status == 204


async def test_a_task_that_fails(old: OldSystem) -> None:
    """The result of a task that has failed is the text of its error."""
    task = await old.until(await old.made(name(), model="simulated:fail=content_filter"), "failed")

    assert "filter" in task["result"]
    assert task["completed_at"] is not None


@pytest.mark.parametrize("id", NOT_THERE)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_such_task(old: OldSystem, method: str, id: str) -> None:
    """What is not there is 404."""
    reply = await curl(f"-X {method} {old.url}/tasks/{id}")

    assert (reply.status, reply.code) == (404, "not_found")


async def test_all_tasks(old: OldSystem) -> None:
    """`GET /tasks` is an array, the newest first, that shows a task as soon as it is made; `Link` leads on."""
    user = name()
    made = [await old.made(user, prompt=str(number)) for number in range(3)]

    assert await old.tasks_of(user) == made[::-1]
    listed = (await curl(f"{old.url}/tasks")).json
    assert all(task.keys() >= TASK and task["status"] in COUNTED for task in listed)
    seen, path = [], "/tasks?limit=2"
    while path:
        page = await curl(f"'{old.url}{path}'")
        assert len(page.json) <= 2
        seen += [task["id"] for task in page.json if task["user_id"] == user]
        path = page.headers.get("link", "").partition("<")[2].partition('>; rel="next"')[0]
    assert seen == made[::-1]


@pytest.mark.parametrize("state", ["in_progress", "completed", "failed"])
async def test_delete_a_task(old: OldSystem, state: str) -> None:
    """`DELETE /tasks/{id}` is 204 without a body, whatever the state; then the task is gone, and a second one 404."""
    user, model = name(), {"in_progress": SLOW, "failed": "simulated:fail=content_filter"}.get(state, "simulated")
    id = await old.made(user, model=model)
    await old.until(id, state)
    reply = await curl(f"-X DELETE {old.url}/tasks/{id}")

    assert (reply.status, reply.text) == (204, "")
    assert (await curl(f"{old.url}/tasks/{id}")).status == 404
    assert (await curl(f"-X DELETE {old.url}/tasks/{id}")).status == 404
    assert await old.tasks_of(user) == []
    if state == "in_progress":
        sql = "SELECT status FROM requests WHERE id = $1 AND finished_at IS NOT NULL"
        assert await eventually(lambda: old.database.fetchval(sql, UUID(id))) == "cancelled"


async def test_counts(old: OldSystem) -> None:
    """The counts name every state and every type that there is, and follow what is made, done and deleted."""

    async def counts() -> tuple[dict[str, int], dict[str, int]]:
        by_status, by_type = [await curl(f"{old.url}/tasks/stats/{each}") for each in ("status", "type")]
        assert (by_status.status, by_type.status) == (200, 200)
        assert by_status.json.keys() == COUNTED
        return by_status.json, by_type.json

    status, types = await counts()
    done = await old.made(name(), task_type="analyst")
    failed = await old.made(name(), task_type="programmer", model="simulated:fail=content_filter")
    running = await old.made(name(), task_type="programmer", model=SLOW)
    for id, state in ((done, "completed"), (failed, "failed"), (running, "in_progress")):
        await old.until(id, state)
    waits = await old.made(name(), task_type="interviewer", not_before=ahead())

    now_status, now_types = await counts()
    assert now_status == {each: status[each] + (each in STATES) for each in status}
    added = {"analyst": 1, "programmer": 2, "interviewer": 1}
    assert now_types == types | {each: types.get(each, 0) + more for each, more in added.items()}
    for id in (done, failed, running, waits):
        assert (await curl(f"-X DELETE {old.url}/tasks/{id}")).status == 204
    assert await counts() == (status, types)


async def test_a_task_with_credentials(old: OldSystem) -> None:
    """Where credentials are asked for a task is its caller's; only an admin may name another."""
    ann, bob, root = name(), name(), name()
    ids = {each: (await old.post_user(each)).json["id"] for each in (ann, bob)}
    await old.post_user(root, role="admin")
    anns, roots = [await old.token(each, old.closed) for each in (ann, root)]
    body = data({"task_type": "summarization", "prompt": "x"})

    async def post(*headers: str) -> Reply:
        return await curl(f"{old.closed}/tasks {' '.join(headers)} {body}")

    assert (await post()).status == 401
    assert (await post(f"-H 'X-User-ID: {ids[ann]}'")).status == 401
    assert (await post(anns, f"-H 'X-User-ID: {ids[bob]}'")).status == 403
    assert (await post(anns, f"-H 'X-User-ID: {bob}'")).status == 403
    for own in ("", f"-H 'X-User-ID: {ids[ann]}'", f"-H 'X-User-ID: {ann}'"):
        reply = await post(anns, own)
        assert (reply.status, reply.json["status"]) == (201, "pending")
        assert (await curl(f"{old.closed}/tasks/{reply.json['task_id']} {anns}")).json["user_id"] == ids[ann]
    made = await post(roots, f"-H 'X-User-ID: {ids[bob]}'")
    assert (await curl(f"{old.closed}/tasks/{made.json['task_id']} {roots}")).json["user_id"] == ids[bob]


async def test_whose_tasks_are_seen(old: OldSystem) -> None:
    """Users see and count only their own tasks; admins see all of them."""
    ann, bob, root = name(), name(), name()
    for each, role in ((ann, "user"), (bob, "user"), (root, "admin")):
        assert (await old.post_user(each, role=role)).status == 201
    anns, bobs, roots = [await old.token(each, old.closed) for each in (ann, bob, root)]
    made = await curl(f"{old.closed}/tasks {anns} {data({'task_type': 'analyst', 'prompt': 'x'})}")
    id = made.json["task_id"]

    assert [task["id"] for task in (await curl(f"{old.closed}/tasks {anns}")).json] == [id]
    assert (await curl(f"{old.closed}/tasks/stats/type {anns}")).json == {"analyst": 1}
    assert (await curl(f"{old.closed}/tasks {bobs}")).json == []
    assert (await curl(f"{old.closed}/tasks/stats/type {bobs}")).json == {}
    assert (await curl(f"{old.closed}/tasks/stats/status {bobs}")).json == dict.fromkeys(COUNTED, 0)
    for method in ("GET", "DELETE"):
        assert (await curl(f"-X {method} {old.closed}/tasks/{id} {bobs}")).status == 404
    assert id in [task["id"] for task in (await curl(f"{old.closed}/tasks {roots}")).json]
    assert (await curl(f"{old.closed}/tasks/{id} {roots}")).status == 200
    assert (await curl(f"-X DELETE {old.closed}/tasks/{id} {anns}")).status == 204


async def test_no_users(running: Ground) -> None:
    """`GET /v1/users` is an empty array while there are no users."""
    assert (running.no_users.status, running.no_users.text) == (200, "[]")


async def test_a_user(old: OldSystem) -> None:
    """`POST /v1/users` answers 201 with the user, who is a `user` unless made an `admin`; no password is shown."""
    for role, told in ((None, "user"), ("user", "user"), ("admin", "admin")):
        username = name()
        reply = await old.post_user(username, **({"role": role} if role else {}), unknown=1)

        assert (reply.status, reply.json.keys()) == (201, USER)
        assert (reply.json["username"], reply.json["role"]) == (username, told)
        assert str(UUID(reply.json["id"])) == reply.json["id"]
        assert datetime.fromisoformat(reply.json["created_at"]).utcoffset() == timedelta(0)


async def test_a_name_that_is_taken(old: OldSystem) -> None:
    """A username that is already taken is 409, for a new user and for a change."""
    one, other = name(), name()
    assert (await old.post_user(one)).status == 201
    id = (await old.post_user(other)).json["id"]

    assert (await old.post_user(one)).status == 409
    assert (await curl(f"-X PUT {old.url}/v1/users/{id} {data({'username': one})}")).status == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("not json", 400),
        ({"username": "ada", "password": "seven77"}, 422),
        ({"username": "ada"}, 422),
        ({"password": PASSWORD}, 422),
        ({"username": "", "password": PASSWORD}, 422),
        ({"username": "ada", "password": PASSWORD, "role": "king"}, 422),
    ],
)
async def test_what_is_no_user(old: OldSystem, body: Any, status: int) -> None:
    """What is not JSON is 400; a short password, a missing or empty name and an unknown role are 422."""
    assert (await curl(f"{old.url}/v1/users {data(body)}")).status == status


async def test_the_shortest_password(old: OldSystem) -> None:
    """A password of 8 characters will do."""
    assert (await old.post_user(name(), password="eight888")).status == 201


async def test_all_users(old: OldSystem) -> None:
    """`GET /v1/users` is an array of users, the newest first."""
    made = [(await old.post_user(name())).json for _ in range(3)]
    reply = await curl(f"{old.url}/v1/users")

    assert reply.status == 200
    assert reply.json[:3] == made[::-1]
    assert all(user.keys() == USER for user in reply.json)


@pytest.mark.parametrize("field", ["username", "password", "role"])
async def test_change_a_user(old: OldSystem, field: str) -> None:
    """`PUT /v1/users/{id}` changes any of the three and answers 200 with the user."""
    made = (await old.post_user(name())).json
    new = {"username": name(), "password": "another horse", "role": "admin"}[field]
    reply = await curl(f"-X PUT {old.url}/v1/users/{made['id']} {data({field: new})}")

    expected = made if field == "password" else {**made, field: new}
    assert (reply.status, reply.json) == (200, expected)
    password = new if field == "password" else PASSWORD
    assert (await curl(f"{old.url}/token {form(expected['username'], password)}")).status == 200


@pytest.mark.parametrize("body", [{}, {"unknown": 1}])
async def test_nothing_to_change(old: OldSystem, body: dict[str, Any]) -> None:
    """A `PUT` that names nothing to change is 400."""
    made = (await old.post_user(name())).json

    assert (await curl(f"-X PUT {old.url}/v1/users/{made['id']} {data(body)}")).status == 400


@pytest.mark.parametrize("id", NOT_THERE)
async def test_no_such_user(old: OldSystem, id: str) -> None:
    """A user who is not there is 404."""
    assert (await curl(f"-X PUT {old.url}/v1/users/{id} {data({'role': 'user'})}")).status == 404
    assert (await curl(f"-X DELETE {old.url}/v1/users/{id}")).status == 404


async def test_delete_a_user(old: OldSystem) -> None:
    """`DELETE /v1/users/{id}` is 204 without a body; then the user is gone, and a second call is 404."""
    made = (await old.post_user(name())).json
    reply = await curl(f"-X DELETE {old.url}/v1/users/{made['id']}")

    assert (reply.status, reply.text) == (204, "")
    assert made["id"] not in [user["id"] for user in (await curl(f"{old.url}/v1/users")).json]
    assert (await curl(f"-X DELETE {old.url}/v1/users/{made['id']}")).status == 404
    assert (await curl(f"{old.url}/token {form(made['username'], PASSWORD)}")).status == 401


async def test_users_are_for_admins(old: OldSystem) -> None:
    """Where credentials are required, only admins manage users, and no admin deletes their own account."""
    root, ann = name(), name()
    id = (await old.post_user(root, role="admin")).json["id"]
    anns_id = (await old.post_user(ann)).json["id"]
    roots, anns = [await old.token(each, old.closed) for each in (root, ann)]
    body = data({"username": name(), "password": PASSWORD})
    for path in (
        f"{old.closed}/v1/users",
        f"{old.closed}/v1/users {body}",
        f"-X PUT {old.closed}/v1/users/{anns_id} {data({'role': 'admin'})}",
        f"-X DELETE {old.closed}/v1/users/{id}",
    ):
        assert (await curl(path)).status == 401
        assert (await curl(f"{path} {anns}")).status == 403

    assert (await curl(f"-X DELETE {old.closed}/v1/users/{id} {roots}")).status == 403
    assert id in [user["id"] for user in (await curl(f"{old.closed}/v1/users {roots}")).json]
    assert (await curl(f"{old.closed}/v1/users {body} {roots}")).status == 201
    assert (await curl(f"-X DELETE {old.closed}/v1/users/{anns_id} {roots}")).status == 204


@pytest.mark.parametrize("more", ["", "-d grant_type=password", "-d grant_type=password -d scope= -d client_id="])
async def test_sign_in(old: OldSystem, more: str) -> None:
    """`POST /token` takes the form of OAuth2; `GET /users/me` takes the `access_token` of its answer."""
    username = name()
    made = (await old.post_user(username)).json
    for url in (old.url, old.closed):
        reply = await curl(f"{url}/token {form(username, PASSWORD)} {more}")
        assert reply.status == 200
        assert reply.json.keys() >= {"access_token", "token_type"}
        assert reply.json["token_type"] == "bearer"
        me = await curl(f"{url}/users/me -H 'Authorization: Bearer {reply.json['access_token']}'")
        assert (me.status, me.json) == (200, made)


async def test_who_does_not_sign_in(old: OldSystem) -> None:
    """A wrong password, an unknown user, no token and a bad one are 401; what is no such form is 422."""
    username = name()
    await old.post_user(username)
    for url in (old.url, old.closed):
        for line in (
            f"{url}/token {form(username, 'wrong horse')}",
            f"{url}/token {form(name(), PASSWORD)}",
            f"{url}/users/me",
            f"{url}/users/me -H 'Authorization: Bearer nonsense'",
        ):
            reply = await curl(line)
            assert (reply.status, reply.code) == (401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer"
        for body in ("", "username=x", json.dumps({"username": username, "password": PASSWORD})):
            assert (await curl(f"{url}/token {data(body)}")).status == 422


async def test_a_row_of_the_old_table(old: OldSystem) -> None:
    """A user whom the old system has inserted is listed, and signs in with the hash that it has made."""
    username = name()
    sql = "INSERT INTO users (username, password_hash, role) VALUES ($1, $2, 'admin') RETURNING id"
    id = await old.database.fetchval(sql, username, BCRYPT.hash(PASSWORD))

    assert str(id) in [user["id"] for user in (await curl(f"{old.url}/v1/users")).json]
    for _ in range(2):
        token = await old.token(username)
        assert (await curl(f"{old.url}/users/me {token}")).json["role"] == "admin"
