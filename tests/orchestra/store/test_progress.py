"""Promises of orchestra/store/progress.py: how far intake has read, never too far."""

from datetime import UTC, datetime, timedelta

from orchestra.store import progress
from orchestra.store.database import Database
from orchestra.store.progress import IntakeProgress, Standstill, Why
from tests.support.plans import noted, plan_of
from tests.support.store import letter, request, take

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_a_mark_never_moves_back(database: Database) -> None:
    """The furthest offset and the latest time win, each by itself."""
    for offset, moment in ((10, NOON), (8, NOON + timedelta(hours=1)), (12, NOON - timedelta(hours=1))):
        await progress.note_progress(database, [IntakeProgress("t", 0, offset, moment)])

    (mark,) = await database.run("SELECT next_offset, read_up_to FROM intake_progress")
    assert (12, NOON + timedelta(hours=1)) == tuple(mark)


async def test_a_mark_is_never_in_the_future(database: Database) -> None:
    """A mark is never later than now by the database's clock, even from a worker whose clock is fast."""
    await progress.note_progress(database, [IntakeProgress("t", 0, 1, datetime.now(UTC) + timedelta(days=1))])

    (mark,) = await database.run("SELECT read_up_to <= now() AS past FROM intake_progress")
    assert mark.past


async def test_a_topic_is_read_up_to_its_slowest_partition(database: Database) -> None:
    """The oldest mark of the topic counts, and no other topic's; without a mark nothing is known."""
    assert await progress.read_up_to(database, "t") is None
    marks = [IntakeProgress("t", 0, 1, NOON), IntakeProgress("t", 1, 1, NOON - timedelta(hours=1))]
    await progress.note_progress(database, [*marks, IntakeProgress("other", 0, 1, NOON - timedelta(days=1))])

    assert NOON - timedelta(hours=1) == await progress.read_up_to(database, "t")


async def test_what_is_in_postgres_is_read(database: Database) -> None:
    """A later request counts as read before a mark says so, and so do the records before its own; found by an index."""
    await progress.note_progress(database, [IntakeProgress("t", partition, 3, NOON) for partition in range(3)])
    later, earlier = (int((NOON + timedelta(seconds=seconds)).timestamp() * 1000) for seconds in (1, -1))
    for offset in (7, 5, 1):
        await take(database, request(record=letter(topic="t", partition=1, offset=offset, timestamp_ms=later)))
    # Of the topic before it was created again.
    await take(database, request(record=letter(topic="t", partition=2, offset=900, timestamp_ms=earlier)))

    assert [3, 8, 3] == [mark.next_offset for mark in await progress.progress(database)]
    with noted("run") as asked:
        await progress.progress(database)
    ((sql, values),) = asked
    assert "Index Only Scan Backward using requests_src_topic" in await plan_of(database, sql, **values)


async def test_nothing_to_note_is_no_statement(database: Database) -> None:
    """A worker without partitions writes nothing."""
    await progress.note_progress(database, [])

    assert await database.run("SELECT 1 FROM intake_progress") == []


HELD, STALLED = Standstill(Why.HELD, "t"), Standstill(Why.STALLED, "u")


async def test_a_topic_stands_still_as_long_as_a_worker_says_so(database: Database) -> None:
    """A standstill is noted every second, is forgotten soon after the last note, and changes no topic's marks."""
    await progress.note_progress(database, [IntakeProgress("t", 0, 1, NOON), HELD.mark, STALLED.mark])
    past = "UPDATE intake_progress SET read_up_to = now() - interval '1 minute' WHERE topic = :topic"
    await database.run(past, topic="stalled:u")

    assert [HELD] == await progress.standstills(database)
    assert NOON == await progress.read_up_to(database, "t")

    await progress.note_progress(database, [STALLED.mark])
    assert [HELD, STALLED] == await progress.standstills(database)
