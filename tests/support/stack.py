"""Real Kafka and real Postgres for tests: embedded, in containers, or wherever the environment says."""

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from orchestra.cli.migrate import dbmate
from orchestra.devstack.child import Child
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.kafka import kafka_part
from orchestra.devstack.model import model_part
from orchestra.devstack.postgres import postgres_part
from orchestra.kafka.topics import ensure_topics
from orchestra.settings import KafkaSettings
from tests.support.ports import free_port
from tests.support.waiting import eventually

# What the embedded model of a run asks for.
MODEL_KEY = secrets.token_hex(16)


class Stack:
    """Addresses that tests and services use. ``env`` is what a service needs of them."""

    kind = "external"

    def __init__(self, bootstrap: str, database_url: str) -> None:
        self.bootstrap = bootstrap
        self.database_url = database_url
        self.env = {
            "DATABASE_URL": database_url,
            "KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "ORCHESTRA_SECRET": os.environ.get("ORCHESTRA_SECRET") or secrets.token_hex(32),
            "LLM_PROVIDER": "simulated",
        }
        self._template: str | None = None
        self._databases: list[str] = []
        self._making = asyncio.Lock()

    @property
    def kafka_settings(self) -> KafkaSettings:
        """How to reach Kafka; all but the address is from the environment."""
        return KafkaSettings(kafka_bootstrap_servers=self.bootstrap)

    async def prepare(self) -> None:
        """Apply the migrations and make the topics."""
        await _migrate(self.database_url)
        assert await ensure_topics(self.kafka_settings) == []

    async def fresh_database(self) -> str:
        """The URL of a new database with all migrations and no rows; it is dropped after the run."""
        async with self._making:
            if self._template is None:
                self._template = f"template_{secrets.token_hex(4)}"
                await self._execute(f"CREATE DATABASE {self._template}")
                await _migrate(_with_database(self.database_url, self._template))
                self._databases.append(self._template)
            name = f"test_{secrets.token_hex(4)}"
            await self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
            self._databases.append(name)
        return _with_database(self.database_url, name)

    async def drop_databases(self) -> None:
        """Drop every database that was made for a test."""
        for name in self._databases:
            await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def kill_kafka(self) -> None:
        """End the broker as a crash would; it stays away until ``start_kafka``."""
        self._cannot("Kafka")

    async def start_kafka(self) -> None:
        """Start the broker after ``kill_kafka``; return when it answers."""
        self._cannot("Kafka")

    async def restart_kafka(self) -> None:
        """Stop the broker in good order and start it again."""
        self._cannot("Kafka")

    async def kill_postgres(self) -> None:
        """End Postgres as a crash would; it stays away until ``start_postgres``."""
        self._cannot("Postgres")

    async def start_postgres(self) -> None:
        """Start Postgres after ``kill_postgres``; return when it answers."""
        self._cannot("Postgres")

    async def restart_postgres(self) -> None:
        """Stop Postgres, which ends all its sessions, and start it again."""
        self._cannot("Postgres")

    def _cannot(self, part: str) -> None:
        pytest.skip(f"the {part} of an {self.kind} stack is not ours to stop")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Server(Protocol):
    """A Kafka or a Postgres that is ours to stop."""

    async def start(self) -> None:
        """Start it; return when it answers."""

    async def stop(self) -> None:
        """End it in good order."""

    async def kill(self) -> None:
        """End it as a crash would."""


class OwnStack(Stack):
    """Kafka and Postgres that were started for this run, and that a test may stop."""

    def __init__(self, kind: str, kafka: Server, postgres: Server, bootstrap: str, database_url: str) -> None:
        super().__init__(bootstrap, database_url)
        self.kind = kind
        self._kafka = kafka
        self._postgres = postgres

    async def kill_kafka(self) -> None:
        await self._kafka.kill()

    async def start_kafka(self) -> None:
        await self._kafka.start()

    async def restart_kafka(self) -> None:
        await self._kafka.stop()
        await self._kafka.start()

    async def kill_postgres(self) -> None:
        await self._postgres.kill()

    async def start_postgres(self) -> None:
        # Busy sessions of a killed Postgres hold its shared memory a while longer, and it refuses to start until then.
        await eventually(self._postgres_started)

    async def _postgres_started(self) -> bool:
        try:
            await self._postgres.start()
        except PartFailedError:
            return False
        return True

    async def restart_postgres(self) -> None:
        await self._postgres.stop()
        await self._postgres.start()


@asynccontextmanager
async def open_stack() -> AsyncIterator[Stack]:
    """The stack that TEST_STACK asks for, ready, for the length of a run."""
    from tests.support.containers import docker_answers, open_containers  # Half a second, which most tests do not need.

    kind = os.environ.get("TEST_STACK", "auto")
    if kind == "auto":
        given = {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"} <= os.environ.keys()
        kind = "external" if given else "containers" if docker_answers() else "embedded"
    opened = {"embedded": _embedded, "containers": open_containers, "external": _external}[kind]
    async with opened() as stack:
        await stack.prepare()
        yield stack
        if kind == "external":  # The others go away with all that is in them.
            await stack.drop_databases()


@asynccontextmanager
async def open_model() -> AsyncIterator[str]:
    """The embedded model's server; its OpenAI base URL."""
    with open_folder() as folder:
        model = Child(model_part(free_port(), MODEL_KEY), folder / "model.log")
        await model.start()
        try:
            yield model.part.address
        finally:
            await model.stop()


@asynccontextmanager
async def _embedded() -> AsyncIterator[Stack]:
    with open_folder() as folder:
        kafka_step = kafka_part(folder / "kafka", free_port(), free_port(), lambda _: None)
        postgres_step = postgres_part(folder / "postgres", free_port(), lambda _: None)
        kafka_process, (postgres_process, url) = await asyncio.gather(kafka_step, postgres_step)
        # Only processes are killed here, so the kernel keeps what was written. After a kill Postgres would otherwise
        # put every file of a hundred databases onto the disk before it answers.
        postgres_process = replace(postgres_process, command=[*postgres_process.command, "-c", "fsync=off"])
        kafka, postgres = (Child(part, folder / f"{part.name}.log") for part in (kafka_process, postgres_process))
        try:
            await asyncio.gather(kafka.start(), postgres.start())
            yield OwnStack("embedded", kafka, postgres, kafka.part.address, url)
        finally:
            await asyncio.gather(kafka.stop(), postgres.stop())


@asynccontextmanager
async def _external() -> AsyncIterator[Stack]:
    yield Stack(os.environ["KAFKA_BOOTSTRAP_SERVERS"], os.environ["DATABASE_URL"])


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that the user whom Postgres runs as can pass through, unlike pytest's own when we are root."""
    with tempfile.TemporaryDirectory(prefix="orchestra-") as made:
        folder = Path(made)
        folder.chmod(0o711)
        yield folder


async def _migrate(url: str) -> None:
    done = await asyncio.to_thread(dbmate, "up", url=url)
    assert done.returncode == 0, done.stdout + done.stderr


def moved(url: str, port: int) -> str:
    """The same URL with another port."""
    split = urlsplit(url)
    return urlunsplit(split._replace(netloc=split.netloc.replace(f":{split.port}", f":{port}")))


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
