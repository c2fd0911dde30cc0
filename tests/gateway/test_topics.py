"""Promises of gateway/topics.py: who looks waits for a bounded time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway import topics
from gateway.metrics import Metrics
from gateway.topics import Topics
from orchestra.store import progress
from schemas.errors import ErrorCode, OrchestraError
from tests.support.fakes import Calls, running


async def test_who_looks_while_kafka_is_silent_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call does not wait until the look that the gateway itself has begun gives Kafka up."""
    silent = asyncio.Event()

    class Consumer:
        async def topics(self) -> None:
            silent.set()
            await asyncio.Event().wait()

    @asynccontextmanager
    async def browser() -> AsyncIterator[Any]:
        yield Consumer()

    monkeypatch.setattr(progress, "progress", Calls([]))
    monkeypatch.setattr(topics, "_READ_SECONDS", 0.001)
    looking = Topics(browser, None, Metrics())  # type: ignore[arg-type]  # nothing is asked of Postgres
    async with running(looking.run()), asyncio.timeout(10):
        await silent.wait()
        with pytest.raises(OrchestraError) as refused:
            await looking.look()

    assert ErrorCode.UNAVAILABLE is refused.value.code
