"""The main promise while workers are killed; `make faults` kills them for longer."""

import asyncio

import httpx

from tests.support.conversations import endings, expected_history, histories, send_turns
from tests.support.faults import kill_in_turn
from tests.support.services import Services

CONVERSATIONS = 80
TURNS = 5
KILL_EVERY_SECONDS = 3.0
KILLS = 6
MODEL = "simulated:reply=hash,latency_ms=300"


async def test_every_message_is_answered_once_and_in_order_while_workers_are_killed(services: Services) -> None:
    """400 messages in 80 conversations, a worker of three killed every few seconds: each answered once, in order."""
    await services.llm()
    workers = [await services.worker() for _ in range(3)]
    gateway = await services.gateway()
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=90, limits=limits) as client:
        killing = asyncio.create_task(kill_in_turn(workers, KILL_EVERY_SECONDS, KILLS))
        accepted = await send_turns(client, CONVERSATIONS, TURNS, MODEL)
        ended = await endings(client, accepted)
        killing.cancel()
        stored = await histories(client, accepted)

    assert ["completed"] * (CONVERSATIONS * TURNS) == [request.status for request in ended]
    assert [expected_history(TURNS)] * CONVERSATIONS == stored
    assert any(worker.log.count("worker_ready") > 1 for worker in workers), "no worker was killed"
