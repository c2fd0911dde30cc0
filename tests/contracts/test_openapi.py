"""What the OpenAPI document says, the gateway does: Schemathesis calls every operation with all that may be sent.

TEST_OPENAPI_EXAMPLES: generated cases of each operation, others in every run (200, with `--timeout 0`, is 15,000 calls
or so); without it 10, always the same.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import own_env
from tests.support.people import bearer, make_key
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.store import connect

# It is thousands of calls, some of which wait: a quarter of an hour on a small machine, and longer on a busy one.
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

CONFIG = Path(__file__).with_name("schemathesis.toml")
ASKED = os.environ.get("TEST_OPENAPI_EXAMPLES")
AMOUNT = ["--max-examples", ASKED] if ASKED else ["--max-examples", "10", "--seed", "1", "--no-shrink"]


@asynccontextmanager
async def road(stack: Stack, folder: Path, **settings: str) -> AsyncIterator[tuple[Services, str, str]]:
    """A whole road of its own, so that what is sent is answered: its services, the gateway, and a key of an admin."""
    env = await own_env(stack)
    kept = {"FILES_URL": (folder / "files").as_uri()}
    services = Services({**env, **kept, "LLM_MODEL": "simulated", "SYNC_LIMIT_SECONDS": "1", **settings}, folder)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(services.close)
        database = connect(env["DATABASE_URL"])
        undo.push_async_callback(database.close)
        await services.llm()
        _, gateway = await asyncio.gather(services.worker(), services.gateway())
        yield services, gateway.url, await make_key(database, "admin")


async def run(url: str, report: Path, *options: str) -> dict[str, Any]:
    """What Schemathesis reports; an assertion fails with all that it found."""
    out = ["--no-color", "--report", "json", "--report-json-path", str(report)]
    command = ["-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json", *out]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, *AMOUNT, *options,
        cwd=report.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return dict(json.loads(report.read_text()))


def assert_all_was_tried(services: Services, found: dict[str, Any], least: int) -> None:
    """Every operation was called, more than a few times, and no service died of it."""
    assert [service.name for service in services.started if not service.alive] == []
    assert found["operations"]["tested"] == found["operations"]["total"] >= 48
    assert found["test_cases"]["generated"] >= least


async def test_an_open_gateway_keeps_its_document(stack: Stack, tmp_path: Path) -> None:
    """Good requests are accepted, bad ones refused, by every operation; every answer has a form that is documented."""
    async with road(stack, tmp_path) as (services, url, _):
        # That no text may hold U+0000 is more than a schema would say at each of them.
        found = await run(url, tmp_path / "report.json", "--generation-allow-x00", "false")

        assert_all_was_tried(services, found, 1500)


async def test_a_closed_gateway_keeps_its_document(stack: Stack, tmp_path: Path) -> None:
    """Nothing answers without credentials but what says so, whatever is sent; nor is what is deleted still there."""
    options = ["--phases", "examples,fuzzing,stateful", "--exclude-checks", "positive_data_acceptance"]
    async with road(stack, tmp_path, OPEN_MODE="false") as (services, url, key):
        header = f"Authorization: {bearer(key)['Authorization']}"

        found = await run(url, tmp_path / "report.json", *options, "--header", header)

        assert_all_was_tried(services, found, 300)
