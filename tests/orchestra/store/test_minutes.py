"""Promises of orchestra/store/minutes.py: statistics are equal to the ended requests, whatever interrupts the count."""

import asyncio
import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestra.store import minutes
from orchestra.store.database import Database
from orchestra.store.minutes import Ended
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.status import Status
from tests.support.plans import plan_of
from tests.support.store import claim, claim_one, finish, new_worker, request, take

HOUR = timedelta(hours=1)
_AGO = """
UPDATE requests SET finished_at = finished_at - make_interval(secs => :seconds),
    started_at = started_at - make_interval(secs => :seconds + 3),
    created_at = created_at - make_interval(secs => :seconds + 10)
WHERE finished_at > now() - interval '1 minute'
"""


async def count(database: Database) -> None:
    """Count now, whether or not a count is due."""
    await database.run("UPDATE minutes_counted SET due_at = now()")
    assert await minutes.count(database, 60)


async def ended(database: Database, *, by: str | None = None, hours: int = 1, tenant: str = "default") -> list[Ended]:
    """What ended in the last hours, in one step."""
    before = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    return await minutes.ended(database, tenant, before - hours * HOUR, before, hours * 3600, by)


async def test_endings_are_counted_by_outcome_with_tokens_and_cost(database: Database) -> None:
    """Each way to end is counted, and the tokens and the price of answers are added up."""
    usage = Usage(input_tokens=3, output_tokens=5, cost=0.25)
    for _ in range(2):
        await take(database, request())
        await finish(database, await claim_one(database), usage=usage)
    await take(database, request())
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.AUTH, "why"))
    await take(database, request())  # It is open.

    await count(database)
    (found,) = await ended(database)

    assert (3, 2, 1, 0, 0) == (found.requests, found.completed, found.failed, found.cancelled, found.expired)
    assert (6, 10, 0.5) == (found.input_tokens, found.output_tokens, found.cost)
    assert 3 == sum(found.queue_buckets) == sum(found.model_buckets)
    assert {("completed", 2), ("failed", 1)} == {
        (each.key, each.requests) for each in await ended(database, by="outcome")
    }
    assert [] == await ended(database, tenant="other")


async def test_the_time_in_the_queue_and_at_the_model_are_apart(database: Database) -> None:
    """A request that waited for 7 s and then took 3 s counts as that."""
    await take(database, request())
    await finish(database, await claim_one(database))
    await database.run(_AGO, seconds=0.0)

    await count(database)
    (found,) = await ended(database)

    assert (7, 3) == (round(found.queue_seconds), round(found.model_seconds))
    assert [1 if bound == 8.0 else 0 for bound in (*minutes.BOUNDS, None)] == list(found.queue_buckets)
    assert [1 if bound == 3.15 else 0 for bound in (*minutes.BOUNDS, None)] == list(found.model_buckets)


async def test_rows_with_the_buckets_of_earlier_versions_are_read(database: Database) -> None:
    """What was counted in 13 buckets is added to what is counted now, at the middles of those buckets."""
    await take(database, request())
    await finish(database, await claim_one(database))
    await database.run(_AGO, seconds=0.0)
    await count(database)
    old = [2, *[0] * 8, 5, 0, 0, 1]  # Up to 50 ms; from 30 s to 1 min; over 30 min.
    await database.run(
        "INSERT INTO request_minutes SELECT minute, tenant, 'old', outcome, 8, 0, 0, 0, 0, 0, :old, :old"
        " FROM request_minutes",
        old=old,
    )

    (found,) = await ended(database)

    places = [bisect_right(minutes.BOUNDS, seconds) for seconds in (0.025, 7, 42, 1800)]
    assert [2, 1, 5, 1] == [found.queue_buckets[place] for place in places]
    assert 9 == sum(found.queue_buckets) == sum(found.model_buckets)


async def test_counting_again_changes_nothing_and_later_endings_are_added(database: Database) -> None:
    """A count can be repeated; what ends in the same minute afterwards is in the next one."""
    await take(database, request(model="a"))
    await finish(database, await claim_one(database))
    await count(database)
    await count(database)
    first = [(each.key, each.requests) for each in await ended(database, by="model")]
    await take(database, request(model="a"), request(model="b"))
    for turn in await claim(database, await new_worker(database)):
        await finish(database, turn)
    await count(database)

    assert [("a", 1)] == first
    assert [("a", 2), ("b", 1)] == [(each.key, each.requests) for each in await ended(database, by="model")]


async def test_one_worker_counts_at_a_time(database: Database) -> None:
    """Of workers that count at once, one does, and the next count is not due yet."""
    await database.run("UPDATE minutes_counted SET due_at = now()")

    counted = await asyncio.gather(*(minutes.count(database, 60) for _ in range(4)))

    assert 1 == sum(counted)
    assert not await minutes.count(database, 60)


async def test_what_ended_while_no_worker_counted_is_found(database: Database) -> None:
    """Endings of hours ago, from before there were statistics or while no worker ran, are counted too."""
    for seconds in (7200, 3 * 7200):
        await take(database, request())
        await finish(database, await claim_one(database))
        await database.run(_AGO, seconds=seconds)

    await database.run("UPDATE minutes_counted SET settled_at = now() - interval '1 day'")

    for _ in range(3):
        await count(database)

    assert 2 == sum(each.requests for each in await ended(database, hours=24))
    (state,) = await database.run("SELECT settled_at, now() AS now FROM minutes_counted")
    assert state.now - state.settled_at < 10 * timedelta(minutes=1)


async def test_a_transaction_that_commits_late_is_counted(database: Database) -> None:
    """An ending whose minute was counted before it became visible is counted once the minute is settled."""
    await take(database, request())
    await finish(database, await claim_one(database))
    await count(database)
    await take(database, request())
    await finish(database, await claim_one(database))
    await database.run(_AGO, seconds=600)  # As if it had been committed after the minute was counted.
    await database.run("UPDATE request_minutes SET minute = minute - interval '10 minutes'")
    await database.run("UPDATE minutes_counted SET settled_at = now() - interval '15 minutes'")

    for _ in range(4):
        await count(database)

    assert 2 == sum(each.requests for each in await ended(database))


async def test_models_beyond_the_first_are_added_up(database: Database) -> None:
    """An answer names a bounded number of models; all others are in one row without a name."""
    names = [f"model-{place}" for place in range(minutes.MAX_GROUPS + 3)]
    await take(database, *(request(model=name) for name in names))
    for turn in await claim(database, await new_worker(database)):
        await finish(database, turn)

    await count(database)
    found = await ended(database, by="model")

    assert minutes.MAX_GROUPS + 1 == len(found)
    assert len(names) == sum(each.requests for each in found)
    assert None is found[-1].key


async def test_a_tenants_statistics_are_read_without_those_of_others(database: Database) -> None:
    """Both reads go by tenant first, so that a long range costs a tenant what its own minutes cost."""
    spans = {"after": datetime(2026, 1, 1, tzinfo=UTC), "before": datetime(2026, 12, 1, tzinfo=UTC)}
    reads: list[tuple[str, dict[str, Any]]] = [
        (minutes._READ["model"], {"tenant": "default", "step": 3600.0, **spans}),
        (minutes._NEWEST, {"tenants": ["default"]}),
    ]
    for statement, values in reads:
        plan = await plan_of(database, statement, **values)
        assert "Seq Scan on request_minutes" not in plan
        assert "request_minutes_pkey" not in plan
        assert re.search(r"request_minutes_by_tenant.*\n\s+Index Cond: \(\(tenant = ", plan), plan
