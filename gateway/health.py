"""Whether this gateway can do its work, part by part, with reasons."""

import asyncio

from pydantic import BaseModel

from gateway.drain import Drain
from gateway.limits import Limits
from gateway.request_log import RequestLog
from gateway.tail import Tail

_EVERY_SECONDS = 1.0
_WHILE_AWAY_SECONDS = 0.1


class PartHealth(BaseModel):
    """One part; ``reason`` says what is wrong with it."""

    ready: bool
    reason: str | None = None


class Readiness(BaseModel):
    """Answer of ``GET /readyz``: ready when every part is."""

    ready: bool
    open_mode: bool
    parts: dict[str, PartHealth]


class Health:
    """Asks the parts regularly, so that a probe costs nothing."""

    def __init__(self, records: RequestLog, limits: Limits, tail: Tail, drain: Drain, *, open_mode: bool) -> None:
        self._records = records
        self._limits = limits
        self._tail = tail
        self._drain = drain
        self._open_mode = open_mode
        self._kafka_problem: str | None = "Kafka was not asked yet"

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._kafka_problem = await self._records.ping()
            await asyncio.sleep(_EVERY_SECONDS if self._kafka_problem is None else _WHILE_AWAY_SECONDS)

    def readiness(self) -> Readiness:
        """How it stands now."""
        reasons = {
            "kafka": self._kafka_problem,
            "database": self._limits.database_problem,
            "events": None if self._tail.caught_up else "the events of the last minutes are not read yet",
            "process": "the gateway is shutting down" if self._drain.begun else None,
        }
        parts = {name: PartHealth(ready=reason is None, reason=reason) for name, reason in reasons.items()}
        return Readiness(ready=not any(reasons.values()), open_mode=self._open_mode, parts=parts)
