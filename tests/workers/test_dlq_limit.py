"""Promises of workers/dlq_limit.py: a topic that yields only dead letters is held, and no other one is."""

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from orchestra.incoming import Judge
from orchestra.store.dead_letters import DeadLetter
from tests.support.records import Record, reader, signed
from workers import dlq_limit
from workers.dlq_limit import MIN_RECORDS, MIN_SECONDS, PROBE_SECONDS, DlqLimit, counts
from workers.metrics import Metrics


class Clock:
    """The event loop's time, set by the test."""

    now = 1000.0

    def time(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """A clock that stands still."""
    made = Clock()
    monkeypatch.setattr(dlq_limit.asyncio, "get_running_loop", lambda: made)
    return made


async def held(*steps: tuple[float, int, int]) -> bool:
    """Whether a topic is held after (seconds later, good, bad) steps."""
    clock = asyncio.get_running_loop()
    limit = DlqLimit(Metrics())
    for seconds, good, bad in steps:
        clock.now += seconds  # type: ignore[attr-defined]
        limit.note("t", good=good, bad=bad)
    assert ("t" in limit.held) == ("t" in limit.unread(["t", "u"]))
    return "t" in limit.held


@pytest.mark.usefixtures("clock")
async def test_it_takes_many_and_long() -> None:
    """A topic is held only after both limits, and one good record resets the count."""
    many, long = MIN_RECORDS, MIN_SECONDS
    assert await held((0, 0, 1), (long, 0, many - 1))
    assert not await held((0, 0, 1), (long, 0, many - 2))
    assert not await held((0, 0, many), (long - 1, 0, many))
    assert not await held((0, 0, many), (long, 1, many), (1, 0, many))
    assert not await held((0, 0, many), (long, 0, 0))


async def test_a_held_topic_is_probed_until_a_good_record_comes(clock: Clock) -> None:
    """A held topic is probed every 30 s until a good record comes, and other topics are unaffected."""
    metrics = Metrics()
    limit = DlqLimit(metrics)
    with structlog.testing.capture_logs() as lines:
        limit.note("t", good=0, bad=1)
        clock.now += MIN_SECONDS
        limit.note("t", good=0, bad=MIN_RECORDS)
        limit.note("u", good=0, bad=1)
        for _ in range(2):
            assert ({"t"}, {"t"}) == (limit.held, limit.unread(["t", "u"]))
            clock.now += PROBE_SECONDS
            assert ({"t"}, set()) == (limit.held, limit.unread(["t", "u"]))
            assert 1 == metrics.topic_held.labels("t")._value.get()
            limit.note("t", good=0, bad=3)
        clock.now += PROBE_SECONDS
        limit.note("t", good=1, bad=2)

    assert (set(), set()) == (limit.held, limit.unread(["t", "u"]))
    assert 0 == metrics.topic_held.labels("t")._value.get()
    assert ["topic_held"] * 3 + ["topic_resumed"] == [line["event"] for line in lines]


async def test_held_topics_of_tenants_are_counted_without_their_names(clock: Clock) -> None:
    """A topic of the tenant `default` is shown by its name; of all others it is shown how many are held."""
    metrics = Metrics()
    metrics.name_topics({"batch": "default", "acme.in": "acme", "umbrella.in": "umbrella"})
    limit = DlqLimit(metrics)
    for seconds, bad in ((0.0, 1), (MIN_SECONDS, MIN_RECORDS)):
        clock.now += seconds
        for topic in ("batch", "acme.in", "umbrella.in"):
            limit.note(topic, good=0, bad=bad)

    def shown(topic: str) -> float | None:
        return metrics.registry.get_sample_value("orchestra_worker_topic_held", {"topic": topic})

    assert [1, 2, None] == [shown(topic) for topic in ("batch", "other", "acme.in")]
    limit.note("acme.in", good=1, bad=0)
    assert [1, 1, None] == [shown(topic) for topic in ("batch", "other", "acme.in")]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(b"nonsense"), False),
        (Record(None), False),
        (Record(b"nonsense", headers=[("orchestra-signature", b"v1=0"), ("orchestra-tenant", b"default")]), False),
        (signed(value=b"nonsense"), True),
        (Record(b"nonsense", topic="theirs"), True),
    ],
    ids=["junk", "tombstone", "forged", "signed", "topic of a tenant's own"],
)
def test_nobody_stops_the_gateways_topic_with_junk(record: Record, expected: bool) -> None:
    """Unsigned junk never holds the gateways' topic; on a tenant's own topic it counts."""
    letter = reader().read(record)

    assert isinstance(letter, DeadLetter)
    assert expected == counts(letter)


def test_what_we_fail_at_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that fails because of our own bug counts, even if it is unsigned."""
    monkeypatch.setattr(Judge, "judge", None)

    letter = reader().read(Record())

    assert isinstance(letter, DeadLetter)
    assert counts(letter)
