"""Whether this gateway can do its work, part by part, with reasons."""

import asyncio

from pydantic import BaseModel

from gateway.drain import Drain
from gateway.following.tail import Tail
from gateway.limits import Limits
from gateway.request_log import RequestLog
from orchestra.loops import regularly
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.progress import Standstill, Why, standstills

_LOOK_SECONDS = 5.0
_REASONS = {
    Why.HELD: "workers have paused reading {}: every recent record from it became a dead letter",
    Why.STALLED: "a producer has left a transaction open that blocks {}: Kafka returns no records behind it",
}
_EVERY_SECONDS = 1.0
_WHILE_AWAY_SECONDS = 0.1


class PartHealth(BaseModel):
    """One part; ``reason`` says what is wrong with it, or what to look at although it is ready."""

    ready: bool
    reason: str | None = None


class Readiness(BaseModel):
    """Answer of ``GET /readyz``: ready when every part is."""

    ready: bool
    open_mode: bool
    parts: dict[str, PartHealth]


class Health:
    """Checks the parts in the background, so that a probe costs nothing."""

    def __init__(
        self, records: RequestLog, limits: Limits, tail: Tail, drain: Drain, database: Database, *, open_mode: bool
    ) -> None:
        self._records = records
        self._limits = limits
        self._tail = tail
        self._drain = drain
        self._database = database
        self._open_mode = open_mode
        self._kafka_problem: str | None = "Kafka has not been checked yet"
        self._standstills: list[Standstill] = []

    async def run(self) -> None:
        """Check Kafka repeatedly until cancelled."""
        while True:
            self._kafka_problem = await self._records.ping()
            await asyncio.sleep(_EVERY_SECONDS if self._kafka_problem is None else _WHILE_AWAY_SECONDS)

    async def look_for_standstills(self) -> None:
        """Find the topics from which workers read nothing, repeatedly until cancelled."""
        await regularly(_LOOK_SECONDS, self._look, "standstills_unknown", expected=(DatabaseUnavailableError,))

    async def _look(self) -> None:
        self._standstills = await standstills(self._database)

    def readiness(self) -> Readiness:
        """The state as of the last check of each part."""
        reasons = {
            "kafka": self._kafka_problem,
            "database": self._limits.database_problem,
            "events": None if self._tail.caught_up else "the events of the last minutes have not been read yet",
            "process": "the gateway is shutting down" if self._drain.begun else None,
        }
        parts = {name: PartHealth(ready=reason is None, reason=reason) for name, reason in reasons.items()}
        # Another gateway would do no better, so this one stays ready and keeps accepting requests.
        parts["intake"] = PartHealth(ready=True, reason=self._warning())
        return Readiness(ready=not any(reasons.values()), open_mode=self._open_mode, parts=parts)

    def _warning(self) -> str | None:
        topics = {why: [each.topic for each in self._standstills if each.why is why] for why in Why}
        return "; ".join(_REASONS[why].format(", ".join(named)) for why, named in topics.items() if named) or None
