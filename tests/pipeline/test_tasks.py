"""Tasks end to end: gateway, worker and LLM service as processes, on real Kafka and Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from orchestra.store.database import Database
from schemas.envelope import DEFAULT_TENANT
from tests.support import store
from tests.support.gateway import own_env
from tests.support.kafka import Stranger, own_topic, stranger
from tests.support.people import bearer, make_key, make_user
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

SLOW = "simulated:latency_ms=600000"
ENDED = {"completed", "failed", "cancelled", "expired"}
FIELDS = {"id", "user_id", "task_type", "prompt", "status", "result", "created_at", "completed_at", "history"}


@dataclass
class Road:
    """A gateway and the services behind it. ``direct`` produces to ``theirs``, whose records need no signature."""

    client: httpx.AsyncClient
    database: Database
    direct: Stranger
    theirs: str

    async def make(self, prompt: str = "hello", user: str = "alice", **more: Any) -> UUID:
        """A task by the old call."""
        body = {"task_type": "summarization", "prompt": prompt, "model": "simulated", **more}
        response = await self.client.post("/tasks", json=body, headers={"X-User-ID": user})
        assert response.status_code == 201, response.text
        return UUID(response.json()["task_id"])

    async def until(self, id: UUID, *statuses: str) -> dict[str, Any]:
        """The task, once it is in one of these states."""

        async def attempt() -> dict[str, Any] | None:
            found = await self.client.get(f"/tasks/{id}")
            assert found.status_code == 200, found.text
            return dict(found.json()) if found.json()["status"] in statuses else None

        found = await eventually(attempt, 60, pause=0.1)
        assert found is not None
        return found

    async def ended(self, id: UUID) -> dict[str, Any]:
        """The task once it has ended."""
        return await self.until(id, *ENDED)

    async def row(self, id: UUID) -> Any:
        """The row of a task."""
        return await store.row(self.database, (DEFAULT_TENANT, id))

    async def emptied(self, id: UUID) -> bool:
        """Return once none of its text is left."""

        async def attempt() -> bool:
            row = await self.row(id)
            return row.finished_at is not None and row.body is None

        return await eventually(attempt, 60)


@pytest.fixture(scope="module")
async def road(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Road]:
    env, theirs = await own_env(stack), await own_topic(stack)
    services = Services(env, tmp_path_factory.mktemp("services"))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        database = store.connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        direct = await undo.enter_async_context(stranger(stack))
        await services.llm()
        _, gateway = await asyncio.gather(
            services.worker(INGRESS_TOPICS=f"llm.requests=default,{theirs}=default"), services.gateway()
        )
        client = await undo.enter_async_context(httpx.AsyncClient(base_url=gateway.url, timeout=40))
        yield Road(client, database, direct, theirs)


async def test_the_old_calls(road: Road) -> None:
    """The six calls of the old service answer as it did, with real effects."""
    user, counted = f"user-{uuid4()}", (await road.client.get("/tasks/stats/type")).json().get("translation", 0)
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    body = {"task_type": "translation", "prompt": "Bonjour", "history": history, "model": "simulated"}

    assert (await road.client.post("/tasks", json=body)).status_code == 400
    made = await road.client.post("/tasks", json=body, headers={"X-User-ID": user})

    assert made.status_code == 201
    id = made.json()["task_id"]
    assert made.json() == {"task_id": str(UUID(id)), "status": "pending"}
    # At once: this does not wait.
    listed = (await road.client.get("/tasks", params={"user": user})).json()
    assert [each["id"] for each in listed] == [id]
    task = await road.ended(UUID(id))
    assert task.keys() >= FIELDS
    assert {name: task[name] for name in FIELDS - {"created_at", "completed_at"}} == {
        "id": id, "user_id": user, "task_type": "translation", "prompt": "Bonjour", "status": "completed",
        "result": "echo: Bonjour", "history": history,
    }  # fmt: skip
    assert datetime.fromisoformat(task["created_at"]) < datetime.fromisoformat(task["completed_at"])
    by_status = (await road.client.get("/tasks/stats/status")).json()
    assert by_status.keys() == {"pending", "in_progress", *ENDED}
    assert by_status["completed"] >= 1
    assert (await road.client.get("/tasks/stats/type")).json()["translation"] == counted + 1
    assert (await road.client.delete(f"/tasks/{id}")).status_code == 204
    assert (await road.client.get(f"/tasks/{id}")).status_code == 404
    assert (await road.client.delete(f"/tasks/{id}")).status_code == 404
    assert (await road.client.get("/tasks", params={"user": user})).json() == []


async def test_a_failed_attempt_is_told_and_tried_again(road: Road) -> None:
    """A task whose model fails at first completes in the end, and lists the error of each earlier attempt."""
    task = await road.ended(await road.make("flaky", model="simulated:fail_times=1"))

    assert (task["status"], task["result"], task["attempts"]) == ("completed", "echo: flaky", 2)
    assert [(each["attempt"], each["code"]) for each in task["errors"]] == [(1, "overloaded")]


async def test_a_failed_task_can_be_tried_again(road: Road) -> None:
    """A retry is a new task that names the one it retries; repeating the retry returns the same task."""
    id = await road.make("refused", model="simulated:fail=content_filter,fail_times=1", priority=7)
    failed = await road.ended(id)
    assert (failed["status"], [each["code"] for each in failed["errors"]]) == ("failed", ["content_filter"])
    assert failed["result"] == failed["errors"][0]["detail"]

    first = await road.client.post(f"/v1/tasks/{id}/retry")
    second = await road.client.post(f"/v1/tasks/{id}/retry")

    assert (first.status_code, second.status_code) == (201, 201)
    again = first.json()
    assert second.json()["id"] == again["id"] != str(id)
    assert first.headers["location"] == f"/v1/tasks/{again['id']}"
    done = await road.ended(UUID(again["id"]))
    assert (done["status"], done["result"], done["retry_of"]) == ("completed", "echo: refused", str(id))
    assert (done["user_id"], done["priority"], done["task_type"]) == ("alice", 7, "summarization")
    refused = await road.client.post(f"/v1/tasks/{again['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_retryable")


async def test_an_expired_task_is_tried_again_without_its_deadline(road: Road) -> None:
    """A task past its deadline expires by itself, and its retry, without that deadline, is answered."""
    expired = await road.ended(await road.make("late", deadline="2020-01-01T00:00:00Z"))
    assert (expired["status"], expired["attempts"], expired["result"]) == ("expired", 0, None)

    again = (await road.client.post(f"/v1/tasks/{expired['id']}/retry")).json()

    assert (await road.ended(UUID(again["id"])))["result"] == "echo: late"


async def test_priority_deadline_and_start_are_kept(road: Road) -> None:
    """A task keeps its priority, deadline and not_before, and does not start earlier."""
    not_before = datetime.now(UTC) + timedelta(seconds=2)
    deadline = not_before + timedelta(hours=1)
    times = {"not_before": not_before.isoformat(), "deadline": deadline.isoformat()}
    body = {"task_type": "analyst", "prompt": "soon", "model": "simulated", "priority": 9, **times}

    made = (await road.client.post("/v1/tasks", json=body)).json()

    assert (made["status"], made["priority"], made["user_id"]) == ("pending", 9, None)
    task = await road.ended(UUID(made["id"]))
    assert (datetime.fromisoformat(task["not_before"]), datetime.fromisoformat(task["deadline"])) == (
        not_before,
        deadline,
    )
    assert datetime.fromisoformat(task["started_at"]) >= not_before


async def test_cancel(road: Road) -> None:
    """A running task that is cancelled ends as cancelled; after that a cancel changes nothing."""
    id = await road.make(model=SLOW)
    await road.until(id, "in_progress")

    first = await road.client.post(f"/v1/tasks/{id}/cancel")

    assert (first.status_code, first.json()["cancel_requested"], first.json()["status"]) == (202, True, "in_progress")
    assert (await road.ended(id))["status"] == "cancelled"
    second = await road.client.post(f"/v1/tasks/{id}/cancel")
    assert (second.status_code, second.json()["status"]) == (200, "cancelled")


async def test_cancel_by_filter(road: Road) -> None:
    """A cancel by filter ends every matching open task, running or not, and no other."""
    user = f"user-{uuid4()}"
    running = await road.make(user=user, model=SLOW)
    waiting = await asyncio.gather(*(road.make(user=user, not_before=ahead(hours=1)) for _ in range(3)))
    other_type = await road.make(user=user, not_before=ahead(hours=1), task_type="analyst")
    await road.until(running, "in_progress")

    answer = await road.client.post("/v1/tasks/cancel", json={"user": user, "type": "summarization"})

    assert (answer.status_code, answer.json()) == (202, {"cancel_requested": 4, "more": False})
    assert {(await road.ended(id))["status"] for id in (running, *waiting)} == {"cancelled"}
    left = await road.client.get("/v1/tasks", params={"user": user, "status": "pending"})
    assert [each["id"] for each in left.json()["data"]] == [str(other_type)]
    await road.client.post("/v1/tasks/cancel", json={"user": user})


def ahead(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


async def test_delete_while_it_runs(road: Road) -> None:
    """A running task that is deleted disappears at once, is cancelled, and leaves no text or conversation."""
    id = await road.make("secret", model=SLOW)
    task = await road.until(id, "in_progress")

    assert (await road.client.delete(f"/tasks/{id}")).status_code == 204

    assert (await road.client.get(f"/tasks/{id}")).status_code == 404
    assert (await road.client.get(f"/v1/requests/{id}")).status_code == 404
    assert (await road.client.get(f"/v1/conversations/{task['conversation_id']}")).status_code == 404
    await road.emptied(id)
    assert (await road.row(id)).status == "cancelled"


async def test_delete_from_a_conversation(road: Road) -> None:
    """Deleting a task from a shared conversation removes its messages and keeps the others'."""
    conversation = str(uuid4())
    kept = await road.make("kept", conversation_id=conversation)
    await road.ended(kept)
    done = await road.make("secret", conversation_id=conversation)
    await road.ended(done)
    running = await road.make("more", conversation_id=conversation, model=SLOW)
    await road.until(running, "in_progress")

    for id in (done, running):
        assert (await road.client.delete(f"/v1/tasks/{id}")).status_code == 204

    await road.emptied(running)
    said = (await road.client.get(f"/v1/conversations/{conversation}/messages")).json()["data"]
    assert [each["content"] for each in said] == ["kept", "echo: kept"]
    assert (await road.client.get(f"/tasks/{kept}")).json()["result"] == "echo: kept"


async def test_pages(road: Road) -> None:
    """Lists of both kinds page through everything once, newest first."""
    user = f"user-{uuid4()}"
    made = [await road.make(str(number), user=user) for number in range(5)]
    newest_first = [str(id) for id in reversed(made)]

    found: list[str] = []
    url: str | None = f"/tasks?user={user}&limit=2"
    while url:
        page = await road.client.get(url)
        found += [each["id"] for each in page.json()]
        url = page.links.get("next", {}).get("url")
    assert found == newest_first

    found, cursor = [], None
    while cursor is not None or not found:
        query = {"user": user, "limit": "3", **({"cursor": cursor} if cursor else {})}
        answer = (await road.client.get("/v1/tasks", params=query)).json()
        found, cursor = found + [each["id"] for each in answer["data"]], answer["next"]
    assert found == newest_first


async def test_a_direct_producer_sends_tasks_too(road: Road) -> None:
    """A record with a task_type is a task like any other; one of an unknown type fails with the reason."""
    id, unknown = uuid4(), uuid4()
    body = {"task_type": "summarization", "prompt": "direct", "model": "simulated"}
    await road.direct.send(body, road.theirs, headers={"ce_id": str(id)})
    await road.direct.send({**body, "task_type": "nobody"}, road.theirs, headers={"ce_id": str(unknown)})

    async def there() -> bool:
        answers = [await road.client.get(f"/tasks/{each}") for each in (id, unknown)]
        return all(each.status_code == 200 for each in answers)

    await eventually(there)
    task, failed = await road.ended(id), await road.ended(unknown)
    assert (task["result"], task["prompt"], task["user_id"]) == ("echo: direct", "direct", None)
    assert failed["status"] == "failed"
    assert failed["result"]


async def test_the_same_key_is_one_task(road: Road) -> None:
    """A POST repeated with its key creates no second task; with another body it is refused."""
    headers, user = {"Idempotency-Key": str(uuid4())}, f"user-{uuid4()}"
    body = {"task_type": "summarization", "prompt": "once", "model": "simulated"}
    headers["X-User-ID"] = user
    answers = await asyncio.gather(*(road.client.post("/tasks", json=body, headers=headers) for _ in range(3)))
    other = await road.client.post("/v1/tasks", json={**body, "prompt": "twice"}, headers=headers)

    assert {each.status_code for each in answers} == {201}
    (id,) = {each.json()["task_id"] for each in answers}
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert [each["id"] for each in (await road.client.get("/tasks", params={"user": user})).json()] == [id]


async def test_a_user_has_his_own_tasks_only(road: Road) -> None:
    """Another user's task counts as unknown for every operation; an admin may retry it for its owner."""
    name = uuid4().hex
    people = [await make_user(road.database, f"{each}-{name}") for each in ("ann", "bob")]
    ann, bob = [bearer(await make_key(road.database, "read", "write", user=each)) for each in people]
    admin = bearer(await make_key(road.database, "admin"))
    body = {"task_type": "summarization", "prompt": "x", "model": "simulated:fail=content_filter,fail_times=1"}
    made = await road.client.post("/tasks", json=body, headers=ann)
    assert made.status_code == 201, made.text
    id = made.json()["task_id"]
    await road.ended(UUID(id))

    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
        theirs = await road.client.request(method, f"/v1/tasks/{id}{path}", headers=bob)
        unknown = await road.client.request(method, f"/v1/tasks/{uuid4()}{path}", headers=bob)
        assert (theirs.status_code, theirs.json()) == (unknown.status_code, unknown.json()) == (404, unknown.json())
    assert (await road.client.get("/tasks", headers=bob)).json() == []
    assert (await road.client.get("/tasks/stats/type", headers=bob)).json() == {}
    nothing = await road.client.post("/v1/tasks/cancel", json={"type": "summarization"}, headers=bob)
    assert nothing.json() == {"cancel_requested": 0, "more": False}
    assert [each["id"] for each in (await road.client.get("/tasks", headers=ann)).json()] == [id]

    again = (await road.client.post(f"/v1/tasks/{id}/retry", headers=admin)).json()
    own = (await road.client.post(f"/v1/tasks/{id}/retry", headers=ann)).json()
    assert again["id"] == own["id"]
    assert again["user_id"] == str(people[0].resource.id)
    assert (await road.client.get(f"/tasks/{own['id']}", headers=ann)).status_code == 200
