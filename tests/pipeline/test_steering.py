"""Retries, changes and cancels over HTTP, on real Kafka and Postgres, for requests of every kind."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store.intake import NewRequest
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.gateway import Gateway, HandWorker, own_env, running_gateway
from tests.support.stack import Stack
from workers.body import TurnBody
from workers.records import Cancel

MESSAGES = [{"role": "user", "content": "hi"}]
ERROR = (ErrorCode.TIMEOUT, "late")


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env) as started:
        yield started


async def call(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    """The body of a response that is a success; a message is not waited for."""
    response = await gateway.client.request(method, path, json=body, headers={"Prefer": "respond-async"})
    assert response.is_success, response.text
    return response.json()


async def fail(worker: HandWorker) -> NewRequest:
    """Take the next request in and let it fail."""
    taken: NewRequest = await worker.take_in()
    await worker.end(await worker.claim(taken.id), Status.FAILED, error=ERROR)
    return taken


async def retry(gateway: Gateway, worker: HandWorker, id: UUID) -> NewRequest:
    """Retry a request, and take the retry in."""
    asked = asyncio.create_task(call(gateway, "POST", f"/v1/requests/{id}/retry"))
    taken: NewRequest = await worker.take_in()
    shown = await asked
    assert (str(taken.id), "pending", str(id)) == (shown["id"], shown["status"], shown["retry_of"])
    return taken


async def answer(gateway: Gateway, worker: HandWorker, id: UUID) -> Any:
    """Answer a request that is runnable, and get it."""
    turn = await worker.claim(id)
    await worker.complete(turn, "sure", said=TurnBody.model_validate(turn.body).said())
    return await call(gateway, "GET", f"/v1/requests/{id}")


@pytest.mark.parametrize("kind", ["message", "task", "chat", "responses", "a second response"])
async def test_requests_of_every_kind_are_retried(gateway: Gateway, worker: HandWorker, kind: str) -> None:
    """The retry says the same by the same API, in the same conversation or in one of its own, and is answered."""
    path, body = {
        "message": ("/v1/messages", {"messages": MESSAGES, "conversation_id": str(uuid4()), "metadata": {"a": "b"}}),
        "task": ("/v1/tasks", {"task_type": "summarization", "prompt": "hi"}),
        "chat": ("/openai/v1/chat/completions", {"model": "simulated", "messages": MESSAGES}),
    }.get(kind, ("/openai/v1/responses", {"model": "simulated", "input": "hi", "background": True}))
    if kind == "a second response":
        first = asyncio.create_task(call(gateway, "POST", path, body))
        parent = await worker.take_in()
        await answer(gateway, worker, parent.id)
        body |= {"previous_response_id": (await first)["id"]}
    asked = asyncio.create_task(gateway.client.post(path, json=body, headers={"Prefer": "respond-async"}))
    old = await fail(worker)
    await asked

    new = await retry(gateway, worker, old.id)
    shown = await answer(gateway, worker, new.id)

    assert ("completed", "sure", str(old.id)) == (shown["status"], shown["reply"], shown["retry_of"])
    rest = ("retry_of", "conversation_id")
    assert {k: v for k, v in old.body.items() if k not in rest} == {k: v for k, v in new.body.items() if k not in rest}
    own = {"chat": new.id, "responses": new.id, "a second response": new.id}.get(kind)
    if kind == "message":
        own = old.conversation_id
    assert own in (None, new.conversation_id)
    assert kind != "task" or new.conversation_id != old.conversation_id
    if kind.endswith("response"):
        second = await call(gateway, "GET", f"/openai/v1/responses/resp_{new.id.hex}")
        assert (body["previous_response_id"], "completed") == (second["previous_response_id"], second["status"])
        turn_is_a_branch = "SELECT FROM branches WHERE conversation_id = :id AND parent_id = :parent"
        assert await worker.database.run(turn_is_a_branch, id=new.id, parent=parent.id)
    again = await gateway.client.post(f"/v1/requests/{new.id}/retry")
    assert (409, "not_retryable") == (again.status_code, again.json()["code"])


async def test_a_retry_comes_last_and_waits_for_its_turn(gateway: Gateway, worker: HandWorker) -> None:
    """A turn that interrupted others is retried behind those that came since, and interrupts none of them."""
    talk = str(uuid4())
    await call(gateway, "POST", "/v1/messages", {"messages": MESSAGES, "conversation_id": talk, "on_busy": "interrupt"})
    old = await fail(worker)
    await call(gateway, "POST", "/v1/messages", {"messages": MESSAGES, "conversation_id": talk})
    since: NewRequest = await worker.take_in()

    new = await retry(gateway, worker, old.id)

    assert "completed" == (await answer(gateway, worker, since.id))["status"]
    assert "completed" == (await answer(gateway, worker, new.id))["status"]


async def test_two_retries_at_the_same_time_are_one(gateway: Gateway, worker: HandWorker) -> None:
    """Both calls name the same request, and there is no other."""
    await call(gateway, "POST", "/v1/messages", {"messages": MESSAGES})
    old = await fail(worker)

    calls = [asyncio.create_task(call(gateway, "POST", f"/v1/requests/{old.id}/retry")) for _ in range(2)]
    records = [await worker.next_record(), await worker.next_record()]
    worker.records[:0] = records
    taken = {(await worker.take_in()).id for _ in records}

    assert {str(id) for id in taken} == {each["id"] for each in await asyncio.gather(*calls)}
    rows = await worker.database.run("SELECT id FROM requests WHERE retry_of = :id", id=old.id)
    assert taken == {each.id for each in rows}


async def test_a_retry_into_a_conversation_that_is_deleted_meanwhile(gateway: Gateway, worker: HandWorker) -> None:
    """The deletion wins, whichever record is read first: nothing is answered, and no text is left."""
    talk = uuid4()
    await call(gateway, "POST", "/v1/messages", {"messages": MESSAGES, "conversation_id": str(talk)})
    old = await fail(worker)
    asked = asyncio.create_task(gateway.client.post(f"/v1/requests/{old.id}/retry"))
    worker.records.append(await worker.next_record())

    assert (await gateway.client.delete(f"/v1/conversations/{talk}")).status_code == 204
    taken: NewRequest = await worker.take_in()
    await worker.take_in()

    assert (await asked).status_code == 202
    (row,) = await worker.database.run("SELECT status, error_code, body FROM requests WHERE id = :id", id=taken.id)
    assert ("failed", "conversation_deleted", None) == (row.status, row.error_code, row.body)
    assert (await gateway.client.post(f"/v1/requests/{old.id}/retry")).status_code == 404


async def test_what_waits_is_changed_and_cancelled_by_filter(gateway: Gateway, worker: HandWorker) -> None:
    """A dry run counts; then all that match are changed, run in their new order, or are cancelled."""
    talk, later = str(uuid4()), (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
    body = {"messages": MESSAGES, "not_before": later, "model": "simulated:steered"}
    sent = [
        (await call(gateway, "POST", "/v1/messages", {**body, "conversation_id": conversation}))["id"]
        for conversation in (talk, talk, str(uuid4()), str(uuid4()))
    ]
    # Records of other partitions may come in another order.
    turns = sorted([await worker.take_in() for _ in sent], key=lambda turn: sent.index(str(turn.id)))
    filter = {"filter": {"model": "simulated:steered"}}

    urgent = {"priority": 9, "not_before": None}
    changed = await call(gateway, "PATCH", f"/v1/requests/{turns[3].id}", urgent)
    assert (str(turns[3].id), "pending") == (changed["id"], changed["status"])
    assert "completed" == (await answer(gateway, worker, turns[3].id))["status"]
    late = await gateway.client.patch(f"/v1/requests/{turns[3].id}", json=urgent)
    assert (409, "not_changeable") == (late.status_code, late.json()["code"])

    dry = await call(gateway, "POST", "/v1/requests/change", {**filter, "change": urgent, "dry_run": True})
    assert {"scope": "tenant", "matched": 3, "more": False, "done": 3, "skipped": [], "next": None} == dry
    done = await call(gateway, "POST", "/v1/requests/change", {**filter, "change": urgent})
    assert dry == done
    running = await worker.claim(turns[2].id)
    assert {turns[0].id} < worker.turns.keys()
    again = await call(
        gateway, "POST", "/v1/requests/change", {"ids": [str(each.id) for each in turns], "change": urgent}
    )
    codes = [{"code": "ended", "count": 1}, {"code": "in_progress", "count": 2}, {"code": "unchanged", "count": 1}]
    assert (0, codes) == (again["done"], again["skipped"])

    cancelled = await call(gateway, "POST", "/v1/requests/cancel", filter)
    assert (3, 3) == (cancelled["matched"], cancelled["done"])
    verdicts = [await worker.take_in() for _ in range(3)]
    assert {each.id for each in turns[:3]} == {each.request.id for each in verdicts if isinstance(each, Cancel)}
    assert "cancelled" == (await call(gateway, "GET", f"/v1/requests/{turns[1].id}"))["status"]
    assert (await call(gateway, "GET", f"/v1/requests/{running.id}"))["cancel_requested"]
    for turn in list(worker.turns.values()):
        await worker.end(turn, Status.CANCELLED)
