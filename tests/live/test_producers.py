"""Clients in other languages ask over Kafka and get their replies: every program in examples/producers, and our own."""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka.partitioner import murmur2

from schemas.replies import Reply
from schemas.topics import REPLIES, REQUESTS
from tests.support.console import folder_like_ours, without_proxies
from tests.support.kafka import tail
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.toolchains import toolchains
from tests.support.tree import ROOT

QUESTION = "What is a log?"
PRODUCERS = [
    "examples/03_produce_directly.py",
    "examples/producers/confluent-kafka/round_trip.py",
    "examples/producers/console/round_trip.sh",
    "examples/producers/go/main.go",
    "examples/producers/java/RoundTrip.java",
]


@pytest.fixture(scope="module")
async def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """A whole system, the tools of other languages, and the settings that the programs need."""
    services = Services(stack.env, tmp_path_factory.mktemp("producers"))
    try:
        tools = await asyncio.to_thread(toolchains, tmp_path_factory.mktemp("tools"))
        await services.llm()
        _, gateway = await asyncio.gather(services.worker(), services.gateway())
        yield {
            **tools,
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap,
            "ORCHESTRA_GATEWAY": gateway.url,
            "MODEL": "simulated",
        }
    finally:
        await services.close()


def test_every_producer_is_run_here() -> None:
    """The test below covers all programs in the folder."""
    programs = [
        path for path in (ROOT / "examples/producers").rglob("*.*") if path.suffix in {".py", ".sh", ".go", ".java"}
    ]

    assert sorted(str(path.relative_to(ROOT)) for path in programs) == PRODUCERS[1:]


@pytest.mark.parametrize("program", PRODUCERS)
async def test_a_round_trip(program: str, running: dict[str, str], stack: Stack, tmp_path: Path) -> None:
    """The command in a program's head writes to the partition that Java would choose, and prints the reply."""
    async with tail(stack, REPLIES.name) as came:
        output = await _run(_run_line(program), folder_like_ours(tmp_path), running)
        request_id = UUID(output.splitlines()[0].removeprefix("produced request "))
        record = await came.reply_record(request_id)
    reply = Reply.model_validate_json(record.value)

    assert ("completed", f"echo: {QUESTION}") == (reply.status, reply.reply)
    assert f"echo: {QUESTION}" in output
    assert (
        f"{REPLIES.name}: completed, conversation {reply.conversation_id}" in output or record.value.decode() in output
    )
    assert reply.source is not None
    assert (murmur2(record.key) & 0x7FFFFFFF) % REQUESTS.partitions == reply.source.partition


def test_maven_takes_the_jars_that_are_tested() -> None:
    """The versions in the pom of the Java program are those of the jars that run it here."""
    locked = tomllib.loads((ROOT / "orchestra/devstack/kafka.lock.toml").read_text("utf-8"))["dependencies"]
    tested = {(jar["artifactId"], jar["version"]) for jar in locked}
    pom = (ROOT / "examples/producers/java/pom.xml").read_text("utf-8").partition("<build>")[0]
    named = re.findall(r"<artifactId>(.+?)</artifactId>\s*<version>(.+?)</version>\s*</dependency>", pom)

    assert 2 == len(named)
    assert set(named) <= tested


def _run_line(program: str) -> str:
    """The command in the head of a program."""
    head = (ROOT / program).read_text("utf-8")
    found = re.search(rf'^(?:#|//| \*)?[ \t]+(\S.*{re.escape(QUESTION)}")$', head, re.MULTILINE)
    assert found, f"{program} does not say how it is run"
    return found[1]


async def _run(line: str, folder: Path, env: dict[str, str]) -> str:
    """What a command prints in a folder like a reader's."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        line,
        cwd=folder,
        env=without_proxies(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode()
