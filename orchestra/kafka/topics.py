"""Creates the topics of schemas/topics.py and checks existing ones; wrong settings are reported, never changed."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code
from aiokafka.protocol.admin import ApiVersionRequest

from orchestra.kafka.unreachable import explained
from orchestra.settings import KafkaSettings
from schemas.topics import TOPICS, Topic

_VISIBLE_LIMIT_SECONDS = 30.0
_FETCH, _FETCH_OF_3_7 = 1, 16


async def ensure_topics(settings: KafkaSettings, topics: Iterable[Topic] = TOPICS) -> list[str]:
    """Create missing topics and check every setting. Returns one line per problem.

    Raises ``aiokafka.errors.KafkaError`` if Kafka cannot be reached.
    """
    async with Admin(settings) as admin:
        return await admin.create_missing(topics) or await admin.wrong_settings(topics)


async def check_topics(settings: KafkaSettings, topics: Iterable[Topic] = TOPICS) -> list[str]:
    """Like ``ensure_topics``, but read-only."""
    async with Admin(settings) as admin:
        return await admin.wrong_settings(topics)


class Admin:
    """Kafka's admin API, connected inside the ``async with``."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        password = settings.kafka_sasl_password
        sasl: dict[str, Any] = {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password else None,
        }
        self.client = AIOKafkaAdminClient(
            bootstrap_servers=settings.bootstrap,
            client_id="orchestra-topics",
            request_timeout_ms=15_000,
            security_protocol=settings.kafka_security_protocol,
            ssl_context=settings.ssl_context(),
            **(sasl if settings.kafka_security_protocol.startswith("SASL") else {}),
        )

    async def __aenter__(self) -> Self:
        try:
            async with explained(self._settings):
                await self.client.start()
        except BaseException:
            await self.client.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def brokers(self) -> int:
        """The number of brokers in the cluster."""
        return len((await self.client.describe_cluster())["brokers"])

    async def partitions(self, names: Iterable[str]) -> list[TopicPartition]:
        """The partitions of those of these topics that exist."""
        wanted = set(names)
        described = {topic["topic"]: topic["partitions"] for topic in await self.client.describe_topics()}
        return [
            TopicPartition(name, each["partition"])
            for name in sorted(wanted & described.keys())
            for each in described[name]
        ]

    async def state_of_group(self, group: str) -> str:
        """The state of a group of readers: `Stable` while it has members, `Empty` without, `Dead` if it is unknown."""
        (response,) = await self.client.describe_consumer_groups([group])
        ((code, _id, state, *_),) = response.groups
        if code:
            raise for_code(code)
        return str(state)

    async def is_recent(self) -> bool:
        """True if a broker is Kafka 3.7 or newer, the first with version 16 of Fetch."""
        response = await self.client._send_request(ApiVersionRequest())  # noqa: SLF001 - no public way
        newest: dict[int, int] = {key: most for key, _least, most in response.api_versions}
        return newest.get(_FETCH, 0) >= _FETCH_OF_3_7

    async def create_missing(self, topics: Iterable[Topic]) -> list[str]:
        """Create missing topics, and return once the brokers report them. One line per refused topic."""
        replicas = min(3, await self.brokers())
        existing = await self._described(topics)
        missing = [topic for topic in topics if topic.name not in existing]
        if not missing:
            return []
        response = await self.client.create_topics([_new(topic, replicas) for topic in missing])
        # The client raises nothing for a single topic; its response has to be checked.
        refused = [
            f"{name}: could not be created: {for_code(code).__name__} {' '.join(map(str, filter(None, more)))}".strip()
            for name, code, *more in response.topic_errors
            if code not in (0, TopicAlreadyExistsError.errno)
        ]
        return refused or await self._until_visible(missing)

    async def wrong_settings(self, topics: Iterable[Topic]) -> list[str]:
        """One line for each missing topic and each wrong setting."""
        replicas = min(3, await self.brokers())
        existing = await self._described(topics)
        problems = [f"{topic.name}: is missing" for topic in topics if topic.name not in existing]
        present = [topic for topic in topics if topic.name in existing]
        configs = await self._configs(present)
        for topic in present:
            problems += _wrong_partitions(topic, existing[topic.name], replicas)
            problems += _wrong_configs(topic, configs[topic.name], len(existing[topic.name][0]["replicas"]))
        return problems

    async def sizes(self, topics: Iterable[Topic]) -> list[tuple[str, int, int]]:
        """Name, partitions and lowest replication factor of each topic that exists."""
        return [
            (name, len(partitions), min(len(partition["replicas"]) for partition in partitions))
            for name, partitions in sorted((await self._described(topics)).items())
        ]

    async def _described(self, topics: Iterable[Topic]) -> dict[str, list[dict[str, Any]]]:
        """The partitions of each topic that exists and has a leader for each of them."""
        wanted = {topic.name for topic in topics}
        described = await self.client.describe_topics()
        return {
            topic["topic"]: topic["partitions"]
            for topic in described
            if topic["topic"] in wanted and topic["partitions"] and not topic["error_code"]
        }

    async def _until_visible(self, topics: list[Topic]) -> list[str]:
        limit = time.monotonic() + _VISIBLE_LIMIT_SECONDS
        while unseen := [topic.name for topic in topics if topic.name not in await self._described(topics)]:
            if time.monotonic() > limit:
                return [f"{name}: was created, but the brokers do not show it yet" for name in unseen]
            await asyncio.sleep(0.1)
        return []

    async def _configs(self, topics: list[Topic]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
        if not resources:
            return {}
        responses = await self.client.describe_configs(resources)
        found: dict[str, dict[str, str]] = {}
        for response in responses:
            for code, message, _type, name, entries in response.resources:
                if code:
                    raise for_code(code)(message)
                found[name] = {entry[0]: entry[1] for entry in entries}
        return found


def _new(topic: Topic, replicas: int) -> NewTopic:
    config = {
        **topic.config,
        "retention.ms": str(topic.retention_ms),
        # Only whole segments are deleted: without this a quiet topic would keep an hour's records for a week.
        **({"segment.ms": str(topic.retention_ms // 6)} if topic.retention_ms > 0 else {}),
        "min.insync.replicas": str(min(2, replicas)),
    }
    return NewTopic(topic.name, topic.partitions, replicas, topic_configs=config)


def _wrong_partitions(topic: Topic, partitions: list[dict[str, Any]], replicas: int) -> list[str]:
    problems = []
    if len(partitions) < topic.partitions:
        problems.append(f"{topic.name}: has {len(partitions)} partitions, must have at least {topic.partitions}")
    fewest = min(len(partition["replicas"]) for partition in partitions)
    if fewest < replicas:
        problems.append(f"{topic.name}: has {fewest} replicas, must have at least {replicas}")
    return problems


def _wrong_configs(topic: Topic, config: dict[str, str], replicas: int) -> list[str]:
    problems = [
        f"{topic.name}: {key} is {config.get(key)}, must be {value}"
        for key, value in topic.config.items()
        if config.get(key) != value
    ]
    retention = int(config.get("retention.ms", "-1"))
    if 0 <= retention < topic.retention_ms:
        problems.append(f"{topic.name}: retention.ms is {retention}, must be at least {topic.retention_ms}")
    in_sync, least = int(config.get("min.insync.replicas", "1")), min(2, replicas)
    if not least <= in_sync <= replicas:
        problems.append(f"{topic.name}: min.insync.replicas is {in_sync}, must be {least} to {replicas}")
    return problems
