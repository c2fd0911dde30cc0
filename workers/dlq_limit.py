"""Stops reading a topic that yields only dead letters: after a bad deploy every record would become one.

On the gateways' topic only records that a gateway signed, and records that failed by our fault, count. Other
producers may write any number of bad records there and must not be able to stop the topic (docs/decisions/0028).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from orchestra.store.dead_letters import DeadLetter
from schemas.errors import ErrorCode
from schemas.topics import REQUESTS
from workers.metrics import Metrics

# Both limits must be reached without a good record in between.
MIN_RECORDS = 1_000
MIN_SECONDS = 60.0
PROBE_SECONDS = 30.0
PROBE_RECORDS = 100

log = structlog.get_logger()


@dataclass
class _Topic:
    """The dead letters of one topic since its last good record. ``probe_at``: the next probe, if the topic is held."""

    bad: int = 0
    since: float = 0.0
    probe_at: float | None = None


def counts(letter: DeadLetter) -> bool:
    """Whether a dead letter counts towards the limit, because it may be our fault."""
    return letter.topic != REQUESTS.name or letter.vouched or letter.reason is ErrorCode.INTERNAL


class DlqLimit:
    """The topics that this worker does not read for now. Their records stay in Kafka; a few are tried every 30 s.

    The first good record releases the topic. The state is not stored: a new worker starts without held topics.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._topics: dict[str, _Topic] = {}

    def note(self, topic: str, *, good: int, bad: int) -> None:
        """Count the records of a batch: ``good`` were taken in, ``bad`` became dead letters that count."""
        state, now = self._topics.setdefault(topic, _Topic()), asyncio.get_running_loop().time()
        was_held = state.probe_at is not None
        if good:
            if was_held:
                log.info("topic_resumed", topic=topic, count=state.bad)
            self._topics[topic] = _Topic()
        elif bad:
            state.since = state.since if state.bad else now
            state.bad += bad
            if state.bad >= MIN_RECORDS and now - state.since >= MIN_SECONDS:
                state.probe_at = now + PROBE_SECONDS
                log.error("topic_held", topic=topic, count=state.bad, seconds=round(now - state.since))
        # Several topics may share a label.
        self._metrics.topic_held.labels(topic).inc((self._topics[topic].probe_at is not None) - was_held)

    @property
    def held(self) -> frozenset[str]:
        """The held topics, including those that are about to be probed."""
        return frozenset(topic for topic, state in self._topics.items() if state.probe_at is not None)

    def unread(self, topics: Iterable[str]) -> frozenset[str]:
        """Those of these topics that must not be read now. A held topic whose probe is due is not among them."""
        now = asyncio.get_running_loop().time()
        probe_at = {topic: self._topics[topic].probe_at for topic in topics if topic in self._topics}
        return frozenset(topic for topic, at in probe_at.items() if at is not None and now < at)
