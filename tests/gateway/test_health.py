"""Promises of gateway/health.py: readiness part by part, with reasons and warnings."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from gateway import health
from gateway.drain import Drain
from gateway.health import Health
from gateway.metrics import Metrics
from gateway.routes.health import build_router
from gateway.timings import Timings
from orchestra.store.progress import Standstill, Why
from tests.support.fakes import Calls, away, running
from tests.support.waiting import eventually

STANDSTILLS = [Standstill(Why.HELD, "llm.requests"), Standstill(Why.HELD, "other"), Standstill(Why.STALLED, "third")]


class Ready:
    """Every part of a gateway, in order."""

    database_problem = None
    problem = None
    caught_up = True

    async def ping(self) -> None:
        """Kafka responds."""


async def test_a_topic_that_is_not_read_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that workers do not read is a warning, which names only ours, until they read it again."""
    anything: Any = Ready()
    monkeypatch.setattr(
        health,
        "standstills",
        Calls(away(), STANDSTILLS),
    )
    often = Timings(look_for_standstills=0.001)
    healthy = Health(anything, anything, anything, Drain(), anything, anything, open_mode=True, timings=often)
    async with running(healthy.run(), healthy.look_for_standstills()):
        warning = await eventually(lambda: healthy.readiness().parts["intake"].reason)
        assert "paused reading llm.requests, other" in warning
        assert "transaction open that blocks other topics" in warning
        assert "third" not in warning
        assert healthy.readiness().parts["intake"].ready
        await eventually(lambda: healthy.readiness().ready)
        monkeypatch.setattr(health, "standstills", Calls(away(), []))
        await eventually(lambda: healthy.readiness().parts["intake"].reason is None)


@pytest.mark.parametrize(("silent", "kafka"), [(False, 1), (True, 0)], ids=["all work", "Kafka is silent"])
async def test_readiness_is_a_metric_too(*, silent: bool, kafka: float) -> None:
    """`/metrics` has a number for each part of `/readyz`: 1 if it works, 0 if there is something against it."""
    anything: Any = Ready()
    metrics = Metrics()
    healthy = Health(anything, anything, anything, Drain(), anything, anything, open_mode=True)
    app = FastAPI()
    app.include_router(build_router(healthy, metrics))
    async with (
        running(*([] if silent else [healthy.run()])),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client,
    ):
        await eventually(lambda: silent or healthy.readiness().ready)
        shown = (await client.get("/metrics")).text
    parts = {
        sample.labels["part"]: sample.value
        for family in text_string_to_metric_families(shown)
        for sample in family.samples
        if sample.name == "orchestra_gateway_part_ready"
    }

    assert healthy.readiness().parts.keys() == parts.keys()
    assert {"other"}.isdisjoint(parts)
    assert kafka == parts.pop("kafka")
    assert {1.0} == set(parts.values())
