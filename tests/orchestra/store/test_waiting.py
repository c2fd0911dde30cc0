"""Promises of orchestra/store/waiting.py: what comes before a turn, and how fast turns were claimed."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import waiting
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from orchestra.store.intake import NewRequest
from orchestra.store.waiting import Line, Place
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.plans import plan_of
from tests.support.store import claim, claim_one, finish, new_worker, request, take

LATER = datetime.now(UTC) + timedelta(hours=1)


async def place(database: Database, wanted: NewRequest) -> Place:
    found = await waiting.place(database, wanted.ref)
    assert found
    return found


def turns(line: Line) -> tuple[int, int]:
    """How many have waited longer, and how many are more urgent."""
    return sum(each.turns for each in line.older), sum(each.turns for each in line.urgent)


async def test_what_comes_first_is_counted_by_whose_it_is(database: Database) -> None:
    """By tenant, owner, model and priority; what is due later and what is behind another turn is not counted."""
    talk = uuid4()
    await take(database, request(model="a"), request(priority=2), request(tenant="acme", user="eve"))
    await take(database, mine := request(user="ada"))
    await take(database, request(), request(priority=8), request(priority=9, not_before=LATER))
    await take(database, request(talk), request(talk))

    line = await waiting.line(database, await place(database, mine))

    assert {("default", "", "a", 5), ("default", "", "llama3", 2), ("acme", "eve", "llama3", 5)} == {
        (each.tenant, each.owner, each.model, each.priority) for each in line.older
    }
    assert [("default", "", "llama3", 8, 1, 1, 1)] == [
        (each.tenant, each.owner, each.model, each.priority, each.turns, each.arrived, each.recent)
        for each in line.urgent
    ]
    assert not line.more


async def test_turns_of_one_moment_come_in_the_order_of_claims(database: Database) -> None:
    """As many come before each turn of a batch as are claimed before it."""
    made = [request() for _ in range(20)]
    await take(database, *made)
    before = {each.id: turns(await waiting.line(database, await place(database, each)))[0] for each in made}
    worker, order = await new_worker(database), []

    while got := await claim(database, worker, 1):
        order.append(got[0].id)

    assert order == sorted(before, key=lambda id: before[id])
    assert list(range(20)) == sorted(before.values())


async def test_counting_stops_and_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit the number of older ones follows from how dense they are, and from how many are open."""
    monkeypatch.setattr(waiting, "MAX_OLDER", 10)
    for each in (made := [request() for _ in range(40)]):
        await take(database, each)
    await database.run("UPDATE requests SET run_at = now() - src_offset * interval '1 second' + interval '0 hours'")
    oldest_last = sorted(made, key=lambda each: each.record.offset)
    total = "INSERT INTO owner_totals (tenant, whole, owner, open_turns) VALUES ('default', true, '', :turns)"
    await database.run(total, turns=1000)

    line = await waiting.line(database, await place(database, oldest_last[0]))
    few = await waiting.line(database, await place(database, oldest_last[-5]))

    assert (True, 10) == (line.more, turns(line)[0])
    assert 3.5 < line.scale < 5
    assert (False, 1, 4) == (few.more, few.scale, turns(few)[0])
    await database.run("UPDATE owner_totals SET open_turns = 20")
    assert 2 == (await waiting.line(database, await place(database, oldest_last[0]))).scale


async def test_the_pace_is_of_first_claims(database: Database) -> None:
    """What ended and what runs counts once; what was never claimed does not; old ones are too old."""
    await take(database, request(model="a"), request(model="a", priority=7))
    for each in await claim(database, await new_worker(database)):
        if each.model == "a":
            await finish(database, each)
    await take(database, request(model="b"))
    await claim_one(database)
    await take(database, request(model="c", deadline=datetime(2020, 1, 1, tzinfo=UTC)))
    await take(database, old := request(model="a"))
    await finish(database, await claim_one(database))
    age = "UPDATE requests SET started_at = now() - interval '2 minutes', run_at = started_at - interval '3 minutes'"
    await database.run(f"{age} WHERE id = :id", id=old.id)
    middle = "UPDATE requests SET started_at = now() - interval '40 seconds' WHERE priority = 7"
    await database.run(middle)

    found = await waiting.pace(database)

    assert 59 < found.seconds < 61
    assert 29 < found.recent < 31
    assert {("a", 5, 1, 2, 1), ("a", 7, 1, 1, 0), ("b", 5, 1, 0, 1)} == {
        (each.model, each.priority, each.claimed, each.ended, each.recent_claimed) for each in found.claims
    }


async def test_a_fast_queue_is_measured_over_a_shorter_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If more ended than is read, the window is that of what was read."""
    monkeypatch.setattr(waiting, "MAX_ENDED", 5)
    order = ClaimOrder(await new_worker(database), 10)
    for each in (await take(database, *(request() for _ in range(10)), order=order)).claimed:
        await finish(database, each)

    found = await waiting.pace(database)

    assert found.seconds < 30
    assert found.recent == found.seconds


async def test_an_empty_system_has_a_pace_of_nothing(database: Database) -> None:
    """No claims at all."""
    assert [] == (await waiting.pace(database)).claims
    assert await waiting.place(database, request().ref) is None


async def test_a_turn_behind_others_knows_which(database: Database) -> None:
    """The head of its conversation and how many come before it; a head has none."""
    talk = uuid4()
    made = [request(talk) for _ in range(3)]
    await take(database, *made)

    found = [await place(database, each) for each in made]

    assert [(None, 0), (made[0].id, 1), (made[0].id, 2)] == [(each.head, each.behind) for each in found]


async def test_a_turn_that_failed_says_why(database: Database) -> None:
    """With the error and when it may run again."""
    await take(database, mine := request(priority=7, user="ada"))
    turn = await claim_one(database)
    await finish(database, turn, Status.PENDING, error=(ErrorCode.TIMEOUT, "slow"), delay=60.0)

    found = await place(database, mine)

    assert ("timeout", "slow", "ada", 7) == (found.error_code, found.error_detail, found.owner, found.priority)
    assert timedelta(seconds=50) < found.run_at - found.now < timedelta(seconds=70)


@pytest.mark.parametrize(
    ("statement", "indexes"),
    [
        ("_OLDER", ["requests_oldest"]),
        ("_URGENT", ["requests_runnable"]),
        ("_PACE", ["requests_ended", "requests_running"]),
        ("_RUNNING", ["requests_running"]),
        ("_PLACE", ["requests_waiting", "requests_one_head"]),
    ],
)
async def test_only_indexes_of_what_is_open_or_just_ended_are_read(
    database: Database, statement: str, indexes: list[str]
) -> None:
    """However many requests there are, no plan reads the table from end to end, and each scan has its limit."""
    mine = request()
    values = {
        "limit": 10, "window": 60, "newer": 30, "max_ended": 10, "max_running": 10, "max_behind": 10, "priority": 3,
        "run_at": LATER, "row": "(0,1)", "tenant": mine.tenant, "id": mine.id,
    }  # fmt: skip
    plan = await plan_of(database, getattr(waiting, statement), **values)

    assert "Seq Scan" not in plan
    assert [each for each in indexes if each not in plan] == []
    assert "Bitmap" not in plan
    assert "Sort" not in plan.partition("requests")[2]
