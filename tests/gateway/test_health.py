"""Promises of gateway/health.py: readiness, part by part, and what to look at."""

from typing import Any

import pytest

from gateway import health
from gateway.drain import Drain
from gateway.health import Health
from gateway.timings import Timings
from orchestra.store.progress import Standstill, Why
from tests.support.fakes import Calls, away, running
from tests.support.waiting import eventually

STANDSTILLS = [Standstill(Why.HELD, "llm.requests"), Standstill(Why.HELD, "other"), Standstill(Why.STALLED, "third")]


class Ready:
    """Every part of a gateway, in order."""

    database_problem = None
    caught_up = True

    async def ping(self) -> None:
        """Kafka answers."""


async def test_a_topic_that_is_not_read_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway stays ready: no other would do better; the warning goes when the topic is read again."""
    anything: Any = Ready()
    monkeypatch.setattr(
        health,
        "standstills",
        Calls(away(), STANDSTILLS),
    )
    often = Timings(look_for_standstills=0.001)
    healthy = Health(anything, anything, anything, Drain(), anything, open_mode=True, timings=often)
    async with running(healthy.run(), healthy.look_for_standstills()):
        warning = await eventually(lambda: healthy.readiness().parts["intake"].reason)
        assert "do not read llm.requests, other for now" in warning
        assert "transaction" in warning
        assert healthy.readiness().parts["intake"].ready
        await eventually(lambda: healthy.readiness().ready)
        monkeypatch.setattr(health, "standstills", Calls(away(), []))
        await eventually(lambda: healthy.readiness().parts["intake"].reason is None)
