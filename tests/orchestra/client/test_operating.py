"""Calls of the client that see and steer many requests, and what operators have."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.client import ClientError
from schemas.api.live import Changed, LiveFrame, OwnFrame
from tests.support.fake_gateway import REQUEST_ID
from tests.support.operating import FRAME, OWN_FRAME, QUEUE, STATS, TIME, TOPICS, WORKER, WORKERS, told
from tests.support.scripted_http import Clock, Network, Reply, events, ok, problem

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
REQUEST = {"id": REQUEST_ID, "status": "pending", "owner": "ada", "priority": 7, "tries": 1}
PAUSE = {"model": "a/b", "reason": "moved", "paused_by": "key:k", "paused_at": TIME, "until": None}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock().install(monkeypatch)


def network_of(*replies: Reply) -> Network:
    return Network(list(replies))


def bodies(network: Network) -> list[Any]:
    return [json.loads(body) for body in network.bodies]


async def test_filters_are_parameters() -> None:
    """Every filter is sent as the API has it; ids are repeated, and what is None is not sent."""
    network = network_of(ok({"data": [REQUEST], "next": None}))
    ids = [REQUEST_ID, str(uuid4())]
    rows = network.client().requests.list(
        id=ids, owner="ada", waited_min=2.5, priority=0, worker=UUID(WORKER), created_after=NOON, error_code=None
    )

    assert [("ada", 7)] == [(each.owner, each.priority) async for each in rows]
    assert [
        ("id", ids[0]), ("id", ids[1]), ("owner", "ada"), ("waited_min", "2.5"), ("priority", "0"), ("worker", WORKER),
        ("created_after", "2026-01-31T12:00:00+00:00"), ("limit", "100"),
    ] == network.calls[0].url.params.multi_items()  # fmt: skip


async def test_a_page_is_one_call() -> None:
    """A page says where the next one begins, and after what a later call finds only what is newer."""
    page = {"data": [REQUEST], "next": "older", "newest": "newer", "searched_to": TIME}
    network = network_of(ok(page), ok(page))
    client = network.client()
    first = await client.requests.page(status="pending", limit=1)
    await client.requests.page(newer_than=first.newest, cursor=first.next)

    assert ("older", "newer", NOON) == (first.next, first.newest, first.searched_to)
    assert [
        {"status": "pending", "limit": "1"}, {"limit": "20", "cursor": "older", "newer_than": "newer"}
    ] == [dict(call.url.params) for call in network.calls]  # fmt: skip


async def test_many_requests_are_acted_on_to_the_end() -> None:
    """The cursor is followed, long lists of ids are several calls; what is returned are the sums and the scope."""
    network = network_of(ok(told(2, "c", ended=1)), ok(told(1, ended=2, cancelling=1)))
    done = await network.client().requests.cancel_all(status="pending", created_before=NOON, dry_run=True)

    assert ("tenant", 7, 3, False, None) == (done.scope, done.matched, done.done, done.more, done.next)
    assert {"cancelling": 1, "ended": 3} == {each.code: each.count for each in done.skipped}
    first = {"filter": {"status": "pending", "created_before": "2026-01-31T12:00:00Z"}, "dry_run": True}
    assert [first, {**first, "cursor": "c"}] == bodies(network)

    network = network_of(ok(told(1000)), ok(told(1, of_tomorrow=1)))
    done = network.blocking().requests.retry_all([uuid4() for _ in range(1001)])
    assert ([1000, 1], 1001, "of_tomorrow") == (
        [len(body["ids"]) for body in bodies(network)],
        done.done,
        done.skipped[0].code,
    )
    assert 0 == (await network_of().client().requests.cancel_all([])).matched


async def test_a_change_says_what_to_set() -> None:
    """What is not given stays, None is null, and the answer has the warnings of all calls."""
    network = network_of(ok({**REQUEST, "warnings": ["priority"]}))
    changed = await network.client().requests.change(REQUEST_ID, priority=9, not_before=None)
    assert (["priority"], [{"priority": 9, "not_before": None}]) == (changed.warnings, bodies(network))
    assert [f"PATCH one/v1/requests/{REQUEST_ID}"] == network.lines

    one = {"matched": 1, "more": False, "done": 1, "skipped": [], "next": None, "warnings": ["priority"]}
    network = network_of(ok({**one, "next": "c", "warnings": []}), ok(one))
    all_changed = await network.client().requests.change_all({"deadline": NOON}, priority=3)
    assert (2, ["priority"]) == (all_changed.done, all_changed.warnings)
    body = {"filter": {"priority": 3}, "change": {"deadline": "2026-01-31T12:00:00Z"}, "dry_run": False}
    assert [body, {**body, "cursor": "c"}] == bodies(network)


async def test_a_retry_is_repeated_safely() -> None:
    """Without a key a gateway retries a request once, so none is sent unless it is given."""
    network = network_of(problem(503, "unavailable"), ok(REQUEST, 202), ok(REQUEST, 202))
    client = network.client()
    await client.requests.retry(REQUEST_ID)
    await client.requests.retry(REQUEST_ID, idempotency_key="mine")

    assert [None, None, "mine"] == [call.headers.get("idempotency-key") for call in network.calls]


async def test_what_is_known_of_a_request() -> None:
    """A look at one request has all of it, and another one says why it waits."""
    reason = {"code": "no_worker", "detail": "No worker is alive.", "until": None}
    network = network_of(ok(REQUEST), ok({"id": REQUEST_ID, "status": "pending", "reasons": [reason]}))
    client = network.client()

    found, state = await client.requests.get(REQUEST_ID), await client.requests.waiting(REQUEST_ID)

    assert ("ada", 1, "no_worker") == (found.owner, found.tries, state.reasons[0].code)


async def test_what_operators_call() -> None:
    """Each method is one call of the API, and its answer is typed."""
    entry = {"id": 1, "created_at": TIME, "actor": "key:k", "action": "request.cancel", "target": "requests/x",
             "before": None, "after": None, "trace_id": None}  # fmt: skip
    worker = WORKERS["data"][0]
    network = network_of(
        ok(QUEUE), ok(PAUSE), ok(None, 204), ok(PAUSE), ok(None, 204), ok(WORKERS), ok(worker), ok(worker), ok(TOPICS),
        ok(STATS), ok({"data": [entry], "next": None}),
    )  # fmt: skip
    client = network.blocking()

    assert 600 == client.queue.get().open
    assert "moved" == client.queue.pause(reason="moved", until=NOON).reason
    client.queue.resume()
    assert "a/b" == client.models.pause("a/b").model
    client.models.resume("a/b")
    assert [WORKER] == [str(each.id) for each in client.workers.get().data if each.alive]
    assert client.workers.drain(WORKER).alive
    assert client.workers.resume(WORKER).alive
    assert 2 == client.topics.get().data[0].lag
    assert 4 == client.stats.get(from_=NOON, step=300, by="model").data[0].requests
    assert ["request.cancel"] == [each.action for each in client.audit.list(actor="key:k", page_size=5)]
    drain = f"POST one/v1/workers/{WORKER}"
    assert [
        "GET one/v1/queue", "POST one/v1/tenant/pause", "POST one/v1/tenant/resume", "POST one/v1/models/a/b/pause",
        "POST one/v1/models/a/b/resume", "GET one/v1/workers", f"{drain}/drain", f"{drain}/resume", "GET one/v1/topics",
        "GET one/v1/stats", "GET one/v1/audit",
    ] == network.lines  # fmt: skip
    assert {"reason": "moved", "until": "2026-01-31T12:00:00Z"} == json.loads(network.bodies[1])
    assert {"from": "2026-01-31T12:00:00+00:00", "step": "300", "by": "model"} == dict(network.calls[9].url.params)


def frames(*sent: tuple[str, Any]) -> str:
    return ":\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in sent)


async def test_live_frames_go_on_over_another_connection() -> None:
    """Frames are typed by whose they are; a stream that ends or breaks is opened again, and never repeats."""
    text = frames(("frame", FRAME), ("of_tomorrow", {}), ("changed", {"ids": [REQUEST_ID]}))
    replies = [events(text), problem(503, "unavailable"), events(frames(("frame", OWN_FRAME)))]
    network = network_of(*replies)
    async with network.client().queue.live([REQUEST_ID]) as live:
        first, second, third = [await anext(live) for _ in range(3)]

    assert isinstance(first, LiveFrame)
    assert isinstance(second, Changed)
    assert isinstance(third, OwnFrame)
    assert (2, [UUID(REQUEST_ID)], 3) == (first.workers.alive, second.ids, third.open)
    assert ["GET one/v1/live"] * 3 == network.lines
    assert {REQUEST_ID} == {call.url.params["ids"] for call in network.calls}


def test_live_frames_end_with_what_a_repeat_cannot_help() -> None:
    """A refused key raises at once; gateways that stay away raise after the client's patience."""
    with network_of(problem(403, "forbidden")).blocking().queue.live() as live, pytest.raises(ClientError) as caught:
        next(live)
    assert "forbidden" == caught.value.code

    network = Network(lambda _: problem(503, "unavailable"))
    with network.blocking(reconnect_seconds=5).queue.live() as live, pytest.raises(ClientError):
        next(live)
    assert len(network.calls) > 2
