"""Topics are made from the table, and checked against it."""

import dataclasses
import uuid

import pytest
from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.errors import KafkaError

from orchestra.kafka.topics import Admin, check_topics, ensure_topics
from orchestra.settings import KafkaSettings
from schemas.topics import DEAD_LETTERS, EVENTS, Topic
from tests.support.ports import free_port
from tests.support.stack import Stack


def unique(topic: Topic = EVENTS, **changes: object) -> Topic:
    return dataclasses.replace(topic, name=f"test.{uuid.uuid4()}", partitions=2, **changes)  # type: ignore[arg-type]


async def test_missing_topics_are_made_as_the_table_says(stack: Stack) -> None:
    """A missing topic is named by a check, made by an ensure, and then as it must be."""
    topics = [unique(), unique(DEAD_LETTERS)]

    assert await check_topics(stack.kafka_settings, topics) == [f"{topic.name}: is missing" for topic in topics]
    assert await ensure_topics(stack.kafka_settings, topics) == []
    assert await ensure_topics(stack.kafka_settings, topics) == []


async def test_wrong_settings_are_named_and_left_alone(stack: Stack) -> None:
    """Every wrong setting of an existing topic is reported by name, each time: nothing is changed."""
    topic = unique()
    config = {"retention.ms": "1000", "cleanup.policy": "compact", "min.insync.replicas": "2"}
    async with Admin(stack.kafka_settings) as admin:
        await admin.client.create_topics([NewTopic(topic.name, 1, 1, topic_configs=config)])
        await admin._until_visible([topic])
    expected = {
        f"{topic.name}: has 1 partitions, must have at least 2",
        f"{topic.name}: cleanup.policy is compact, must be delete",
        f"{topic.name}: retention.ms is 1000, must be at least {topic.retention_ms}",
        f"{topic.name}: min.insync.replicas is 2, must be 1 to 1",
    }

    for _ in range(2):
        assert expected <= set(await ensure_topics(stack.kafka_settings, [topic]))


async def test_more_than_needed_is_fine(stack: Stack) -> None:
    """More partitions and a longer retention than the table asks for are no mistake."""
    topic = unique()
    await ensure_topics(stack.kafka_settings, [dataclasses.replace(topic, retention_ms=2 * topic.retention_ms)])
    async with Admin(stack.kafka_settings) as admin:
        await admin.client.create_partitions({topic.name: NewPartitions(5)})

    assert await check_topics(stack.kafka_settings, [topic]) == []


async def test_a_refused_topic_is_told(stack: Stack) -> None:
    """What the broker says of a topic that it will not make is not lost."""
    topic = unique(timestamps="nonsense")
    (problem,) = await ensure_topics(stack.kafka_settings, [topic])

    assert problem.startswith(f"{topic.name}: could not be created: ")


async def test_the_brokers_age_is_known(stack: Stack) -> None:
    """The embedded broker is recent enough."""
    async with Admin(stack.kafka_settings) as admin:
        assert await admin.is_recent()


async def test_nobody_there_is_an_error() -> None:
    """Without a broker there is an error, no wait without end."""
    with pytest.raises(KafkaError):
        await ensure_topics(KafkaSettings(kafka_bootstrap_servers=f"127.0.0.1:{free_port()}"))
