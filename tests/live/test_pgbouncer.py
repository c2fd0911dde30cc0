"""PgBouncer in front of Postgres. Skipped, with the reason, where PgBouncer 1.21 or newer is not installed."""

import asyncio
import os
import subprocess
import sys

import httpx
import pytest

from orchestra.cli.examine import LlmSettings, examine
from orchestra.settings import DatabaseSettings, FileSettings
from tests.support.conversations import endings, expected_history, histories, send_turns
from tests.support.pgbouncer import open_pgbouncer
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.waiting import eventually

CONVERSATIONS = 40
TURNS = 4
MODEL = "simulated:reply=hash,latency_ms=100"


async def test_every_message_is_answered_once_and_in_order_through_pgbouncer(services: Services, stack: Stack) -> None:
    """With the settings of the how-to, and PgBouncer killed on the way: each message is answered once, in order."""
    async with open_pgbouncer(stack.database_url) as pgbouncer:
        await services.llm()
        for _ in range(2):
            await services.worker(DATABASE_URL=pgbouncer.url_for_workers)
        gateway = await services.gateway(DATABASE_URL=pgbouncer.url_for_gateways)
        async with httpx.AsyncClient(base_url=gateway.url, timeout=90) as client:
            accepted = await send_turns(client, CONVERSATIONS, TURNS, MODEL)
            await pgbouncer.restart()
            await eventually(lambda: _is_ready(client))
            ended = await endings(client, accepted)
            stored = await histories(client, accepted)

    assert ["completed"] * (CONVERSATIONS * TURNS) == [request.status for request in ended]
    assert [expected_history(TURNS)] * CONVERSATIONS == stored


async def _is_ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/readyz")).is_success


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ignore_startup_parameters": "jit"}, "refuses start-up settings"),
        ({"connect_query": False}, "loses settings: statement_timeout is 0 instead of 30000"),
        ({"max_prepared_statements": "0"}, "does not track prepared statements"),
        ({"pool_mode": "statement"}, "allows no transactions"),
    ],
    ids=["refuses", "loses", "does not track", "by statement"],
)
async def test_doctor_says_what_pgbouncer_lacks(stack: Stack, changes: dict[str, str | bool], said: str) -> None:
    """Each fault of PgBouncer's settings is one finding, with what to do about it."""
    async with open_pgbouncer(stack.database_url, **changes) as pgbouncer:
        for url in (pgbouncer.url_for_gateways, pgbouncer.url_for_workers):
            settings = DatabaseSettings.model_validate({"database_url": url})
            findings = await examine(stack.kafka_settings, settings, LlmSettings(), FileSettings())
            (pooler,) = [finding for finding in findings if finding.check == "pooler"]

            assert said in pooler.result
            assert pooler.fix


async def test_doctor_says_whom_an_address_suits(stack: Stack) -> None:
    """With the settings of the how-to the result names the services that each address suits."""
    async with open_pgbouncer(stack.database_url) as pgbouncer:
        suits = []
        for url in (pgbouncer.url_for_gateways, pgbouncer.url_for_workers):
            settings = DatabaseSettings.model_validate({"database_url": url})
            findings = await examine(stack.kafka_settings, settings, LlmSettings(), FileSettings())
            suits += [finding.result for finding in findings if finding.check == "pooler" and not finding.fix]

    assert ["this address suits gateways", "this address suits workers;"] == [each[:27] for each in suits]


async def test_migrations_do_not_go_through_pgbouncer(stack: Stack) -> None:
    """`orchestra migrate` refuses PgBouncer even with the settings of the how-to; `status` only reads, and works."""
    async with open_pgbouncer(stack.database_url) as pgbouncer:
        env = {**os.environ, "DATABASE_URL": pgbouncer.url_for_gateways}
        command = [sys.executable, "-P", "-m", "orchestra.cli", "migrate"]
        refused, status = [
            await asyncio.to_thread(subprocess.run, [*command, word], env=env, capture_output=True, text=True)
            for word in ("up", "status")
        ]

    assert (1, 0) == (refused.returncode, status.returncode)
    assert "do not go through a pooler" in refused.stderr


async def test_services_wait_until_pgbouncer_is_set_up(services: Services, stack: Stack) -> None:
    """A worker and a gateway log what PgBouncer lacks, without a stack trace, and start once it was reloaded."""
    async with open_pgbouncer(stack.database_url, max_prepared_statements="0") as pgbouncer:
        starting = [
            asyncio.create_task(services.worker(DATABASE_URL=pgbouncer.url_for_workers)),
            asyncio.create_task(services.gateway(DATABASE_URL=pgbouncer.url_for_gateways)),
        ]
        await eventually(lambda: len(services.started) == 2)
        for service, event in zip(services.started, ("database_unavailable", "database_unsuitable"), strict=True):
            await eventually(lambda service=service, event=event: _logged(service.log, event))  # type: ignore[misc]
        pgbouncer.configure()
        pgbouncer.reload()
        await asyncio.gather(*starting)

    assert not any("Traceback" in service.log for service in services.started)


def _logged(log: str, event: str) -> bool:
    return any(event in line and "does not track prepared statements" in line for line in log.splitlines())
