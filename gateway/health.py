"""Whether this gateway can do its work, part by part, with reasons."""

import asyncio
from typing import Annotated

from pydantic import BaseModel

from gateway.drain import Drain
from gateway.following.tail import Tail
from gateway.limits import Limits
from gateway.request_log import RequestLog
from gateway.timings import TIMINGS, Timings
from orchestra.loops import regularly
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.progress import Standstill, Why, standstills
from schemas.json_schema import described

_REASONS = {
    Why.HELD: "workers do not read {} for now: nothing but dead letters came from there",
    Why.STALLED: "a transaction that some producer has left open holds up {}: Kafka shows nothing behind it",
}
_EVERY_SECONDS = 1.0
_WHILE_AWAY_SECONDS = 0.1


class PartHealth(BaseModel):
    """The state of one part of the gateway."""

    ready: Annotated[bool, described("Whether it works.", True)]
    reason: Annotated[
        str | None,
        described("What is wrong, or worth a look although it is ready; null: nothing.", "Kafka does not respond"),
    ] = None


class Readiness(BaseModel):
    """Response to ``GET /readyz``."""

    ready: Annotated[bool, described("Whether all parts are ready.", True)]
    open_mode: Annotated[bool, described("Whether requests are accepted without authentication.", False)]
    parts: Annotated[dict[str, PartHealth], described("The parts by name.")]


class Health:
    """Asks the parts regularly, so that a probe costs nothing."""

    def __init__(
        self,
        records: RequestLog,
        limits: Limits,
        tail: Tail,
        drain: Drain,
        database: Database,
        *,
        open_mode: bool,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._records = records
        self._limits = limits
        self._tail = tail
        self._drain = drain
        self._database = database
        self._open_mode = open_mode
        self._kafka_problem: str | None = "Kafka was not asked yet"
        self._standstills: list[Standstill] = []

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            self._kafka_problem = await self._records.ping()
            await asyncio.sleep(_EVERY_SECONDS if self._kafka_problem is None else _WHILE_AWAY_SECONDS)

    async def look_for_standstills(self) -> None:
        """See of which topics workers read nothing, until cancelled."""
        await regularly(
            self._timings.look_for_standstills, self._look, "standstills_unknown", expected=(DatabaseUnavailableError,)
        )

    async def _look(self) -> None:
        self._standstills = await standstills(self._database)

    def readiness(self) -> Readiness:
        """How it stands now."""
        reasons = {
            "kafka": self._kafka_problem,
            "database": self._limits.database_problem,
            "events": None if self._tail.caught_up else "the events of the last minutes are not read yet",
            "process": "the gateway is shutting down" if self._drain.begun else None,
        }
        parts = {name: PartHealth(ready=reason is None, reason=reason) for name, reason in reasons.items()}
        # No other gateway would do better: this one goes on taking requests.
        parts["intake"] = PartHealth(ready=True, reason=self._warning())
        return Readiness(ready=not any(reasons.values()), open_mode=self._open_mode, parts=parts)

    def _warning(self) -> str | None:
        topics = {why: [each.topic for each in self._standstills if each.why is why] for why in Why}
        return "; ".join(_REASONS[why].format(", ".join(named)) for why, named in topics.items() if named) or None
