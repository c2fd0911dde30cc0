"""Every row of the outcomes table, on real Kafka and Postgres, with a worker that the test steps through."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

import httpx
import pytest

from orchestra.receipts import Receipts
from schemas.api.requests import RequestDetail, RequestResource
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ERRORS, ErrorCode
from schemas.ids import conversation_id_for_request
from schemas.status import Status
from tests.support.gateway import Gateway, HandWorker, own_env, running_gateway
from tests.support.stack import Stack
from tests.support.waiting import eventually
from workers.records import Cancel

HELLO = {"messages": [{"role": "user", "content": "hi"}]}
PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
async def env(stack: Stack) -> dict[str, str]:
    return await own_env(stack)


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env, sync_limit_seconds=20) as started:
        yield started


def post(gateway: Gateway, body: dict[str, Any] = HELLO, **headers: str) -> "asyncio.Task[httpx.Response]":
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.create_task(gateway.client.post("/v1/messages", json=body, headers=named))


def shown(resource: type[RequestResource]) -> set[str]:
    """The fields that such a request has, without those that are absent when empty."""
    return {*resource.model_fields} - {"door", "output"}


async def test_completed(gateway: Gateway, worker: HandWorker) -> None:
    """A waiting POST gets the reply with the ids, the model and the usage."""
    answer = post(gateway)
    turn = await worker.begin()
    assert turn.caller_waits
    await worker.complete(turn, "hello")

    response = await answer

    assert response.status_code == 200
    assert response.json() == {
        "conversation_id": str(turn.conversation_id),
        "reply": "hello",
        "request_id": str(turn.id),
        "model": "llama3",
        "usage": {"input_tokens": 3, "output_tokens": 5},
        "finish_reason": "stop",
        "metadata": None,
    }
    assert turn.conversation_id == conversation_id_for_request(turn.id)


async def test_named_conversation_and_any_content_type(gateway: Gateway, worker: HandWorker) -> None:
    """An old client's form content type and unknown fields are accepted, and its conversation id kept."""
    conversation = str(uuid4())
    body = json.dumps({"conversation_id": conversation, "messages": [{**HELLO["messages"][0], "x": 1}], "y": 2})
    kind = {"content-type": "application/x-www-form-urlencoded"}
    answer = asyncio.create_task(gateway.client.post("/v1/messages", content=body, headers=kind))
    turn = await worker.begin()
    await worker.complete(turn, "hello")

    assert (await answer).json()["conversation_id"] == conversation
    assert turn.body == {"conversation_id": conversation, **HELLO}


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.BAD_UPSTREAM, 502),
        (ErrorCode.TIMEOUT, 502),
        (ErrorCode.CONTENT_FILTER, 502),
        (ErrorCode.RATE_LIMITED, 502),
        (ErrorCode.UNKNOWN_MODEL, 422),
        (ErrorCode.INVALID_REQUEST, 422),
        (ErrorCode.CONTEXT_TOO_LONG, 422),
        (ErrorCode.CONVERSATION_DELETED, 404),
    ],
)
async def test_failed(gateway: Gateway, worker: HandWorker, code: ErrorCode, status: int) -> None:
    """A failed request is a problem with the request's error code, its id and its location."""
    answer = post(gateway)
    turn = await worker.begin()
    await worker.end(turn, Status.FAILED, error=(code, "the model said no"))

    response = await answer

    assert response.status_code == status
    assert response.headers["content-type"] == PROBLEM
    assert response.headers["location"] == f"/v1/requests/{turn.id}"
    assert response.json() == {
        "type": f"urn:llm-orchestra:error:{code}",
        "title": ERRORS[code].title,
        "status": status,
        "detail": "the model said no",
        "code": code,
        "request_id": str(turn.id),
    }


async def test_expired(gateway: Gateway, worker: HandWorker) -> None:
    """A request that arrives after its deadline is accepted, and answered with 504 expired."""
    answer = post(gateway, {**HELLO, "deadline": "2020-01-01T00:00:00Z"})
    request = await worker.take_in()

    response = await answer

    assert (response.status_code, response.json()["code"]) == (504, "expired")
    assert response.json()["request_id"] == str(request.id)


async def test_cancelled(gateway: Gateway, worker: HandWorker) -> None:
    """A waiting POST whose request is cancelled gets 409."""
    answer = post(gateway)
    request = await worker.take_in()
    cancel = await gateway.client.post(f"/v1/requests/{request.id}/cancel")
    assert cancel.status_code == 202
    await worker.take_in()

    response = await answer

    assert (response.status_code, response.json()["code"]) == (409, "cancelled")
    assert response.headers["location"] == f"/v1/requests/{request.id}"


async def test_sync_limit(env: dict[str, str], worker: HandWorker) -> None:
    """After the sync limit the caller gets 504 with the id, and the work goes on."""
    async with running_gateway(env, sync_limit_seconds=0.3) as hasty:
        response = await post(hasty)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (504, "still_running")
        assert response.headers["location"] == f"/v1/requests/{problem['request_id']}"

        turn = await worker.begin()
        await worker.complete(turn, "late")
        found = await hasty.client.get(response.headers["location"])

    assert found.json()["reply"] == "late"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("wait=0", "wait=0"),
        ("wait=1", "wait=1"),
        ("respond-async, wait=1", "respond-async, wait=1"),
        ("Respond-Async; foo=bar, handling=lenient", "respond-async"),
    ],
)
async def test_accepted(gateway: Gateway, worker: HandWorker, prefer: str, applied: str) -> None:
    """With `Prefer: respond-async` the caller gets 202, the resource, and the preference that was applied."""
    response = await post(gateway, Prefer=prefer)
    request = await worker.take_in()

    assert response.status_code == 202
    assert response.headers["preference-applied"] == applied
    assert response.headers["location"] == f"/v1/requests/{request.id}"
    assert response.json().keys() == shown(RequestResource) | {"request_id"}
    assert response.json()["id"] == response.json()["request_id"] == str(request.id)
    assert response.json()["status"] == "pending"
    assert not request.caller_waits


async def test_reply_within_wait(gateway: Gateway, worker: HandWorker) -> None:
    """With `wait=N`, alone or after `respond-async`, a reply that comes in time is the response."""
    for prefer in ("wait=20", "respond-async, wait=20"):
        answer = post(gateway, Prefer=prefer)
        await worker.complete(await worker.begin(), "soon")
        response = await answer
        assert (response.status_code, response.json()["reply"]) == (200, "soon")


@pytest.mark.parametrize("prefer", ["wait=abc", "wait=-1", "wait", ";;;", "wait=1.5", '"respond-async"'])
async def test_malformed_prefer(gateway: Gateway, worker: HandWorker, prefer: str) -> None:
    """A malformed Prefer is ignored: the call waits for its reply."""
    answer = post(gateway, Prefer=prefer)
    turn = await worker.begin()
    assert turn.caller_waits
    await worker.complete(turn, "hello")
    assert (await answer).status_code == 200


async def test_get_in_every_state(gateway: Gateway, worker: HandWorker) -> None:
    """From the 202 on, GET answers 200 with the current state."""
    location = (await post(gateway, {**HELLO, "model": "llama3"}, Prefer="respond-async")).headers["location"]

    async def get() -> dict[str, Any]:
        response = await gateway.client.get(location)
        assert response.status_code == 200
        assert response.json().keys() == shown(RequestDetail)
        found: dict[str, Any] = response.json()
        return found

    before = await get()
    assert before["status"] == "pending"
    assert {name for name, value in before.items() if value} == {"id", "status", "accepted_at"}

    turn = await worker.begin()
    running = await get()
    assert (running["status"], running["attempts"], running["model"]) == ("in_progress", 1, "llama3")

    await worker.complete(turn, "hello")
    ended = await get()
    assert (ended["status"], ended["reply"], ended["conversation_id"]) == (
        "completed",
        "hello",
        str(turn.conversation_id),
    )
    assert ended["usage"] == {"input_tokens": 3, "output_tokens": 5}
    assert ended["created_at"].endswith("Z")
    assert ended["finished_at"].endswith("Z")


async def test_unknown_ids(gateway: Gateway) -> None:
    """An id that no gateway issued, or that is not an id, is 404 as a problem."""
    for name in (str(uuid4()), "0" * 32, "nonsense", "%00"):
        response = await gateway.client.get(f"/v1/requests/{name}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert (await gateway.client.get(f"/v1/requests/{name}/events")).status_code == 404
        assert (await gateway.client.post(f"/v1/requests/{name}/cancel")).status_code == 404


async def test_receipts(stack: Stack) -> None:
    """An id without a row is pending until intake has read past its time, then unknown; before any intake pending."""
    env = await own_env(stack)
    receipts, now = Receipts([env["ORCHESTRA_SECRET"].encode()]), datetime.now(UTC)
    old, new = (receipts.mint("default", "", now - timedelta(seconds=age)) for age in (60, 5))
    derived = receipts.derive("default", "", "POST", "/v1/messages", "some key")
    foreign = receipts.mint("other", "", now)

    async with running_gateway(env) as gateway, HandWorker(env) as worker:

        async def status(id: UUID) -> int:
            return (await gateway.client.get(f"/v1/requests/{id}")).status_code

        assert [await status(id) for id in (old, new, derived, foreign)] == [200, 200, 200, 404]
        await worker.read_everything(now)
        assert [await status(id) for id in (old, new, derived, foreign)] == [404, 200, 200, 404]


async def test_dead_letter(gateway: Gateway, worker: HandWorker) -> None:
    """A request whose record became a dead letter has failed with its reason, in polls, waits and streams."""
    answer = post(gateway)
    worker.takes_another_secret()
    letter = await worker.take_in()
    assert letter.reason is ErrorCode.BAD_SIGNATURE

    found = await gateway.client.get(f"/v1/requests/{letter.request_id}")
    assert (found.json()["status"], found.json()["error"]["code"]) == ("failed", "bad_signature")
    stream = await gateway.client.get(f"/v1/requests/{letter.request_id}/events")
    assert '"code":"bad_signature"' in stream.text
    cancel = await gateway.client.post(f"/v1/requests/{letter.request_id}/cancel")
    assert (cancel.status_code, cancel.json()["status"]) == (200, "failed")
    response = await answer
    assert (response.status_code, response.json()["code"]) == (502, "bad_signature")


async def test_long_poll(gateway: Gateway, worker: HandWorker) -> None:
    """`Prefer: wait=N` on GET answers as soon as the request has ended, and after N seconds whatever its state."""
    location = (await post(gateway, Prefer="respond-async")).headers["location"]
    short = await gateway.client.get(location, headers={"Prefer": "wait=1"})
    assert (short.status_code, short.json()["status"]) == (200, "pending")

    polling = asyncio.create_task(gateway.client.get(location, headers={"Prefer": "wait=20"}))
    await worker.complete(await worker.begin(), "hello")
    response = await polling
    assert response.json()["reply"] == "hello"
    assert response.headers["preference-applied"] == "wait=20"


async def test_lost_event(gateway: Gateway, worker: HandWorker) -> None:
    """A wait whose events are all lost ends with the row in Postgres."""
    answer = post(gateway)
    await worker.complete(await worker.begin(tell=False), "hello", tell=False)
    response = await answer
    assert (response.status_code, response.json()["reply"], response.json()["model"]) == (200, "hello", "llama3")


async def test_long_reply(gateway: Gateway, worker: HandWorker) -> None:
    """A reply too long for a record reaches a waiting caller complete."""
    answer, reply = post(gateway), "ä" * 70_000
    await worker.complete(await worker.begin(), reply)
    assert (await answer).json()["reply"] == reply


async def test_cancel(gateway: Gateway, worker: HandWorker) -> None:
    """A cancel is 202 while a request runs, and 200 without any change once it has ended."""
    location = (await post(gateway, Prefer="respond-async")).headers["location"]

    async def cancel() -> tuple[int, str, bool]:
        response = await gateway.client.post(f"{location}/cancel")
        return response.status_code, response.json()["status"], response.json()["cancel_requested"]

    turn = await worker.begin()
    assert await cancel() == (202, "in_progress", True)
    await worker.complete(turn, "too late")
    assert await cancel() == (200, "completed", False)


async def test_cancel_before_intake(gateway: Gateway, worker: HandWorker) -> None:
    """A request cancelled before intake starts out cancelled, even if its cancel is read long after it."""
    location = (await post(gateway, Prefer="respond-async")).headers["location"]
    worker.records = [await worker.next_record()]  # Read, but not taken in.
    cancel = await gateway.client.post(f"{location}/cancel")
    assert (cancel.status_code, cancel.json()["status"], cancel.json()["cancel_requested"]) == (202, "pending", True)

    await worker.take_in()

    assert (await gateway.client.get(location)).json()["status"] == "cancelled"
    assert await worker.take_in() == Cancel((DEFAULT_TENANT, UUID(location.rpartition("/")[2])), ANY, change=ANY)


async def test_caller_leaves(gateway: Gateway, worker: HandWorker) -> None:
    """A caller that leaves while waiting frees its place, and the work goes on."""
    leaving = post(gateway)
    turn = await worker.begin()
    await eventually(partial(waits_are, gateway, 1))
    leaving.cancel()
    await eventually(partial(waits_are, gateway, 0))
    await worker.complete(turn, "for no one")
    assert (await gateway.client.get(f"/v1/requests/{turn.id}")).json()["reply"] == "for no one"


async def waits_are(gateway: Gateway, count: int) -> bool:
    return f"orchestra_gateway_waits {count}.0\n" in (await gateway.client.get("/metrics")).text


async def status_is(
    gateway: Gateway, status: int, body: dict[str, Any] = HELLO, **headers: str
) -> httpx.Response | None:
    """The response to a POST, when it has this status."""
    response = await post(gateway, body, Prefer="respond-async", **headers)
    return response if response.status_code == status else None


async def test_same_key_same_body(gateway: Gateway, worker: HandWorker) -> None:
    """The same key with the same body is the same request, before its row exists, after, and once it has ended."""
    key, asynchronous = str(uuid4()), {"Prefer": "respond-async"}
    first = post(gateway, Idempotency_Key=key)
    turn = await worker.begin()
    again = post(gateway, {**HELLO, "stream": False}, Idempotency_Key=f'"{key}"')
    later = await post(gateway, Idempotency_Key=key, **asynchronous)
    assert (later.status_code, later.json()["id"], later.json()["status"]) == (202, str(turn.id), "in_progress")

    await worker.complete(turn, "once")

    assert (await first).json() == (await again).json()
    stored = await post(gateway, Idempotency_Key=key)
    assert (stored.status_code, stored.json()["reply"], stored.json()["request_id"]) == (200, "once", str(turn.id))
    later = await post(gateway, Idempotency_Key=key, **asynchronous)
    assert (later.status_code, later.json()["status"]) == (202, "completed")
    assert not worker.records


async def test_same_key_failed(gateway: Gateway, worker: HandWorker) -> None:
    """The stored result of a failed request is the same problem again."""
    key = str(uuid4())
    first = post(gateway, Idempotency_Key=key)
    await worker.end(await worker.begin(), Status.FAILED, error=(ErrorCode.AUTH, "bad key"))
    assert (await first).json() == (await post(gateway, Idempotency_Key=key)).json()
    assert (await first).status_code == 502


async def test_same_key_other_body(gateway: Gateway, worker: HandWorker) -> None:
    """The same key with another body is 422 once the row exists, for every way of answering."""
    key, other = str(uuid4()), {"messages": [{"role": "user", "content": "something else"}]}
    first = post(gateway, Idempotency_Key=key)
    turn = await worker.begin()
    for headers in ({}, {"Prefer": "respond-async"}, {"Accept": "text/event-stream"}):
        response = await post(gateway, other, Idempotency_Key=key, **headers)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
        assert response.headers["location"] == f"/v1/requests/{turn.id}"
    await worker.complete(turn, "the first's")
    assert (await first).json()["reply"] == "the first's"


async def test_same_key_other_body_before_the_row(gateway: Gateway, worker: HandWorker) -> None:
    """Of two concurrent bodies under one key, the second is refused and does not get the first one's reply."""
    key, other = str(uuid4()), {"messages": [{"role": "user", "content": "something else"}]}
    first = post(gateway, Idempotency_Key=key)
    one = await worker.next_record()
    second = post(gateway, other, Idempotency_Key=key)
    two = await worker.next_record()
    worker.records += [one, two]
    turn = await worker.begin()
    loser = await worker.take_in()
    assert loser.id == turn.id
    await worker.complete(turn, "the first's")

    response = await second
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
    assert (await first).json()["reply"] == "the first's"


async def test_same_key_other_body_long_before_the_row(gateway: Gateway, worker: HandWorker) -> None:
    """When intake is too slow to compare in time, a wait or stream still never gets another body's reply."""
    key, other = str(uuid4()), {"messages": [{"role": "user", "content": "something else"}]}
    asynchronous = {"Prefer": "respond-async"}
    first = await post(gateway, Idempotency_Key=key, **asynchronous)
    waiting = post(gateway, other, Idempotency_Key=key)
    streaming = post(gateway, {**other, "stream": True}, Idempotency_Key=key)
    late = await post(gateway, other, Idempotency_Key=key, **asynchronous)
    assert (first.status_code, late.status_code) == (202, 202)

    turn = await worker.begin()
    await worker.complete(turn, "the first's")

    assert (await waiting).json()["code"] == "idempotency_key_reused"
    assert '"code":"idempotency_key_reused"' in (await streaming).text
    assert "the first's" not in (await streaming).text


@pytest.mark.parametrize("key", ["", '""', "a b", "x" * 256, "ä".encode(), '"unterminated" x'])
async def test_bad_key(gateway: Gateway, key: str | bytes) -> None:
    """An invalid key is refused."""
    raw = key if isinstance(key, bytes) else key.encode()
    response = await gateway.client.post("/v1/messages", json=HELLO, headers=[(b"Idempotency-Key", raw)])
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


async def test_deleted_conversation(gateway: Gateway, worker: HandWorker) -> None:
    """A message to a deleted conversation fails with that reason, also without its event; its request is not found."""
    conversation = (await gateway.client.post("/v1/conversations")).json()["id"]
    assert (await gateway.client.delete(f"/v1/conversations/{conversation}")).status_code == 204
    await worker.take_in()
    key = str(uuid4())
    first = post(gateway, {**HELLO, "conversation_id": conversation}, Idempotency_Key=key)
    request = await worker.take_in()
    assert ((await first).status_code, (await first).json()["code"]) == (404, "conversation_deleted")
    assert (await gateway.client.get(f"/v1/requests/{request.id}")).status_code == 404

    again = await post(gateway, {**HELLO, "conversation_id": conversation}, Idempotency_Key=key)
    assert (again.status_code, again.json()["code"]) == (404, "conversation_deleted")


async def test_full_conversation(stack: Stack) -> None:
    """A conversation with too many open turns refuses more with 429 and Retry-After; others accept them."""
    env = await own_env(stack)
    body = {**HELLO, "conversation_id": str(uuid4())}
    async with running_gateway(env, max_open_turns=2) as gateway, HandWorker(env) as worker:
        for _ in range(3):
            assert (await post(gateway, body, Prefer="respond-async")).status_code == 202
            await worker.take_in()
        refused = await eventually(partial(status_is, gateway, 429, body))
        assert refused.json()["code"] == "conversation_full"
        assert int(refused.headers["retry-after"]) > 0
        assert (await post(gateway, Prefer="respond-async")).status_code == 202


async def test_queue_too_old(stack: Stack) -> None:
    """While the oldest runnable turn has waited too long, requests are refused with 503 and Retry-After."""
    env = await own_env(stack)
    async with running_gateway(env, max_queue_age_seconds=0.5) as gateway, HandWorker(env) as worker:
        assert (await post(gateway, Prefer="respond-async")).status_code == 202
        request = await worker.take_in()
        refused = await eventually(partial(status_is, gateway, 503))
        assert refused.json()["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) > 0

        await worker.complete(await worker.claim(request.id), "done")
        await eventually(partial(status_is, gateway, 202))


async def test_context_default(env: dict[str, str], worker: HandWorker) -> None:
    """CONTEXT_DEFAULT is written into records that do not set a context, and into no others."""
    async with running_gateway(env, context_default="given") as gateway:
        await post(gateway, Prefer="respond-async")
        assert (await worker.take_in()).body["context"] == "given"
        await post(gateway, {**HELLO, "context": "stored"}, Prefer="respond-async")
        assert (await worker.take_in()).body["context"] == "stored"


async def test_record(gateway: Gateway, worker: HandWorker) -> None:
    """A record is keyed by its conversation, signed, and has the caller's trace."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    response = await post(gateway, Prefer="respond-async", traceparent=parent)
    record = await worker.next_record()
    headers = dict(record.headers)
    assert record.key.decode() == response.json()["conversation_id"]
    assert headers["ce_id"].decode() == response.json()["id"]
    assert headers["ce_type"] == b"llm.message.requested"
    assert headers["traceparent"].decode() == parent
    assert b"default" == headers["orchestra-tenant"]
    worker.records.append(record)
    assert (await worker.take_in()).traceparent == parent


async def get_is(gateway: Gateway, url: str, status: int) -> httpx.Response | None:
    """The response to a GET, when it has this status."""
    response = await gateway.client.get(url)
    return response if response.status_code == status else None


async def test_postgres_away(stack: Stack) -> None:
    """While Postgres is down requests are accepted, with a key too; reads are 503; later all is as before."""
    env = await own_env(stack)
    async with running_gateway(env) as gateway:
        await stack.kill_postgres()
        try:
            accepted = await post(gateway, Prefer="respond-async")
            assert accepted.status_code == 202
            for method, path in (("GET", accepted.headers["location"]), ("GET", "/v1/conversations")):
                response = await gateway.client.request(method, path)
                assert (response.status_code, response.json()["code"]) == (503, "unavailable")
                assert "retry-after" in response.headers
            keyed = await post(gateway, Prefer="respond-async", Idempotency_Key="k")
            assert keyed.status_code == 202
            ready = await eventually(partial(get_is, gateway, "/readyz", 503))
            assert ready.json()["parts"]["database"] == {"ready": False, "reason": "Postgres cannot be reached"}
            assert (await gateway.client.get("/healthz")).text == "ok"
        finally:
            await stack.start_postgres()
        for answer in (accepted, keyed):
            await eventually(partial(get_is, gateway, answer.headers["location"], 200))


async def test_kafka_away(stack: Stack) -> None:
    """While Kafka is down the caller gets 503 outcome_unknown in time, and the record arrives once it is back."""
    env = await own_env(stack)
    async with running_gateway(env, accept_timeout_seconds=1) as gateway:
        key = str(uuid4())
        assert (await post(gateway, Prefer="respond-async")).status_code == 202  # It still has the broker's addresses.
        await stack.kill_kafka()
        try:
            response = await post(gateway, Prefer="respond-async", Idempotency_Key=key)
        finally:
            await stack.start_kafka()
        assert (response.status_code, response.json()["code"]) == (503, "outcome_unknown")
        assert "Idempotency-Key" in response.json()["detail"]
        assert int(response.headers["retry-after"]) > 0
        assert response.headers["location"] == f"/v1/requests/{response.json()['request_id']}"
        again = await eventually(partial(status_is, gateway, 202, Idempotency_Key=key), seconds=60)
        assert again.json()["id"] == response.json()["request_id"]
