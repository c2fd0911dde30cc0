"""Promises of a claim that passes over owners: it takes the others' turns, and reads none of those it skips."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import pytest

from orchestra.store import claims
from orchestra.store.claims import ClaimOrder, ModelLimit, Owner, Without
from orchestra.store.database import Database
from tests.support.stack import Stack
from tests.support.store import connect, finish, new_worker, request, statuses, take

FLOOD = 10_000
ADA = ("default", "ada")
# In all tables and indexes. A claim of one turn among nothing else reads about 12.
MAX_ROWS = 40

_FLOOD = """
WITH new AS (INSERT INTO conversations (id) SELECT gen_random_uuid() FROM generate_series(1, :count) RETURNING id)
INSERT INTO requests (id, conversation_id, seq, status, priority, model, body, body_hash, user_name, deadline_at,
    src_topic, src_partition, src_offset, src_timestamp)
SELECT gen_random_uuid(), id, 1, 'pending', row_number() OVER () % 10, 'm', '{}', 'h', :user, now() + interval '1 hour',
    't', 0, row_number() OVER (), 0
FROM new
"""
_ROWS_READ = """
SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes) AS n
"""


def without(
    *owners: Owner, limit: int = 5, tenants: tuple[str, ...] = (), after: Owner = ("", "")
) -> tuple[Without, ...]:
    """One claim that passes over these."""
    return (Without(limit, frozenset(owners), frozenset(tenants), after),)


async def rows_read(database: Database) -> int:
    """How many rows this session's statements have read since the database was created."""
    await database.run("SELECT pg_stat_force_next_flush()")
    return int((await database.run(_ROWS_READ))[0].n)


@pytest.fixture(params=["before", "after"])
async def flooded(stack: Stack, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """One connection, to a queue that ada fills; its statistics are of before or after she did."""
    connected = connect(await stack.fresh_database(), as_worker=True, database_pool_size=1)
    for table in ("requests", "conversations"):
        await connected.run(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
    if request.param == "before":
        await connected.run("ANALYZE")
    await connected.run(_FLOOD, count=FLOOD, user="ada")
    if request.param == "after":
        await connected.run("VACUUM ANALYZE")
    yield connected
    await connected.close()


async def test_a_flood_that_is_passed_over_is_not_read(flooded: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one turn behind ten thousand of an owner whose share is full costs what it would cost alone."""
    worker = await new_worker(flooded)
    monkeypatch.setattr(claims.random, "random", lambda: 0.5)
    # The owner's tenant, another, and the tenant itself; by owner and by tenant.
    for other, full in (
        (request(user="bob", priority=0), without(ADA)),
        (request(user=None, priority=0), without(ADA)),
        (request(tenant="t2", user="ada"), without(ADA)),
        (request(tenant="t2", user="bob"), without(tenants=("default",))),
    ):
        await take(flooded, other)
        before = await rows_read(flooded)
        claimed = await claims.claim(flooded, ClaimOrder(worker, 5, shares=full))
        read = await rows_read(flooded) - before

        assert [other.id] == [turn.id for turn in claimed]
        assert read < MAX_ROWS


async def test_a_flood_that_is_passed_over_costs_no_rows_when_there_is_nothing_else(flooded: Database) -> None:
    """Idle slots claim again and again, and each such claim reads next to nothing."""
    worker = await new_worker(flooded)
    before = await rows_read(flooded)

    assert [] == await claims.claim(flooded, ClaimOrder(worker, 200, shares=without(ADA, limit=200)))

    assert await rows_read(flooded) - before < MAX_ROWS


async def test_the_others_are_claimed_by_priority_then_by_age(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns go by priority and age, as where no share is full, whatever owners they have."""
    monkeypatch.setattr(claims.random, "random", lambda: 0.0)
    flood = [request(user="ada", priority=9) for _ in range(10)]
    low, high, oldest, newest = (
        request(user=user, priority=priority) for user, priority in (("b", 1), ("c", 9), (None, 5), ("b", 5))
    )
    for each in (*flood, low, oldest, newest, high):
        await take(database, each)
    worker = await new_worker(database)
    order = ClaimOrder(worker, 1, shares=without(ADA, limit=1))

    claimed = [(await claims.claim(database, order))[0].id for _ in range(4)]

    assert [high.id, oldest.id, newest.id, low.id] == claimed
    assert [] == await claims.claim(database, order)


async def test_one_in_eight_of_the_others_goes_by_age_alone(database: Database) -> None:
    """However many urgent turns the others have, the oldest of all of theirs is among every eight."""
    low, lower = request(user="b", priority=1), request(user="c", priority=0)
    for each in (request(user="ada"), low, lower, *(request(user="d", priority=9) for _ in range(30))):
        await take(database, each)
    worker = await new_worker(database)
    order = ClaimOrder(worker, 8, shares=without(ADA, limit=8))

    first, second = [{turn.id for turn in await claims.claim(database, order)} for _ in range(2)]

    assert (8, 8) == (len(first), len(second))
    assert (low.id in first, lower.id in first) == (True, False)
    assert lower.id in second


@pytest.mark.parametrize(
    ("last", "next_ones"), [(50, range(51, 84)), (90, (*range(91, 100), *range(24))), (99, range(33))]
)
async def test_more_owners_than_a_claim_looks_at_have_their_turn_one_after_another(
    database: Database, last: int, next_ones: Sequence[int]
) -> None:
    """A claim starts with the owner after the last one's, and wraps round to the first."""
    await take(database, *(request(user=f"owner-{number:03}") for number in range(100)))
    worker, full = await new_worker(database), ("default", "somebody")
    order = ClaimOrder(worker, 1, shares=without(full, limit=1, after=("default", f"owner-{last:03}")))

    (turn,) = await claims.claim(database, order)

    assert turn.user in {f"owner-{number:03}" for number in next_ones}


async def test_delayed_held_back_and_waiting_turns_stay(database: Database) -> None:
    """A claim that passes over owners takes no turn that a plain claim would not take."""
    busy = uuid4()
    head, behind = request(busy, user="bob"), request(busy, user="bob")
    held, limited = request(user="bob", model="held"), [request(user="bob", model="limited") for _ in range(3)]
    for each in (request(user="ada"), head, behind, held, *limited):
        await take(database, each)
    await database.run(
        "UPDATE requests SET run_at = now() + interval '1 hour' WHERE id = :id", id=(late := limited[0]).id
    )
    worker = await new_worker(database)
    models = (ModelLimit("held", 0), ModelLimit("limited", 1))

    claimed = await claims.claim(database, ClaimOrder(worker, 5, models, without(ADA)))

    assert {head.id, limited[1].id} == {turn.id for turn in claimed}
    assert ["pending", "waiting", "pending"] == await statuses(database, (late, behind, held))
    await finish(database, next(turn for turn in claimed if turn.id == head.id))
    again = await claims.claim(database, ClaimOrder(worker, 5, models, without(ADA)))
    assert {behind.id, limited[2].id} == {turn.id for turn in again}


async def test_what_is_left_of_a_share_is_claimed_after_the_others(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner with room for one more gets one, after those with room for all."""
    monkeypatch.setattr(claims.random, "random", lambda: 0.0)
    flood = [request(user="ada", priority=9) for _ in range(5)]
    other = request(user="bob", priority=0)
    for each in (*flood, other):
        await take(database, each)
    worker = await new_worker(database)
    shares = (*without(ADA, limit=5), *without(limit=1))

    claimed = await claims.claim(database, ClaimOrder(worker, 5, shares=shares))

    assert [other.id, flood[0].id] == [turn.id for turn in claimed]


async def test_a_flood_of_a_model_with_few_slots_is_not_read(
    flooded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond what a claim reads past the turns of a full model, another owner's turn costs what it would cost alone."""
    worker = await new_worker(flooded)
    monkeypatch.setattr(claims.random, "random", lambda: 0.5)
    in_turn = (*without(ADA, limit=1, tenants=("default",)), *without(ADA, limit=1), *without(limit=1))
    await take(flooded, other := request(user="bob", model="m", priority=0))
    read = {}
    for name, limit in (("full", ModelLimit("m", 0)), ("free", ModelLimit("m", 1, in_turn))):
        before = await rows_read(flooded)
        claimed = await claims.claim(flooded, ClaimOrder(worker, 1, (limit,)))
        read[name] = await rows_read(flooded) - before

    assert [other.id] == [turn.id for turn in claimed]
    assert read["free"] - read["full"] < MAX_ROWS


async def test_the_slots_of_a_model_go_to_others_first(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's room goes to other owners first, then to the last one's owner; other models use all free slots."""
    monkeypatch.setattr(claims.random, "random", lambda: 0.0)
    few = [request(user="ada", priority=9, model="few") for _ in range(5)]
    more = [request(user="ada", priority=9, model="more") for _ in range(5)]
    other = request(user="bob", priority=0, model="few")
    for each in (*few, *more, other):
        await take(database, each)
    worker = await new_worker(database)
    shares = (*without(ADA, limit=1), *without(limit=1))
    order = ClaimOrder(worker, 100, (ModelLimit("few", 1, shares),))

    claimed = [{turn.id for turn in await claims.claim(database, order)} for _ in range(2)]

    assert [{other.id, *(each.id for each in more)}, {few[0].id}] == claimed


async def test_the_claims_of_a_models_slots_take_no_more_than_its_room(database: Database) -> None:
    """The limits hold over all claims, of the slots and of a model's room."""
    for user in ("ada", "bob", "eve"):
        await take(database, *(request(user=user, model="few") for _ in range(5)))
    worker = await new_worker(database)
    shares = (*without(ADA, limit=3), *without(ADA, limit=2), *without(limit=2))
    slots = (*without(ADA, limit=10), *without(limit=10))

    first = await claims.claim(database, ClaimOrder(worker, 10, (ModelLimit("few", 3, shares),), slots))
    second = await claims.claim(database, ClaimOrder(worker, 10, (ModelLimit("few", 3),), slots))
    tenant = ModelLimit("few", 3, (*without(tenants=("default",), limit=3), *without(ADA, limit=1), *without(limit=1)))
    third = await claims.claim(database, ClaimOrder(worker, 10, (tenant,)))

    assert [3, 3, 1] == [len(first), len(second), len(third)]
    assert "ada" not in {turn.user for turn in first}


async def test_two_workers_that_pass_over_the_same_owner_share_the_others_turns(database: Database) -> None:
    """Each turn goes to one of them, and neither leaves what it could have had."""
    await take(database, *(request(user=user) for user in ("ada", "bob", "eve") for _ in range(10)))
    workers = [await new_worker(database) for _ in range(2)]

    taken = await asyncio.gather(
        *(claims.claim(database, ClaimOrder(each, 10, shares=without(ADA, limit=10))) for each in workers)
    )

    assert 20 == len({turn.id for each in taken for turn in each})
    assert [10, 10] == [len(each) for each in taken]
