"""Promises of orchestra/kafka/unreachable.py: it says soon why Kafka cannot be reached."""

import asyncio
from typing import Any

import pytest

from orchestra.kafka import unreachable
from orchestra.kafka.unreachable import why
from orchestra.settings import KafkaSettings

THREE = KafkaSettings.model_validate({"kafka_bootstrap_servers": "kafka-1:9092,kafka-2:9092,[::1]:9092"})


async def test_servers_that_do_not_answer_take_the_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """All servers are tried at once, and one that accepts the connection and then says nothing is given up."""
    all_tried, together = asyncio.Barrier(len(THREE.bootstrap)), list[str]()

    async def hang(host: str, *_: Any, **__: Any) -> None:
        await all_tried.wait()
        together.append(host)
        await asyncio.Event().wait()

    monkeypatch.setattr(unreachable, "create_conn", hang)
    monkeypatch.setattr(unreachable, "_SECONDS", 0.1)

    assert await why(THREE) == "KAFKA_BOOTSTRAP_SERVERS: kafka-1:9092 does not answer (TimeoutError)"
    assert ["::1", "kafka-1", "kafka-2"] == sorted(together)


async def test_one_server_that_can_be_used_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then no setting is at fault, whatever is wrong with the others."""

    class Connection:
        def close(self) -> None:
            """Done."""

    async def connect(host: str, *_: Any, **__: Any) -> Connection:
        if host == "::1":
            return Connection()
        raise ConnectionRefusedError

    monkeypatch.setattr(unreachable, "create_conn", connect)

    assert await why(THREE) == ""
