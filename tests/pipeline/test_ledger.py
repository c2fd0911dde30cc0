"""What operators see after a load equals what the load itself saw: the tiles, and the statistics."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import REQUESTS
from tests.support import llm_script
from tests.support.gateway import Reader, running_gateway, streaming
from tests.support.llm_script import fails_first, line, problem, refuses, sends
from tests.support.people import bearer, make_key
from tests.support.road import Road
from tests.support.waiting import eventually

TENANT = "ledger"
NOTHING = {"count": 0, "more": False}
COUNTED = ("completed", "failed", "cancelled", "expired", "input_tokens", "output_tokens")
Ledger = dict[tuple[datetime, str], Counter[str]]
"""What ended by minute and model."""


async def test_tiles_and_statistics_equal_the_ledger(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answered, retried, failed and cancelled requests and dead letters, by HTTP and Kafka: all are counted, once."""
    models = [{**llm_script.MODELS["data"][0], "name": name} for name in ("echo", "breaks", "filtered")]
    monkeypatch.setattr(llm_script, "MODELS", {"data": models})
    road.llm.scripts |= {
        "breaks": fails_first(1, sends(line(delta="half an answer"))),
        "filtered": refuses(422, problem("content_filter", "no")),
    }
    headers = bearer(await make_key(road.database, "admin", tenant=TENANT))
    env = {**road.stack.env, "DATABASE_URL": road.database_url}
    await _read_from_now_on(road)
    async with (
        running_gateway(env, open_mode=False) as gateway,
        road.worker(ingress_topics=f"{REQUESTS.name}=default,{road.topic}={TENANT}"),
        httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as client,
    ):
        sent, (ids, refused) = await asyncio.gather(_by_http(client), _by_kafka(road))
        ended = [*await asyncio.gather(*(_ending(client, id) for id in sent))]
        ended += [reply.json for reply in await road.replies(ids, 60)]
        await eventually(lambda: len(road.dead_letters()) == refused)
        ledger = _ledger(ended)
        expected = {
            "completed": 110, "failed": 35, "cancelled": 20, "input_tokens": 110 * 3, "output_tokens": 110 * 2,
        }  # fmt: skip
        assert expected == sum(ledger.values(), Counter())

        async def equal() -> bool:
            found = (await client.get("/v1/stats", params={"by": "model"})).json()["data"]
            return ledger == {(_minute(each["at"]), each["key"]): _counted(each) for each in found}

        await eventually(equal)
        async with streaming(client, "GET", "/v1/live") as frames:
            await eventually(lambda: _quiet_frame(frames, ledger, refused))


async def _by_http(client: httpx.AsyncClient) -> list[str]:
    """Requests that will be answered (of which some are retried), that will fail, and that are cancelled at once."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    asked: list[dict[str, Any]] = [{"model": "echo"}] * 60 + [{"model": "breaks"}] * 10 + [{"model": "filtered"}] * 20
    asked += [{"model": "echo", "not_before": later}] * 10
    ids = [*await asyncio.gather(*(_post(client, f"number {n}", **each) for n, each in enumerate(asked)))]
    await asyncio.gather(*(_done(client, f"/v1/requests/{id}/cancel") for id in ids[-10:]))
    failed = ids[-15:-10]
    await asyncio.gather(*(_ending(client, id) for id in failed))
    again = await asyncio.gather(*(_done(client, f"/v1/requests/{id}/retry") for id in failed))
    return [*ids, *(each["id"] for each in again)]


async def _by_kafka(road: Road) -> tuple[list[UUID], int]:
    """The same without a gateway, and records that are refused: the ids, and how many these are."""
    ids = [await road.ask(f"record {n}") for n in range(40)]
    ids += [await road.ask(model="filtered") for _ in range(10)]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    parked = [await road.ask(not_before=later) for _ in range(10)]
    for id in parked:
        await road.cancel(id)
    for n in range(8):
        await road.send(b"not JSON", str(n).encode())
    return [*ids, *parked], 8


async def _post(client: httpx.AsyncClient, text: str, **more: Any) -> str:
    body = {"messages": [{"role": "user", "content": text}], **more}
    return str((await _done(client, "/v1/messages", json=body, headers={"Prefer": "respond-async"}))["id"])


async def _done(client: httpx.AsyncClient, path: str, **more: Any) -> Any:
    response = await client.post(path, **more)
    assert response.is_success, response.text
    return response.json()


async def _ending(client: httpx.AsyncClient, id: str) -> Any:
    """The request, once it has ended."""

    async def ended() -> Any:
        found = (await client.get(f"/v1/requests/{id}", headers={"Prefer": "wait=20"})).json()
        return found if found["finished_at"] else None

    return await eventually(ended, 60)


def _ledger(ended: Iterable[Any]) -> Ledger:
    ledger: Ledger = defaultdict(Counter)
    for each in ended:
        usage = each["usage"] or {}
        tokens = {name: usage.get(name, 0) for name in ("input_tokens", "output_tokens")}
        ledger[_minute(each["finished_at"]), each["model"]] += Counter({each["status"]: 1, **tokens})
    return ledger


def _counted(shown: Any) -> Counter[str]:
    return +Counter({name: shown[name] for name in COUNTED})


def _minute(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(second=0, microsecond=0)


async def _quiet_frame(frames: Reader, ledger: Ledger, refused: int) -> bool:
    """Whether the next frame shows that nothing is open, and what ended in each minute that it has."""
    frame = (await frames.until("frame"))[-1].data
    by_minute: dict[datetime, Counter[str]] = defaultdict(Counter)
    for (minute, _), counted in ledger.items():
        by_minute[minute] += counted
    shown = {_minute(each["minute"]): _counted(each) for each in frame["minutes"]}
    assert shown.items() <= by_minute.items()
    quiet = {"open": 0, "parked": 0, "runnable": NOTHING, "delayed": NOTHING, "in_progress": NOTHING}
    seen = {**quiet, "dead_letters": {"count": refused, "more": False}, "oldest_seconds": None}
    return seen.items() <= frame.items() and frame["workers"]["in_flight"] == 0


async def _read_from_now_on(road: Road) -> None:
    """Let the worker's group read nothing of what other tests have sent to the gateways' topic."""
    places = [TopicPartition(REQUESTS.name, number) for number in range(REQUESTS.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=road.stack.bootstrap, group_id=road.group, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        await consumer.commit(await consumer.end_offsets(places))
    finally:
        await consumer.stop()
