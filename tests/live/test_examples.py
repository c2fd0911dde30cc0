"""Every program in examples/ does what it says, on real services."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from schemas.ids import record_id
from tests.support.console import without_proxies
from tests.support.services import Services
from tests.support.stack import Stack
from tests.support.tree import ROOT
from tests.support.waiting import eventually

# The web page 05_browser.html is tried by hand; tests/gateway/test_app.py checks what it needs from a gateway.
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
SLOW = "simulated:tokens=30,gap_ms=20"
WORDS = " ".join(f"word{place}" for place in range(1, 31))


@pytest.fixture(scope="module")
async def running(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """One LLM service, one worker, two gateways, and the settings that the examples need."""
    services = Services(stack.env, tmp_path_factory.mktemp("examples"))
    try:
        await services.llm()
        await services.worker()
        first, second = await services.gateway(), await services.gateway()
        yield {
            "ORCHESTRA_GATEWAY": first.url,
            "SECOND": second.url,
            "KAFKA_BOOTSTRAP_SERVERS": stack.bootstrap,
            "MODEL": SLOW,
        }
    finally:
        await services.close()


def test_every_example_is_run_here() -> None:
    """The tests below cover all programs in the folder."""
    assert EXAMPLES == [
        "01_ask_and_poll.py",
        "02_stream_and_resume.py",
        "03_produce_directly.py",
        "04_old_client.py",
        "06_call_tools.py",
        "07_call_tools_over_kafka.py",
    ]


async def test_ask_and_poll(running: dict[str, str]) -> None:
    """The request is accepted at once and its reply found by polling."""
    accepted, status, reply = await _run("01_ask_and_poll.py", running)

    assert accepted.startswith("accepted as ")
    assert ("completed", WORDS) == (status, reply)


async def test_stream_and_resume(running: dict[str, str]) -> None:
    """A stream that was cut continues at another gateway, and its text is the stored one."""
    cut, ending, text = await _run(
        "02_stream_and_resume.py",
        {**running, "ORCHESTRA_GATEWAY": f"{running['ORCHESTRA_GATEWAY']},{running['SECOND']}"},
    )

    assert cut.startswith("cut after ")
    assert 0 < int(cut.split()[2]) < len(WORDS)
    assert (f"completed; all {len(WORDS)} characters are here, as stored: True", WORDS) == (ending, text)


async def test_produce_directly(running: dict[str, str]) -> None:
    """The reply to a record comes on Kafka and is the same over HTTP."""
    produced, came, reply, over_http = await _run("03_produce_directly.py", running)

    assert produced.startswith("produced request ")
    assert came.startswith("llm.replies: completed, conversation ")
    assert (WORDS, "over HTTP: completed, the same reply: True") == (reply, over_http)


async def test_old_client(running: dict[str, str]) -> None:
    """A client of the previous system gets a reply to each of its turns."""
    assert [
        "user       My name is Ada.",
        "assistant  echo: My name is Ada.",
        "user       What is my name?",
        "assistant  echo: What is my name?",
    ] == await _run("04_old_client.py", running)


@pytest.mark.parametrize(
    ("program", "city", "result"),
    [("06_call_tools.py", "Oslo", "4 degrees, rain"), ("07_call_tools_over_kafka.py", "Lima", "19 degrees, mist")],
)
async def test_call_tools(running: dict[str, str], program: str, city: str, result: str) -> None:
    """The program executes the call of the model, and the model answers with the result."""
    called, answer = await _run(program, {**running, "MODEL": "simulated"})

    assert f'weather {{"city": "{city}"}} -> {result}' == called
    assert f"weather: {result}" == answer


async def test_a_record_of_messages_only_is_enough(running: dict[str, str]) -> None:
    """A record without key, headers or any field but `messages`, as kcat sends it, is answered."""
    async with AIOKafkaProducer(bootstrap_servers=running["KAFKA_BOOTSTRAP_SERVERS"]) as producer:
        value = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
        place = await producer.send_and_wait("llm.requests", value)
    request_id = record_id(place.topic, place.partition, place.offset, place.timestamp)

    async with httpx.AsyncClient(base_url=running["ORCHESTRA_GATEWAY"], trust_env=False, timeout=30) as gateway:

        async def reply() -> str:
            # Until it is taken in, only its producer knows of it: 404.
            found = await gateway.get(f"/v1/requests/{request_id}", headers={"Prefer": "wait=20"})
            return str(found.json().get("reply") or "")

        assert "echo: hi" == await eventually(reply)


async def _run(name: str, env: dict[str, str]) -> list[str]:
    """What an example prints, line by line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path("examples") / name),
        cwd=ROOT,
        env=without_proxies(env),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()
