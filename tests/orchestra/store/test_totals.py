"""Promises of orchestra/store/totals.py: the totals of every owner are counted, by one worker at a time."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import totals
from orchestra.store.database import Database
from orchestra.store.endings import Items
from orchestra.store.totals import Quota, Total
from schemas.errors import ErrorCode
from tests.support.store import claim_one, count_now, finish, let_counts_be_due, request, take, to_store

ALL = Quota(0, 0, 0, 0.0)
LATER = datetime.now(UTC) + timedelta(hours=1)


async def counted(database: Database) -> dict[tuple[str, str | None], Total]:
    """The totals of every owner and tenant, counted now."""
    await count_now(database)
    return {(each.tenant, each.owner): each for each in await totals.too_much(database, ALL, ALL)}


def turns(total: Total) -> tuple[int, int]:
    """How many are open, and how many of them parked."""
    return total.open_turns, total.parked_turns


async def test_open_and_parked_turns_are_counted_by_owner_and_by_tenant(database: Database) -> None:
    """Those that run, that may run, that wait behind another and that wait for their time."""
    talk = uuid4()
    await take(database, request(user="ada"))
    running = await claim_one(database)
    await take(
        database,
        request(talk, user="ada"),
        request(talk, user="ada"),
        request(user="ada", not_before=LATER),
        request(user="bob", not_before=LATER),
        request(user=None),
        request(tenant="t2", user="ada"),
    )

    found = await counted(database)

    assert {
        ("default", "ada"): (4, 1),
        ("default", "bob"): (1, 1),
        ("default", ""): (1, 0),
        ("default", None): (6, 2),
        ("t2", "ada"): (1, 0),
        ("t2", None): (1, 0),
    } == {who: turns(each) for who, each in found.items()}
    assert found["default", "bob"].next_due == LATER
    assert {"bob": 1, None: 2} == await totals.parked(database, "default", ["bob", "nobody"])
    await finish(database, running)
    assert (3, 1) == turns((await counted(database))["default", "ada"])


async def test_who_has_nothing_any_more_is_forgotten(database: Database) -> None:
    """The table holds only owners that have something."""
    await take(database, request(user="ada"))
    assert await counted(database)
    await finish(database, await claim_one(database))

    assert {} == await counted(database)


async def test_age_is_that_of_the_oldest_that_may_run(database: Database) -> None:
    """Delayed, held-back and running turns do not wait for a worker."""
    held, late, old = (request(user="ada") for _ in range(3))
    await take(database, request(user="bob"))
    await claim_one(database)
    await take(database, held, late, old)
    for each, minutes, code in ((held, 90, ErrorCode.RATE_LIMITED), (late, -60, None), (old, 30, None)):
        await database.run(
            "UPDATE requests SET run_at = now() - make_interval(mins => :m), error_code = :code WHERE id = :id",
            m=minutes, code=code, id=each.id,
        )  # fmt: skip

    found = await counted(database)

    assert 1800 <= found["default", "ada"].age_seconds < 3600
    assert [0, 0] == [found["default", owner].age_seconds for owner in ("bob", None)]


@pytest.fixture
async def small_files(database: Database) -> None:
    """Makes files of tables small: other tests have left large ones, of which only a sample is counted."""
    await database.run("VACUUM FULL messages, requests, conversations")


@pytest.mark.usefixtures("small_files")
async def test_stored_bytes_are_those_of_texts_bodies_and_metadata(database: Database) -> None:
    """While a table is small it is read whole, so that the figure is exact; it falls when things are deleted."""
    await take(database, request(user="ada", text="?" * 900), request(tenant="t2", user="ada"))
    await database.run(
        "INSERT INTO conversations (id, owner, metadata) VALUES (:id, 'bob', CAST(:metadata AS jsonb))",
        id=uuid4(),
        metadata='{"who": "bob"}',
    )
    await count_now(database, totals.count_bytes)
    first = {(each.tenant, each.owner): each.stored_bytes for each in await totals.too_much(database, ALL, ALL)}

    assert 900 < first["default", "ada"] < 1100
    assert 0 < first["default", "bob"] < 100
    assert first["default", "ada"] + first["default", "bob"] == first["default", None]
    assert 0 < first["t2", "ada"] == first["t2", None]


@pytest.mark.usefixtures("small_files")
async def test_parts_items_and_provider_data_are_stored_bytes(database: Database) -> None:
    """What a message has beside its text counts as its text does."""
    await take(database, request(user="ada"))
    said = [to_store("user", "", [{"type": "text", "text": "?" * 900}], None, 900)]
    output = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "?" * 900}]
    await finish(database, await claim_one(database), said=said, items=Items(output, 900, {"provider": "?" * 900}))

    await count_now(database, totals.count_bytes)

    (found,) = [each for each in await totals.too_much(database, ALL, ALL) if each.owner == "ada"]
    assert 2700 < found.stored_bytes < 3200


async def test_only_one_counts_and_not_again_at_once(database: Database) -> None:
    """Every worker asks; a count that one has just done, or is doing, is not repeated by the others."""
    await let_counts_be_due(database)

    done = await asyncio.gather(*(totals.count_turns(database, 60) for _ in range(5)))

    assert 1 == sum(done)
    assert not await totals.count_turns(database, 60)


async def test_only_those_who_have_too_much_are_told(database: Database) -> None:
    """Owners and tenants are compared with thresholds of their own."""
    await take(database, *(request(user=user) for user in ("ada", "ada", "bob")))
    await counted(database)
    most = Quota(2, 10, 10**9, 900.0)

    owners = await totals.too_much(database, most, Quota(100, 100, 10**9, 900.0))
    tenants = await totals.too_much(database, Quota(100, 100, 10**9, 900.0), Quota(3, 100, 10**9, 900.0))

    assert ["ada"] == [each.owner for each in owners]
    assert [None] == [each.owner for each in tenants]
