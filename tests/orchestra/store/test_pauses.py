"""Promises of orchestra/store/pauses.py: what is paused is not claimed, and nothing else changes."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from gateway import pulse
from orchestra.store import claims, pauses, queue, requests
from orchestra.store.claims import Claimed, ClaimOrder, ModelLimit, Paused, Without
from orchestra.store.database import Database
from orchestra.store.models import note_models
from orchestra.store.pauses import MAX_PAUSES, Pause
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ModelInfo, ModelList
from tests.support.stack import Stack
from tests.support.store import connect, count_now, new_worker, request, take
from tests.support.waiting import eventually

_ROWS_READ = """
SELECT coalesce(sum(idx_tup_read), 0) AS n FROM pg_stat_user_indexes WHERE relname = 'requests'
"""
_WAITS = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
_FILL = """
INSERT INTO conversations (tenant, id, next_seq)
SELECT :tenant, CAST(lpad(to_hex(n), 32, '0') AS uuid), 2 FROM generate_series(1, :n) AS n
"""
_PENDING = """
INSERT INTO requests (
    tenant, id, conversation_id, seq, status, priority, model, body, body_hash, caller_waits, max_tries, run_at,
    deadline_at, src_topic, src_partition, src_offset, src_timestamp
)
SELECT tenant, id, id, 1, 'pending', 9, 'llama3', '{}', 'x', false, 5, now(), now() + interval '1 hour',
    't', 0, row_number() OVER (), 0
FROM conversations WHERE tenant = :tenant
"""


async def pause(
    database: Database, model: str | None, tenant: str = "default", *, until: datetime | None = None, reason: str = ""
) -> Pause:
    """Pause as an operator does."""
    async with database.transaction() as tx:
        made, _ = await pauses.pause(tx, tenant, model, reason=reason, until=until, by="key:k")
    return made


async def resume(database: Database, model: str | None, tenant: str = "default") -> list[Pause]:
    """Resume as an operator does."""
    async with database.transaction() as tx:
        return await pauses.resume(tx, tenant, model)


async def claim(database: Database, worker: UUID | None = None, **more: object) -> list[Claimed]:
    """Claim as a worker that knows what is paused."""
    paused = await pauses.in_force(database)
    shares = (Without(9, tenants=paused.tenants),) if paused.tenants else ()
    order = ClaimOrder(worker or await new_worker(database), 9, shares=shares, paused=paused.models, **more)  # type: ignore[arg-type]
    return await claims.claim(database, order)


async def test_a_paused_model_waits_for_its_tenant_alone(database: Database) -> None:
    """Other models of the tenant and the same model of other tenants are claimed, whatever their priority."""
    held = request(model="a", priority=9)
    others = [request(model="b"), request(model="a", tenant="acme"), request(model="c", user="ada")]
    await take(database, held, *others)
    await pause(database, "a")

    assert {each.ref for each in others} == {turn.ref for turn in await claim(database)}
    assert [] == await claim(database)

    await resume(database, "a")
    assert [held.ref] == [turn.ref for turn in await claim(database)]


async def test_a_paused_tenant_waits_and_no_other(database: Database) -> None:
    """All of a tenant's turns wait, with and without owners; those of other tenants are claimed in their order."""
    await take(database, request(), request(user="ada", priority=9), request(tenant="acme"))
    await pause(database, None)

    assert ["acme"] == [turn.tenant for turn in await claim(database)]
    assert Paused(frozenset({"default"})) == await pauses.in_force(database)


async def test_a_pause_counts_where_models_are_limited_and_shares_are_full(database: Database) -> None:
    """A pause also holds in the claims for models with less room, and in those that leave owners out."""
    await take(database, request(model="a"), request(model="a", tenant="acme"), request(model="b", user="ada"))
    await pause(database, "a")
    worker, paused = await new_worker(database), (await pauses.in_force(database)).models
    for limits, shares in (((ModelLimit("a", 1),), ()), ((), (Without(9, frozenset({("default", "ada")})),))):
        order = ClaimOrder(worker, 9, limits, shares, paused=paused)
        assert ("default", "a") not in {(turn.tenant, turn.model) for turn in await claims.claim(database, order)}


async def test_a_model_is_paused_under_all_its_names(database: Database) -> None:
    """Pausing an alias pauses the model, and requests wait whichever of its names they give."""
    info = ModelInfo(name="llama3", aliases=["fast", "small"], provider="p", context_tokens=1, max_output_tokens=1)
    await note_models(database, ModelList(default="llama3", data=[info]))
    await take(database, request(model="llama3"), request(model="small"), request(model="other"))
    made = await pause(database, "fast")

    assert "llama3" == made.model
    assert ["other"] == [turn.model for turn in await claim(database)]
    assert ["llama3"] == [each.model for each in await pauses.holding(database, "default", "small")]
    assert [made] == await resume(database, "small")
    assert 2 == len(await claim(database))


@pytest.mark.parametrize("name", ["fast", "llama3"])
async def test_a_paused_name_that_becomes_an_alias_is_resumed(database: Database, name: str) -> None:
    """The pause then counts for the model that has the alias: under all its names, for resuming and for pausing."""
    early = await pause(database, "fast")
    info = ModelInfo(name="llama3", aliases=["fast"], provider="p", context_tokens=1, max_output_tokens=1)
    await note_models(database, ModelList(default="llama3", data=[info]))
    await take(database, request(model="llama3"), request(model="fast"))

    assert [] == await claim(database)
    assert [early] == await pauses.holding(database, "default", "llama3")
    async with database.transaction() as tx:
        late, before = await pauses.pause(tx, "default", name, reason="", until=None, by="key:k")
    assert (early, [late]) == (before, await pauses.of_tenant(database, "default"))
    await database.run("UPDATE pauses SET model = 'fast'")
    assert ["fast"] == [each.model for each in await resume(database, name)]
    assert 2 == len(await claim(database))


async def test_a_pause_ends_by_itself(database: Database) -> None:
    """After its time a pause holds nothing, is not shown, and resuming it ends nothing."""
    await take(database, request())
    await pause(database, "llama3", until=datetime.now(UTC) + timedelta(hours=1))
    assert [] == await claim(database)

    await database.run("UPDATE pauses SET until = now()")

    assert 1 == len(await claim(database))
    assert [] == await pauses.of_tenant(database, "default")
    assert [] == await resume(database, "llama3")


async def test_a_second_pause_replaces_the_first(database: Database) -> None:
    """The newest reason and time count, and what was before is returned."""
    first = await pause(database, "a", reason="first")
    async with database.transaction() as tx:
        second, before = await pauses.pause(tx, "default", "a", reason="second", until=None, by="user:u")

    assert first == before
    assert [second] == await pauses.of_tenant(database, "default")
    assert ("second", "user:u") == (second.reason, second.paused_by)


async def test_pauses_of_a_tenant_are_bounded(database: Database) -> None:
    """Beyond the limit a pause is refused, because every claim compares turns with all of them."""
    await database.run(
        "INSERT INTO pauses (tenant, model, reason, paused_by)"
        " SELECT 'default', n, '', 'k' FROM generate_series(1, :n) AS n",
        n=MAX_PAUSES,
    )
    with pytest.raises(OrchestraError) as refused:
        await pause(database, "one more")
    assert refused.value.code is ErrorCode.INVALID_REQUEST

    await pause(database, "1", reason="again")
    await pause(database, None)
    await pause(database, "one more", "acme")


async def test_pauses_at_the_same_time_are_bounded(database: Database) -> None:
    """The second of two pauses sees the first, so that both together do not exceed the limit."""
    await database.run(
        "INSERT INTO pauses (tenant, model, reason, paused_by)"
        " SELECT 'default', n, '', 'k' FROM generate_series(2, :n) AS n",
        n=MAX_PAUSES,
    )
    async with database.transaction() as tx:
        await pauses.pause(tx, "default", "a", reason="", until=None, by="key:k")
        second = asyncio.create_task(pause(database, "b"))
        await eventually(lambda: database.run(_WAITS))
    with pytest.raises(OrchestraError):
        await second
    assert MAX_PAUSES == len(await pauses.of_tenant(database, "default"))


async def test_what_is_paused_makes_no_queue_old(database: Database) -> None:
    """Paused turns do not count as waiting too long, so they close no gateway; they are counted as paused."""
    await take(database, request(model="a"), request(model="b", user="ada"))
    await database.run("UPDATE requests SET run_at = now() - interval '1 hour'")
    await pause(database, "a")
    await count_now(database)

    (group,) = [each for each in (await queue.depth(database)).groups if each.model == "a"]
    assert (1, 1) == (group.runnable, group.paused)
    found = await queue.totals(database, [("default", ""), ("default", "ada")])
    assert found["default", ""].oldest_seconds is None
    assert found["default", "ada"].oldest_seconds

    await pause(database, None)
    assert 0 == await requests.oldest_runnable_age(database)


async def test_what_waits_behind_paused_turns_is_known(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many paused turns come first, the queue is as old as the oldest turn that a worker could take."""
    for module in (queue, requests):
        monkeypatch.setattr(module, "MAX_OF_PRIORITY", 3)
    await take(database, *(request(model="paused") for _ in range(5)))
    await database.run("UPDATE requests SET run_at = now() - interval '1 hour'")
    await take(database, request(model="b"), request(model="b", priority=0))
    await database.run("UPDATE requests SET run_at = now() - interval '30 seconds' WHERE model = 'b' AND priority = 5")
    await pause(database, "paused")
    await count_now(database)

    assert await requests.oldest_runnable_age(database) == pytest.approx(30, abs=5)
    whole = await queue.totals(database, [("default", None)])
    depth = await queue.depth(database)
    assert pulse.oldest(depth, "default", whole["default", None]) == pytest.approx(30, abs=5)

    await database.run("DELETE FROM requests WHERE model = 'b' AND priority = 5")
    await count_now(database)
    assert await requests.oldest_runnable_age(database) < 5


@pytest.mark.parametrize("why", ["paused", "tenant paused", "held", "delayed"])
async def test_the_age_of_the_queue_costs_the_same_whatever_waits(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A look reads as many rows however many turns are paused, held back or wait for their time."""
    monkeypatch.setattr(requests, "MAX_OF_PRIORITY", 20)
    database = connect(await stack.fresh_database(), as_worker=True, database_pool_size=1)
    if "paused" in why:
        await pause(database, "llama3" if why == "paused" else None, "them")
    read = []
    for n in (30, 3000):
        await database.run("DELETE FROM requests")
        await database.run("DELETE FROM conversations")
        await database.run(_FILL, tenant="them", n=n)
        await database.run(_PENDING, tenant="them")
        if why == "held":
            await database.run("UPDATE requests SET error_code = 'auth'")
        if why == "delayed":
            await database.run("UPDATE requests SET run_at = now() + interval '1 hour'")
        await database.run("VACUUM ANALYZE requests")
        before = await _read(database)
        assert 0 == await requests.oldest_runnable_age(database)
        read.append(await _read(database) - before)
    await database.close()

    assert read[1] <= read[0] + 10, read


async def test_turns_of_a_paused_tenant_are_not_read(stack: Stack) -> None:
    """A claim past a paused tenant reads as many rows however many turns wait there."""
    database = connect(await stack.fresh_database(), as_worker=True, database_pool_size=1)
    worker = await new_worker(database)
    await pause(database, None, "them")
    read = []
    for n in (10, 2000):
        await database.run("DELETE FROM requests WHERE tenant = 'them'")
        await database.run("DELETE FROM conversations WHERE tenant = 'them'")
        await database.run(_FILL, tenant="them", n=n)
        await database.run(_PENDING, tenant="them")
        await database.run("ANALYZE requests")
        await take(database, request())
        before = await _read(database)
        assert 1 == len(await claim(database, worker))
        read.append(await _read(database) - before)
    await database.close()

    assert read[1] <= read[0] + 50


async def _read(database: Database) -> int:
    await database.run("SELECT pg_stat_force_next_flush()")
    return int((await database.run(_ROWS_READ))[0].n)
