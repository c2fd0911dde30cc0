"""Promises of orchestra/store/queue.py: what waits is counted from the indexes of open requests, within limits."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import queue
from orchestra.store.database import Database
from orchestra.store.queue import Counted
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.plans import plan_of
from tests.support.store import claim, claim_one, finish, letter, new_worker, request, take

_REPLAY_THE_OLDEST = """
UPDATE dead_letters SET replayed_at = now(), replayed_as = request_id WHERE id = (SELECT min(id) FROM dead_letters)
"""
LATER = datetime.now(UTC) + timedelta(hours=1)


async def test_depth_is_by_priority_and_model(database: Database) -> None:
    """Runnable, delayed and held-back turns are apart; a turn behind another one is in none of them."""
    talk = uuid4()
    await take(database, request(priority=9, model="a"))
    await finish(
        database, await claim_one(database), Status.PENDING, error=(ErrorCode.UNAVAILABLE, "away"), give_try_back=True
    )
    await take(database, request(talk, model="b"), request(talk, model="b"), request(not_before=LATER, model="b"))
    await take(database, request(tenant="other", model="b"))

    found = await queue.depth(database)
    mine = {
        (group.priority, group.model): (group.runnable, group.held, group.delayed)
        for group in found.groups
        if group.tenant == "default"
    }

    assert {(9, "a"): (1, 1, 0), (5, "b"): (1, 0, 1)} == mine
    assert frozenset() == found.cut
    assert Counted(1, more=False) == await queue.waiting(database, "default")
    assert Counted(0, more=False) == await queue.waiting(database, "other")


async def test_a_count_that_was_cut_says_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A priority of which more turns wait than are read is named, and the others are complete."""
    monkeypatch.setattr(queue, "MAX_OF_PRIORITY", 3)
    monkeypatch.setattr(queue, "MAX_WAITING", 2)
    talk = uuid4()
    await take(database, *(request(priority=7) for _ in range(5)), request(talk), request(talk), request(talk))

    found = await queue.depth(database)

    assert {7: 3, 5: 1} == {group.priority: group.runnable for group in found.groups}
    assert {7} == found.cut
    assert Counted(2, more=True) == await queue.waiting(database, "default")


async def test_the_head_is_in_the_order_of_claims(database: Database) -> None:
    """The most urgent comes first, then the one that has waited longest; another tenant's is not shown."""
    first, second, urgent = request(user="ada"), request(), request(priority=8)
    for each in (first, second, urgent, request(tenant="other", priority=9), request(not_before=LATER)):
        await take(database, each)

    found = await queue.head(database, "default")

    assert [urgent.id, first.id, second.id] == [each.id for each in found]
    assert ["ada", "llama3", 5] == [found[1].owner, found[1].model, found[1].priority]
    assert all(each.waited_seconds >= 0 for each in found)


async def test_running_turns_are_counted_by_tenant(database: Database) -> None:
    """Each tenant that has turns in flight."""
    await take(database, request(), request(tenant="other"))
    assert 2 == len(await claim(database, await new_worker(database)))

    assert dict.fromkeys(("default", "other"), Counted(1, more=False)) == await queue.running(database)


async def test_open_dead_letters_are_those_not_replayed(database: Database) -> None:
    """A letter that was replayed is not counted."""
    await take(database, dead_letters=[letter().because(ErrorCode.NOT_JSON, "why") for _ in range(2)])
    await database.run(_REPLAY_THE_OLDEST)

    assert Counted(1, more=False) == await queue.open_letters(database, "default")
    assert Counted(0, more=False) == await queue.open_letters(database, "other")


@pytest.mark.parametrize("statement", ["_DEPTH", "_NEXT", "_RUNNING", "_WAITING"])
async def test_only_the_indexes_of_open_requests_are_read(database: Database, statement: str) -> None:
    """However many requests have ended, no plan reads the table from end to end."""
    values = {"limit": 10, "tenant": "default", "head": 10}
    sql = getattr(queue, statement)
    text = await plan_of(database, sql, **values)

    assert "Seq Scan on requests" not in text
    assert {"_RUNNING": "requests_running", "_WAITING": "requests_waiting"}.get(statement, "requests_runnable") in text


@pytest.mark.parametrize("statement", ["_OF_TENANT", "_OF_ALL"])
async def test_only_open_dead_letters_are_read(database: Database, statement: str) -> None:
    """However many dead letters were replayed, a count goes through the index of the others, and stops at its limit."""
    text = await plan_of(
        database, getattr(queue, statement), limit=10, **{"tenant": "default"} if "TENANT" in statement else {}
    )

    assert "Seq Scan" not in text
    assert "Index Only Scan using dead_letters_open" in text, text
    assert "->  Sort" not in text
