"""The setup of most of these tests: real Kafka and Postgres, and a scripted LLM service."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gateway import HandWorker
from tests.support.llm_script import Held, LlmScript, llm_script
from tests.support.road import Road, open_road
from tests.support.stack import Stack


@pytest.fixture
def model() -> Held:
    """The gate that holds answers back."""
    return Held()


@pytest.fixture
async def llm(model: Held) -> AsyncIterator[LlmScript]:
    """A scripted LLM service."""
    async with llm_script(model=model) as running:
        yield running


@pytest.fixture
async def worker(env: dict[str, str]) -> AsyncIterator[HandWorker]:
    """A worker that does one step at a time, with the environment of the test's module."""
    async with HandWorker(env) as started:
        yield started


@pytest.fixture
async def road(stack: Stack, llm: LlmScript) -> AsyncIterator[Road]:
    """A setup of this test's own."""
    async with open_road(stack, llm) as opened:
        yield opened
