"""Promises of workers/stalls.py: a topic blocked by an open transaction is detected, and no other one is."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from workers import stalls
from workers.metrics import Metrics
from workers.stalls import STALLED_SECONDS, Stalls

ONE, OTHER = TopicPartition("t", 0), TopicPartition("u", 1)


class Consumer:
    """Two partitions; ``shown`` is the last stable offset of the first."""

    def __init__(self) -> None:
        self.shown, self.end, self.here = 7, 9, 7

    def assignment(self) -> set[TopicPartition]:
        """Both partitions."""
        return {ONE, OTHER}

    def highwater(self, tp: TopicPartition) -> int:
        """The end of the log."""
        return self.end if tp == ONE else 3

    def last_stable_offset(self, tp: TopicPartition) -> int:
        """The last stable offset."""
        return self.shown if tp == ONE else 3

    @property
    def _subscription(self) -> Any:
        def state_value(tp: TopicPartition) -> SimpleNamespace:
            return SimpleNamespace(position=self.here if tp == ONE else 3)

        assignment = SimpleNamespace(state_value=state_value)
        return SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))


class Clock:
    """The event loop's time."""

    now = 0.0

    def time(self) -> float:
        """Seconds."""
        return self.now


def test_what_stands_still_for_long_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition with unread records that has not moved for ten seconds is logged once, and no other one is."""
    clock, consumer, metrics = Clock(), Consumer(), Metrics()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: clock)
    seen, anything = Stalls(metrics), consumer
    told: Any = anything

    with capture_logs() as logs:
        assert frozenset() == seen.look(told)
        clock.now += STALLED_SECONDS
        assert frozenset({"t"}) == seen.look(told) == seen.look(told)
        assert 1 == metrics.stalled_partitions._value.get()
        consumer.shown = consumer.here = 8
        assert frozenset() == seen.look(told)
        clock.now += STALLED_SECONDS
        assert frozenset({"t"}) == seen.look(told)
        consumer.here = 5  # Not all that is shown is read yet.
        assert frozenset() == seen.look(told)
        consumer.shown = consumer.here = 9
        clock.now += STALLED_SECONDS
        assert frozenset() == seen.look(told)

    assert [("intake_stalled", 0, 7), ("intake_stalled", 0, 8)] == [
        (line["event"], line["partition"], line["offset"]) for line in logs
    ]
    assert 0 == metrics.stalled_partitions._value.get()


def test_a_partition_that_was_taken_away_stands_nowhere() -> None:
    """A partition that is revoked during a look is not blocked."""
    gone: Any = SimpleNamespace(_subscription=None)

    assert stalls.position(gone, ONE) is None
