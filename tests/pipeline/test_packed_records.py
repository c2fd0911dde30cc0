"""A record that is small only while it is packed."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer

from tests.support.llm_script import LlmScript, llm_script
from tests.support.records import message
from tests.support.road import Road, open_road
from tests.support.stack import Stack
from tests.support.waiting import eventually


@pytest.fixture
async def llm() -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    async with llm_script() as running:
        yield running


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A road of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened


async def test_a_record_that_is_far_too_large_is_a_dead_letter(road: Road) -> None:
    """10 MiB that came as a few KiB: the worker lives, Postgres has it whole, the topic has its reason."""
    producer = AIOKafkaProducer(
        bootstrap_servers=road.stack.bootstrap, compression_type="gzip", max_request_size=20 * 1024 * 1024
    )
    await producer.start()
    value = message("x" * 10 * 1024 * 1024)
    async with road.worker():
        await producer.send_and_wait(road.topic, value)
        (letter,) = await eventually(road.dead_letters)
        good = await road.ask()
        assert ["completed"] == await road.endings([good])
    await producer.stop()

    assert (b"too_large", None) == (letter.headers["dlq-reason"], letter.value)
    kept = await road.one("SELECT length(value) AS length, reason FROM dead_letters")
    assert (len(value), "too_large") == tuple(kept)
