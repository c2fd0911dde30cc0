"""Whether this gateway can do its work, part by part, with reasons."""

import asyncio
from collections.abc import Set as AbstractSet
from typing import Annotated

from pydantic import BaseModel

from gateway.drain import Drain
from gateway.files import Files
from gateway.following.tail import Tail
from gateway.limits import Limits
from gateway.request_log import RequestLog
from gateway.timings import TIMINGS, Timings
from orchestra.loops import regularly
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.progress import Standstill, Why, standstills
from schemas.json_schema import described
from schemas.topics import TOPICS

_REASONS = {
    Why.HELD: "workers have paused reading {}: every recent record from it became a dead letter",
    Why.STALLED: "a producer has left a transaction open that blocks {}: Kafka returns no records behind it",
}
_OURS = {topic.name for topic in TOPICS}
_EVERY_SECONDS = 3.0
_WHILE_AWAY_SECONDS = 0.1


class PartHealth(BaseModel):
    """The state of one part of the gateway."""

    ready: Annotated[bool, described("Whether it works.", True)]
    reason: Annotated[
        str | None,
        described("What is wrong, or, if it is ready, a warning; null: neither.", "Kafka does not respond"),
    ] = None


class Readiness(BaseModel):
    """Response to ``GET /readyz``."""

    ready: Annotated[bool, described("Whether all parts are ready.", True)]
    open_mode: Annotated[bool, described("Whether requests are accepted without authentication.", False)]
    parts: Annotated[dict[str, PartHealth], described("The parts by name.")]


class Health:
    """Checks the parts in the background, so that a probe costs nothing."""

    def __init__(
        self,
        records: RequestLog,
        limits: Limits,
        tail: Tail,
        drain: Drain,
        database: Database,
        files: Files,
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
        self._files = files
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
        await regularly(
            self._timings.look_for_standstills, self._look, "standstills_unknown", expected=(DatabaseUnavailableError,)
        )

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
        parts["files"] = PartHealth(ready=True, reason=self._files.problem)
        return Readiness(ready=not any(reasons.values()), open_mode=self._open_mode, parts=parts)

    def _warning(self) -> str | None:
        topics = {why: {each.topic for each in self._standstills if each.why is why} for why in Why}
        return "; ".join(_REASONS[why].format(_public(found)) for why, found in topics.items() if found) or None


def _public(topics: AbstractSet[str]) -> str:
    """These topics for clients without credentials: the name of a tenant's own topic may be the tenant's."""
    named = sorted(topics & _OURS)
    return ", ".join(named if topics <= _OURS else [*named, "other topics"])
