"""Stops reading a topic that brings nothing but dead letters: after a bad deploy every record would become one.

On the topic of gateways only what a gateway has signed, or what we fail at, says so: others may write bad records, be
they as many as they like, and whoever wrote them must not be able to stop everybody (docs/decisions/0028).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from orchestra.store.dead_letters import DeadLetter
from schemas.errors import ErrorCode
from schemas.topics import REQUESTS
from workers.metrics import Metrics

# Both: so many records, and for so long, without a good one.
MIN_RECORDS = 1_000
MIN_SECONDS = 60.0
PROBE_SECONDS = 30.0
PROBE_RECORDS = 100

log = structlog.get_logger()


@dataclass
class _Topic:
    """What came of one topic since its last good record. ``probe_at``: when it is looked at again, once it is held."""

    bad: int = 0
    since: float = 0.0
    probe_at: float | None = None


def counts(letter: DeadLetter) -> bool:
    """Whether a dead letter may be our fault."""
    return letter.topic != REQUESTS.name or letter.vouched or letter.reason is ErrorCode.INTERNAL


class DlqLimit:
    """Which topics this worker does not read for now. Their records stay in Kafka; every 30 s a few of them are tried.

    A good record ends it, and a new worker begins without it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._topics: dict[str, _Topic] = {}

    def note(self, topic: str, *, good: int, bad: int) -> None:
        """So many records were taken in, and so many became dead letters that count."""
        state, now = self._topics.setdefault(topic, _Topic()), asyncio.get_running_loop().time()
        if good:
            if state.probe_at is not None:
                log.info("topic_resumed", topic=topic, count=state.bad)
            self._topics[topic] = _Topic()
        elif bad:
            state.since = state.since if state.bad else now
            state.bad += bad
            if state.bad >= MIN_RECORDS and now - state.since >= MIN_SECONDS:
                state.probe_at = now + PROBE_SECONDS
                log.error("topic_held", topic=topic, count=state.bad, seconds=round(now - state.since))
        self._metrics.topic_held.labels(topic).set(self._topics[topic].probe_at is not None)

    @property
    def held(self) -> frozenset[str]:
        """The topics that are held, also those that are about to be probed."""
        return frozenset(topic for topic, state in self._topics.items() if state.probe_at is not None)

    def unread(self, topics: Iterable[str]) -> frozenset[str]:
        """Which of these topics are not to be read now; a held one that is to be probed may be."""
        now = asyncio.get_running_loop().time()
        probe_at = {topic: self._topics[topic].probe_at for topic in topics if topic in self._topics}
        return frozenset(topic for topic, at in probe_at.items() if at is not None and now < at)
