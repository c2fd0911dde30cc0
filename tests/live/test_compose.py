"""compose.yaml and the images do what docs/howto/run-in-containers.md says. Skipped where there is no Docker."""

import asyncio
import os
import sys
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from tests.support.compose import SERVICES, Compose, open_compose
from tests.support.conversations import endings, expected_history, histories, send_turns
from tests.support.tree import ROOT
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

OURS = ("gateway", "workers", "llm_service")
CONVERSATIONS = 100
TURNS = 3
MODEL = "simulated:reply=hash,latency_ms=3000"
# Installers and compilers that must not be left, as Python modules and as programs.
TOOLS = "python -m pip --version || python -m ensurepip --version || which pip pip3 uv gcc cc make"


@pytest.fixture(scope="module")
def compose() -> Iterator[Compose]:
    """The whole system from images of this checkout, with three workers."""
    with open_compose("--scale", "workers=3") as running:
        yield running


def caller(compose: Compose, port: str = "GATEWAY_PORT") -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{compose.ports[port]}",
        timeout=httpx.Timeout(90, pool=None),
        limits=httpx.Limits(max_connections=20),
        trust_env=False,
    )


async def test_every_service_comes_up_healthy(compose: Compose) -> None:
    """One healthy container of each service, three workers, and applied migrations."""
    (migrate,) = compose.containers("migrate")

    assert 0 == migrate.attrs["State"]["ExitCode"]
    assert {service: 3 if service == "workers" else 1 for service in SERVICES} == {
        service: compose.health(service).count("healthy") for service in SERVICES
    }


async def test_each_port_answers(compose: Compose) -> None:
    """Messages, tasks, generations, records and SQL each answer on their port of this machine."""
    message = {"messages": [{"role": "user", "content": "Hello"}]}
    async with caller(compose) as gateway, caller(compose, "TASKS_PORT") as tasks:
        replied = await gateway.post("/v1/messages", json=message)
        task = {"task_type": "summarization", "prompt": "A queue."}
        taken = await tasks.post("/tasks", json=task, headers={"X-User-ID": "ada"})
    async with caller(compose, "LLM_SERVICE_PORT") as llm:
        generated = await llm.post("/generate", json={"model": "simulated", **message})
    database = await asyncpg.connect(
        f"postgres://user:password@127.0.0.1:{compose.ports['POSTGRES_PORT']}/llm_orchestra"
    )
    stored = await database.fetchval("SELECT count(*) FROM requests WHERE status = 'completed'")
    await database.close()

    assert (200, "echo: Hello") == (replied.status_code, replied.json()["reply"])
    assert (201, "pending") == (taken.status_code, taken.json()["status"])
    assert (200, "echo: Hello") == (generated.status_code, generated.json()["content"])
    assert stored >= 1


async def test_a_producer_on_this_machine_is_answered(compose: Compose) -> None:
    """A record produced to the published port of Kafka gets a reply."""
    env = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{compose.ports['KAFKA_PORT']}",
        "ORCHESTRA_GATEWAY": f"http://127.0.0.1:{compose.ports['GATEWAY_PORT']}",
        "MODEL": "simulated",
    }
    command = [sys.executable, str(ROOT / "examples/03_produce_directly.py"), "What is a log?"]
    example = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
    printed, _ = await example.communicate()

    assert b"the same reply: True" in printed


@pytest.mark.parametrize("service", OURS)
async def test_a_service_can_do_little_in_its_container(compose: Compose, service: str) -> None:
    """A service runs without root and capabilities, writes only to /tmp, and has no installer or compiler."""
    container = compose.containers(service)[0]

    def printed(command: str) -> str:
        return str(container.exec_run(["sh", "-c", command]).output.decode())

    assert "10001:10001" == printed("echo -n $(id -u):$(id -g)")
    assert "CapBnd:\t0000000000000000\n" == printed("grep CapBnd /proc/1/status")
    assert "Read-only file system" in printed("touch /opt/orchestra/new")
    assert 0 == container.exec_run(["touch", "/tmp/new"]).exit_code
    assert 0 != container.exec_run(["sh", "-c", TOOLS]).exit_code


async def test_workers_that_die_lose_nothing(compose: Compose) -> None:
    """Of three workers one is killed and one crashes under 300 turns; each turn is answered once, in order."""
    killed, crashed, _ = compose.containers("workers")
    async with caller(compose) as client:
        accepted = await send_turns(client, CONVERSATIONS, TURNS, MODEL)
        killed.kill()
        crashed.exec_run(["sh", "-c", "kill -KILL -1"])
        try:
            ended = await endings(client, accepted)
            await eventually(lambda: compose.health("workers") == ["healthy"] * 2, seconds=120, pause=1)
        finally:
            killed.start()
        stored = await histories(client, accepted)

    assert ["completed"] * (CONVERSATIONS * TURNS) == [request.status for request in ended]
    assert any((request.attempts or 0) > 1 for request in ended), "no worker had anything to lose"
    assert [expected_history(TURNS)] * CONVERSATIONS == stored


async def test_what_hangs_is_unhealthy(compose: Compose) -> None:
    """A process that hangs fails the health check of its image, and passes it again when it recovers."""
    containers = [compose.containers(service)[0] for service in OURS]

    def first_healths() -> set[str]:
        return {compose.health(service)[0] for service in OURS}

    await eventually(compose.all_healthy, seconds=120, pause=1)
    for container in containers:
        container.exec_run(["sh", "-c", "kill -STOP -1"])
    try:
        await eventually(lambda: {"unhealthy"} == first_healths(), seconds=240, pause=1)
    finally:
        for container in containers:
            container.exec_run(["sh", "-c", "kill -CONT -1"])
    await eventually(compose.all_healthy, seconds=120, pause=1)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_may_be_restarted(compose: Compose, service: str) -> None:
    """After a restart of any service all become healthy again by themselves, and messages are answered."""
    compose.run("restart", service)

    async def answered() -> bool:
        response = await client.post(
            "/v1/messages",
            json={"messages": [{"role": "user", "content": "Still there?"}]},
            headers={"Idempotency-Key": f"after-{service}"},
        )
        return response.status_code == 200 and response.json()["reply"] == "echo: Still there?"

    async with caller(compose) as client:
        await eventually(compose.all_healthy, seconds=240, pause=1)
        await eventually(answered, seconds=60, pause=1)
