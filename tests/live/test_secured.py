"""Kafka with TLS, SCRAM and permissions, and Postgres with TLS, as the chart sets them.

Skipped, with the reason, where no Postgres with TLS is installed.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.secured import USERS, Authority, Secured, authority, open_secured
from tests.support.services import Services
from tests.support.stack import open_folder
from tests.support.waiting import eventually

SECRET = "s" * 32
# Each fault: the settings that are changed, and the part of each report that names the setting.
OTHER_CA = "{other}"
OTHER_NAME = "127.0.0.1"
FAULTS = {
    "Kafka: password": ({"KAFKA_SASL_PASSWORD": "wrong"}, "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: "),
    "Kafka: authority": ({"KAFKA_SSL_CAFILE": OTHER_CA}, "KAFKA_SSL_CAFILE: it does not verify"),
    "Kafka: name": ({"KAFKA_BOOTSTRAP_SERVERS": OTHER_NAME}, "KAFKA_BOOTSTRAP_SERVERS: the certificate of "),
    "Kafka: mechanism": ({"KAFKA_SASL_MECHANISM": "PLAIN"}, "KAFKA_SASL_MECHANISM: "),
    "Kafka: no TLS": ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL: "),
    "Postgres: password": ({"DATABASE_URL": "secret"}, "DATABASE_URL: Postgres refuses its user or password"),
    "Postgres: authority": ({"PGSSLROOTCERT": OTHER_CA}, "sslrootcert (or PGSSLROOTCERT) does not verify"),
    "Postgres: name": (
        {"DATABASE_URL": OTHER_NAME},
        "DATABASE_URL: the certificate of Postgres is for another host name",
    ),
    "Postgres: no TLS": ({"PGSSLMODE": "disable"}, "DATABASE_URL: Postgres refuses its user"),
}


@pytest.fixture(scope="module")
async def secured() -> AsyncIterator[Secured]:
    with open_folder() as folder:
        async with open_secured(folder) as opened:
            for words in (("migrate", "up"), ("topics",)):
                done = await orchestra(opened.env["operator"], *words)
                assert done.returncode == 0, done.stdout + done.stderr
            yield opened


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("stranger"), "other")


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Services]:
    made = Services({"ORCHESTRA_SECRET": SECRET, "LLM_PROVIDER": "simulated"}, tmp_path)
    yield made
    await made.close()


async def orchestra(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run a verb with these settings."""
    command = [sys.executable, "-P", "-m", "orchestra.cli", *words]
    whole = {**os.environ, "ORCHESTRA_SECRET": SECRET, "COLUMNS": "400", **env}
    return await asyncio.to_thread(subprocess.run, command, env=whole, capture_output=True, text=True)


def broken(env: dict[str, str], changes: dict[str, str], stranger: Authority) -> dict[str, str]:
    """The settings with a fault. Of an address only the host, of a URL the host or the password is replaced."""
    made = dict(env)
    for name, value in changes.items():
        if value == OTHER_NAME:
            made[name] = env[name].replace("localhost", value)
        elif name == "DATABASE_URL":
            made[name] = env[name].replace(value, "wrong")
        else:
            made[name] = str(stranger.ca) if value == OTHER_CA else value
    return made


async def test_a_message_is_answered_with_the_rights_of_the_page(secured: Secured, started: Services) -> None:
    """With only the documented permissions, tables and topics are made, and gateway and worker answer a message."""
    await started.llm()
    await started.worker(**secured.env["worker"])
    gateway = await started.gateway(**secured.env["gateway"])
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        body = {"model": "simulated", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
        streamed = (await client.post("/v1/messages", json=body)).text
        ready = (await client.get("/readyz")).json()
    doctor = await orchestra({**secured.env["operator"], "LLM_SERVICE_URL": started.env["LLM_SERVICE_URL"]}, "doctor")

    assert "echo: Hello" in streamed
    assert "problems" not in ready, ready
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert [service.name for service in started.started if "authorization" in service.log.lower()] == []


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_of_the_settings_is_named(
    secured: Secured, started: Services, stranger: Authority, fault: str
) -> None:
    """Worker, gateway and doctor each name the setting by which a store cannot be used, without a stack trace."""
    changes, said = FAULTS[fault]
    env = {user: broken(secured.env[user], changes, stranger) for user in USERS}

    await named(started, env, said)


async def named(started: Services, env: dict[str, dict[str, str]], said: str) -> None:
    starting = [
        asyncio.create_task(started.worker(**env["worker"])),
        asyncio.create_task(started.gateway(**env["gateway"])),
    ]
    try:
        await eventually(lambda: len(started.started) == 2)
        for service in started.started:
            await eventually(lambda service=service: said in service.log)  # type: ignore[misc]
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
    doctor = await orchestra(env["operator"], "doctor")

    assert (1, True) == (doctor.returncode, said in doctor.stdout), doctor.stdout
    assert not any("Traceback" in text for text in (doctor.stderr, *(service.log for service in started.started)))


@pytest.mark.parametrize("name", ["KAFKA_SSL_CAFILE", "PGSSLROOTCERT"])
async def test_a_file_that_is_missing_ends_the_start(secured: Secured, tmp_path: Path, name: str) -> None:
    """A verb ends at once with one line that names the setting of a file that cannot be read."""
    refused = await orchestra({**secured.env["operator"], name: str(tmp_path / "none.pem")}, "doctor")

    assert (78, 1, True) == (refused.returncode, refused.stderr.count("\n"), name in refused.stderr), refused.stderr


async def test_a_forbidden_topic_is_named(secured: Secured, started: Services) -> None:
    """The log of a worker that may not read a topic names it, and that of a gateway that may not write its user."""
    await started.llm()
    worker = secured.env["worker"] | {"INGRESS_TOPICS": "llm.requests=default,llm.replies=other"}
    gateway = secured.env["gateway"] | {"KAFKA_SASL_USERNAME": "operator"}
    starting = [asyncio.create_task(started.worker(**worker)), asyncio.create_task(started.gateway(**gateway))]
    try:
        await eventually(lambda: len(started.started) == 3)
        _, reader, writer = started.started
        await eventually(lambda: "Not authorized to read from topic llm.replies" in reader.log)
        await eventually(lambda: "KAFKA_SASL_USERNAME: this user may write to no topic" in writer.log)
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)

    assert not any("Traceback" in service.log for service in (reader, writer))
