"""The programs in examples/ when nothing is there to answer them; tests/live/test_examples.py runs them for real."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.console import without_proxies
from tests.support.ports import free_port
from tests.support.tree import ROOT

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
async def refusing() -> AsyncIterator[str]:
    """The URL of a gateway that takes no key."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSAL)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("name", EXAMPLES)
async def test_one_that_cannot_work_says_so_in_one_line(name: str, refusing: str) -> None:
    """Without Kafka, or with a key that is refused, an example prints one line with the reason, and exits with 1."""
    nowhere = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path("examples") / name),
        cwd=ROOT,
        env=without_proxies({"ORCHESTRA_GATEWAY": refusing, "KAFKA_BOOTSTRAP_SERVERS": nowhere}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    said = errors.decode().splitlines()

    assert (1, b"", 1) == (process.returncode, output, len(said)), errors.decode()
    assert "401" in said[0] or nowhere.rpartition(":")[2] in said[0]


async def test_an_old_client_without_a_gateway_says_so_in_one_line() -> None:
    """With nothing at ORCHESTRA_GATEWAY, the client that does not retry names it in one line, and exits with 1."""
    url = f"http://127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "examples/04_old_client.py",
        cwd=ROOT,
        env=without_proxies({"ORCHESTRA_GATEWAY": url}),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()

    assert (1, 1, True) == (process.returncode, errors.count(b"\n"), errors.startswith(url.encode()))
