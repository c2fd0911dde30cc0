"""Kafka and Postgres in containers, where a Docker daemon answers."""

import asyncio
import gc
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from urllib.parse import urlsplit

import docker
from testcontainers.core.container import DockerContainer

from orchestra.devstack.kafka import broker_answers
from orchestra.devstack.ports import HOST
from orchestra.devstack.postgres import postgres_answers
from tests.support.ports import free_port
from tests.support.stack import OwnStack, Stack

_KAFKA_IMAGE = "apache/kafka:4.2.0"
_POSTGRES_IMAGE = "postgres:18"
_CONTAINER_SECONDS = 120
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
async def open_containers() -> AsyncIterator[Stack]:
    """A stack of containers, which are removed after the run."""
    host = _host()
    kafka_port, postgres_port = free_port(), free_port()
    kafka = DockerContainer(_KAFKA_IMAGE).with_bind_ports(9092, kafka_port)
    for setting, value in _KAFKA_CONTAINER.items():
        kafka.with_env(setting, value)
    kafka.with_env("KAFKA_ADVERTISED_LISTENERS", f"INSIDE://localhost:9094,OUTSIDE://{host}:{kafka_port}")
    postgres = DockerContainer(_POSTGRES_IMAGE).with_bind_ports(5432, postgres_port)
    postgres.with_env("POSTGRES_USER", "orchestra").with_env("POSTGRES_DB", "llm_orchestra")
    postgres.with_env("POSTGRES_PASSWORD", password := secrets.token_hex(16))
    url = f"postgres://orchestra:{password}@{host}:{postgres_port}/llm_orchestra?sslmode=disable"
    broker = Container(kafka, lambda: broker_answers(f"{host}:{kafka_port}"))
    database = Container(postgres, lambda: postgres_answers(url))
    try:
        await asyncio.gather(broker.start(), database.start())
        yield OwnStack("containers", broker, database, f"{host}:{kafka_port}", url)
    finally:
        await asyncio.gather(broker.remove(), database.remove())


def _host() -> str:
    """Where the daemon publishes ports: on this machine, or on another, such as a service of CI."""
    daemon = urlsplit(os.environ.get("DOCKER_HOST", ""))
    return daemon.hostname or HOST if daemon.scheme == "tcp" else HOST


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
