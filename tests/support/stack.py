"""Real Kafka and real Postgres for tests: embedded, in containers, or wherever the environment says."""

import asyncio
import gc
import os
import secrets
import tempfile
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker
import pytest
from testcontainers.core.container import DockerContainer

from orchestra.cli.migrate import dbmate
from orchestra.devstack.child import Child
from orchestra.devstack.kafka import kafka_answers, kafka_part
from orchestra.devstack.model import model_part
from orchestra.devstack.ports import HOST
from orchestra.devstack.postgres import postgres_answers, postgres_part
from orchestra.kafka.topics import ensure_topics
from orchestra.settings import KafkaSettings
from tests.support.ports import free_port

_KAFKA_IMAGE = "apache/kafka:4.2.0"
_POSTGRES_IMAGE = "postgres:18"
_CONTAINER_SECONDS = 120
# What the embedded model of a run asks for.
MODEL_KEY = secrets.token_hex(16)
_KAFKA_CONTAINER = {
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    # The broker speaks to itself too, for transactions, and cannot be reached from inside by its port on this machine.
    "KAFKA_INTER_BROKER_LISTENER_NAME": "INSIDE",
    "KAFKA_LISTENERS": "INSIDE://localhost:9094,OUTSIDE://:9092,CONTROLLER://:9093",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
    "KAFKA_TRANSACTION_MAX_TIMEOUT_MS": "60000",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
}


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
        await self._postgres.start()

    async def restart_postgres(self) -> None:
        await self._postgres.stop()
        await self._postgres.start()


class Container:
    """A container as a server."""

    def __init__(self, container: DockerContainer, ready: Callable[[], Awaitable[bool]]) -> None:
        self._container = container
        self._ready = ready
        self._created = False

    async def start(self) -> None:
        again = self._container.get_wrapped_container().start if self._created else self._container.start
        await asyncio.to_thread(again)
        self._created = True
        async with asyncio.timeout(_CONTAINER_SECONDS):
            while not await self._ready():
                await asyncio.sleep(0.1)

    async def stop(self) -> None:
        await asyncio.to_thread(self._container.get_wrapped_container().stop)

    async def kill(self) -> None:
        await asyncio.to_thread(self._container.get_wrapped_container().kill)

    async def remove(self) -> None:
        """Stop it for good and remove it."""
        if self._created:
            await asyncio.to_thread(self._container.stop)


@asynccontextmanager
async def open_stack() -> AsyncIterator[Stack]:
    """The stack that TEST_STACK asks for, ready, for the length of a run."""
    kind = os.environ.get("TEST_STACK", "auto")
    if kind == "auto":
        given = {"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS"} <= os.environ.keys()
        kind = "external" if given else "containers" if docker_answers() else "embedded"
    opened = {"embedded": _embedded, "containers": _containers, "external": _external}[kind]
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


@asynccontextmanager
async def _containers() -> AsyncIterator[Stack]:
    kafka_port, postgres_port = free_port(), free_port()
    kafka = DockerContainer(_KAFKA_IMAGE).with_bind_ports(9092, kafka_port)
    for setting, value in _KAFKA_CONTAINER.items():
        kafka.with_env(setting, value)
    kafka.with_env("KAFKA_ADVERTISED_LISTENERS", f"INSIDE://localhost:9094,OUTSIDE://{HOST}:{kafka_port}")
    postgres = DockerContainer(_POSTGRES_IMAGE).with_bind_ports(5432, postgres_port)
    postgres.with_env("POSTGRES_USER", "orchestra").with_env("POSTGRES_DB", "llm_orchestra")
    postgres.with_env("POSTGRES_PASSWORD", password := secrets.token_hex(16))
    url = f"postgres://orchestra:{password}@{HOST}:{postgres_port}/llm_orchestra?sslmode=disable"
    broker = Container(kafka, lambda: kafka_answers(kafka_port))
    database = Container(postgres, lambda: postgres_answers(url))
    try:
        await asyncio.gather(broker.start(), database.start())
        yield OwnStack("containers", broker, database, f"{HOST}:{kafka_port}", url)
    finally:
        await asyncio.gather(broker.remove(), database.remove())


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that the user whom Postgres runs as can pass through, unlike pytest's own when we are root."""
    with tempfile.TemporaryDirectory(prefix="orchestra-") as made:
        folder = Path(made)
        folder.chmod(0o711)
        yield folder


def docker_answers() -> bool:
    """Whether there is a Docker daemon to be reached from here."""
    with warnings.catch_warnings():
        # Where no daemon answers, the client forgets its socket.
        warnings.simplefilter("ignore", ResourceWarning)
        try:
            with closing(docker.from_env(timeout=3)) as client:
                return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False
        finally:
            gc.collect()


async def _migrate(url: str) -> None:
    done = await asyncio.to_thread(dbmate, "up", url=url)
    assert done.returncode == 0, done.stdout + done.stderr


def _with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
