"""Hundreds of tasks of all types and three priorities while workers are killed (TEST_TASKS: how many)."""

import asyncio
import json
import os
import random
from statistics import median
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.support.faults import kill_in_turn
from tests.support.services import Services
from tests.support.waiting import eventually

TASKS = int(os.environ.get("TEST_TASKS", "600"))
TYPES = ("summarization", "translation", "code_generation", "analyst", "interviewer", "programmer")
LOW, NORMAL, URGENT = 1, 5, 9
KILL_EVERY_SECONDS = 4.0
# Slow enough that there is always a queue, even where posting is slow: 3 workers with 4 slots each.
MODEL = "simulated:latency_ms=300"
SLOTS = "4"

_ENDED = "SELECT count(*) FROM requests WHERE user_name = $1 AND finished_at IS NOT NULL"
_STORY = """
SELECT r.priority, r.status, r.started_at,
    (SELECT array_agg(m.content) FROM messages m WHERE m.request_id = r.id AND m.role = 'assistant') AS answers
FROM requests r WHERE r.user_name = $1 ORDER BY r.started_at
"""


@pytest.mark.timeout(600)
async def test_every_task_is_done_once_the_urgent_ahead_and_none_starves(services: Services) -> None:
    """Each task is answered once; urgent ones start before normal and low ones, and low ones do not starve."""
    await services.llm()
    workers = [await services.worker(WORKER_CONCURRENCY=SLOTS) for _ in range(3)]
    gateway = await services.gateway()
    user = f"user-{uuid4()}"
    asked = [(number, TYPES[number % 6], (LOW, NORMAL, URGENT)[number % 3]) for number in range(TASKS)]
    random.Random(6).shuffle(asked)
    connection = await asyncpg.connect(services.env["DATABASE_URL"])
    room = asyncio.Semaphore(100)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90, trust_env=False) as client:

        async def post(number: int, task_type: str, priority: int) -> None:
            async with room:
                await _post(client, user, number, task_type, priority)

        async def all_ended() -> bool:
            return bool(await connection.fetchval(_ENDED, user) == TASKS)

        killing = asyncio.create_task(kill_in_turn(workers, KILL_EVERY_SECONDS))
        await asyncio.gather(*(post(*each) for each in asked))
        await eventually(all_ended, seconds=400, pause=0.5)
        killing.cancel()
        counts = (await client.get("/tasks/stats/type")).json()
    story = await connection.fetch(_STORY, user)
    await connection.close()
    assert [("completed", 1)] * TASKS == [(row["status"], len(row["answers"] or [])) for row in story]
    assert {f"echo: number {number}" for number in range(TASKS)} == {row["answers"][0] for row in story}
    assert all(counts[name] >= TASKS // 6 for name in TYPES)
    begun = [row["priority"] for row in story]
    places = {priority: [place for place, each in enumerate(begun) if each == priority] for priority in set(begun)}
    assert median(places[URGENT]) < median(places[NORMAL]) < median(places[LOW])
    # While there was anything urgent: by age alone the low ones get a third to a half of every eighth claim.
    meanwhile = begun[: places[URGENT][-1]]
    assert meanwhile.count(LOW) > len(meanwhile) / 50
    assert any(worker.log.count("worker_ready") > 1 for worker in workers), "no worker was killed"


async def _post(client: httpx.AsyncClient, user: str, number: int, task_type: str, priority: int) -> None:
    body = {"task_type": task_type, "prompt": f"number {number}", "priority": priority, "model": MODEL}
    headers = {"X-User-ID": user, "Content-Type": "application/json"}
    response = await client.post("/v1/tasks", content=json.dumps(body), headers=headers)
    assert response.status_code == 201, response.text
