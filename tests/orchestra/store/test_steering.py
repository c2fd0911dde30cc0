"""Promises of orchestra/store/steering.py: which requests are selected, and what may still be changed."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import claims, steering
from orchestra.store.cancels import cancel, delete_conversations, mark_deleted
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database
from orchestra.store.intake import NewRequest
from orchestra.store.steering import Kind, Target
from orchestra.store.turns import ConversationRef
from schemas.api.requests import RequestFilter
from schemas.api.steering import ChangeRequest, SkipCode
from schemas.errors import ErrorCode
from schemas.requests import DEFAULT_PRIORITY
from schemas.status import Status
from tests.support.store import claim, claim_one, finish, new_worker, request, row, take
from tests.support.waiting import eventually

TENANT = "default"
HOUR = timedelta(hours=1)
ANY = RequestFilter(created_after=datetime(2000, 1, 1, tzinfo=UTC))
_UNANSWERED = {"requests_unanswered"}
_OPEN = {f"requests_{name}" for name in ("one_head", "waiting", "oldest", "runnable", "runnable_by_owner")}
_MOST = "right(user_name, 1) > '0'"
_START_MOST = f"UPDATE requests SET status = 'in_progress', worker_id = id WHERE {_MOST}"
_END_MOST = f"UPDATE requests SET status = 'completed', worker_id = NULL, finished_at = now() WHERE {_MOST}"
_WAITS = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


async def selected(database: Database, kind: Kind, filter: RequestFilter = ANY, limit: int = 100, **more: Any) -> Any:
    """The ids of all that is selected, over as many pages as it takes, and how many pages those were."""
    found, after, pages = [], None, 0
    while pages == 0 or after:
        page = await steering.select_matching(database, TENANT, more.get("only"), kind, filter, after, limit)
        assert len(page.targets) <= limit
        found += page.targets
        after, pages = (page.until, page.next) if page.next else None, pages + 1
    return [each.id for each in found], pages


async def targets(database: Database, *requests: NewRequest) -> list[Target]:
    """These requests as targets."""
    return await steering.select_named(database, TENANT, None, [each.id for each in requests])


async def changed(database: Database, *requests: NewRequest, **fields: Any) -> list[SkipCode | None]:
    """What became of a change, for each request."""
    outcomes = await steering.change(database, TENANT, await targets(database, *requests), ChangeRequest(**fields))
    return [outcomes[each.id] for each in requests]


async def failed(database: Database, *requests: NewRequest) -> None:
    """Take these in and let them fail, one after the other."""
    for each in requests:
        await take(database, each)
        await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "late"))


async def test_open_requests_are_selected_in_the_order_of_their_conversations(database: Database) -> None:
    """One that is being cancelled, one of a deleted conversation, one of another tenant and an ended one are not."""
    one, two = sorted((uuid4(), uuid4()))
    turns = [request(two), request(one), request(two), request(one)]
    asked, gone, answered = request(), request(), request()
    await take(database, *turns, asked, gone, answered, request(tenant="other"))
    await mark_deleted(database, ConversationRef(TENANT, gone.conversation_id))
    async with database.transaction() as tx:
        await tx.run("UPDATE requests SET cancel_requested_at = now() WHERE id = :id", id=asked.id)
    claimed = {turn.id: turn for turn in await claim(database, await new_worker(database))}
    await finish(database, claimed[answered.id])

    expected = [turns[1].id, turns[3].id, turns[0].id, turns[2].id]
    assert (expected, 1) == await selected(database, Kind.OPEN)
    assert (expected[1::2], 1) == await selected(database, Kind.NOT_STARTED)
    assert (expected[2:], 1) == await selected(database, Kind.OPEN, RequestFilter(conversation_id=two))


async def test_a_selection_is_continued_where_it_ended(database: Database) -> None:
    """Pages of a filter have every match once, and none of what came in after the first page."""
    given = [request(model="a" if number % 2 else "b", user="ada" if number % 3 else None) for number in range(30)]
    await take(database, *given)

    ids, pages = await selected(database, Kind.OPEN, RequestFilter(model="a"), limit=4)
    assert ({each.id for each in given if each.model == "a"}, 15, 4) == (set(ids), len(ids), pages)
    ids, _ = await selected(database, Kind.OPEN, only="ada")
    assert {each.id for each in given if each.user} == set(ids)

    first = await steering.select_matching(database, TENANT, None, Kind.OPEN, ANY, None, 29)
    await take(database, *(request() for _ in range(5)))
    assert first.next
    rest = await steering.select_matching(database, TENANT, None, Kind.OPEN, ANY, (first.until, first.next), 100)
    assert {each.id for each in given} == {each.id for each in (*first.targets, *rest.targets)}


async def test_every_condition_applies_to_every_state(database: Database) -> None:
    """A filter by state, also of turns behind others, selects only what matches all of it and is the caller's."""
    talk, other = uuid4(), uuid4()
    mine = [request(talk, model="a", user="ada") for _ in range(3)]
    theirs = [request(other, model="a", user="bob") for _ in range(3)]
    await take(
        database, *mine, *theirs, request(model="b", user="ada"), *(request(uuid4(), model="b") for _ in range(2))
    )

    pending = RequestFilter(status=Status.PENDING, model="a")
    ids, _ = await selected(database, Kind.NOT_STARTED, pending, only="ada")
    assert {each.id for each in mine} == set(ids)
    ids, _ = await selected(database, Kind.NOT_STARTED, pending)
    assert {each.id for each in (*mine, *theirs)} == set(ids)


async def test_a_filter_reads_a_bounded_number_of_rows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that looked at as many rows as it may is over, even with no match; all pages together have every match."""
    monkeypatch.setattr(steering, "WINDOW", 5)
    rare = [request(model="rare") for _ in range(2)]
    await failed(database, *(request() for _ in range(9)), rare[0], *(request() for _ in range(9)), rare[1])
    await take(database, *(request() for _ in range(7)), request(model="rare"))

    ids, pages = await selected(database, Kind.UNANSWERED, RequestFilter(model="rare"))
    assert ([each.id for each in rare], 5) == (ids, pages)
    ids, pages = await selected(database, Kind.OPEN, RequestFilter(model="rare"))
    assert (1, 2) == (len(ids), pages)


async def test_unanswered_requests_are_selected_oldest_first(database: Database) -> None:
    """Those of one conversation are in their order, though one batch took them in; answered ones are not selected."""
    talk = uuid4()
    turns = [request(talk) for _ in range(20)]
    await take(database, *turns)
    late = request()
    async with database.transaction() as tx:
        await cancel(tx, [each.ref for each in turns])
    await take(database, late, answered := request())
    for turn in await claim(database, await new_worker(database)):
        await finish(database, turn, **({} if turn.id == answered.id else {"status": Status.FAILED}))

    ids = [each.id for each in (*turns, late)]
    assert (ids, 1) == await selected(database, Kind.UNANSWERED)
    assert (ids, 3) == await selected(database, Kind.UNANSWERED, limit=7)
    assert (ids[-1:], 1) == await selected(database, Kind.UNANSWERED, RequestFilter(status=Status.FAILED))
    (cut,) = await targets(database, late)
    since = RequestFilter(created_after=cut.created_at)
    assert (ids[-1:], 1) == await selected(database, Kind.UNANSWERED, since)
    assert ([], 1) == await selected(database, Kind.UNANSWERED, RequestFilter(status=Status.COMPLETED))


async def test_plans_read_partial_indexes_and_rows_by_key(database: Database) -> None:
    """However many requests have ended, none of them is read for those that are open, and no index of all."""
    # Without the pages and index entries of earlier tests, which would count in the plans.
    await database.run("TRUNCATE requests, conversations CASCADE")
    await failed(database, *(request() for _ in range(3)))
    await take(database, *(request(user=f"user {number}") for number in range(300)))
    for statement in (_START_MOST, _END_MOST):
        await database.run(statement)
    await database.run("ANALYZE requests, conversations")
    sqls: list[tuple[str, dict[str, Any]]] = []

    class Seen(Database):
        async def run(self, sql: str, **parameters: Any) -> Any:
            sqls.append((sql, parameters))
            return await database.run(sql, **parameters)

    seen = Seen(database._engine)
    filters = (
        ANY,
        RequestFilter(model="m", task_type="t", status=Status.FAILED),
        RequestFilter(conversation_id=uuid4()),
    )
    for kind, filter in product(Kind, filters):
        await steering.select_matching(seen, TENANT, "ada", kind, filter, None, 100)
        sql, values = sqls.pop()
        plan = "\n".join(each[0] for each in await database.run(f"EXPLAIN {sql}", **values))

        used = set(re.findall(r"(?:using|Index Scan on) (requests\w+)", plan))
        assert "Seq Scan on requests" not in plan
        assert used - {"requests_pkey"} <= (_UNANSWERED if kind is Kind.UNANSWERED else _OPEN), plan


async def test_a_change_sets_what_it_names(database: Database) -> None:
    """Priority and times of a head and of a turn behind it; everything else stays."""
    talk = uuid4()
    head, behind = request(talk, priority=3), request(talk, priority=4)
    await take(database, head, behind)
    now = datetime.now(UTC)
    before = [await row(database, each.ref) for each in (head, behind)]

    assert [None, None] == await changed(database, head, behind, priority=8)
    assert [None, None] == await changed(database, head, behind, not_before=now + HOUR, deadline=now + 2 * HOUR)

    for each, old in zip((head, behind), before, strict=True):
        new = await row(database, each.ref)
        assert (8, now + HOUR, now + 2 * HOUR) == (new.priority, new.not_before, new.deadline_at)
        same = [name for name in dict(old) if name not in ("priority", "not_before", "deadline_at", "run_at")]
        assert [old[name] for name in same] == [new[name] for name in same]
    assert now + HOUR == (await row(database, head.ref)).run_at
    assert [] == await claim(database, await new_worker(database))


async def test_null_sets_what_a_new_request_has(database: Database) -> None:
    """The default priority, no time to wait for, and an hour from now; what could run before keeps its age."""
    parked = request(priority=9, not_before=datetime.now(UTC) + HOUR)
    runnable = request()
    await take(database, parked, runnable)
    age = (await row(database, runnable.ref)).run_at

    assert [None] == await changed(database, parked, priority=None, not_before=None, deadline=None)
    assert [SkipCode.UNCHANGED] == await changed(database, runnable, not_before=None)
    assert [None] == await changed(database, runnable, not_before=None, priority=6)

    found = await row(database, parked.ref)
    assert (DEFAULT_PRIORITY, None) == (found.priority, found.not_before)
    assert found.run_at <= datetime.now(UTC) < found.deadline_at <= datetime.now(UTC) + HOUR
    assert age == (await row(database, runnable.ref)).run_at
    assert {parked.id, runnable.id} == {turn.id for turn in await claim(database, await new_worker(database))}


async def test_a_delay_after_an_error_stays(database: Database) -> None:
    """A change of not_before does not shorten the wait for the next attempt, and can make it longer."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.PENDING, delay=600, error=(ErrorCode.TIMEOUT, "late"))
    backs_off = (await row(database, asked.ref)).run_at

    assert [None] == await changed(database, asked, not_before=datetime.now(UTC) + timedelta(seconds=5))
    assert backs_off == (await row(database, asked.ref)).run_at
    assert [None] == await changed(database, asked, not_before=None)
    assert backs_off == (await row(database, asked.ref)).run_at
    await changed(database, asked, deadline=datetime.now(UTC) + 3 * HOUR)
    assert [None] == await changed(database, asked, not_before=datetime.now(UTC) + 2 * HOUR)
    assert backs_off < (await row(database, asked.ref)).run_at


async def test_what_cannot_be_changed_says_why(database: Database) -> None:
    """An ended, a running and a cancelled request, one that would expire before it may start, and one that is gone."""
    ended, running, cancelling, late, gone = (request(priority=9 - number) for number in range(5))
    await take(database, ended)
    await finish(database, await claim_one(database))
    await take(database, running)
    await claim(database, await new_worker(database), 1)
    await take(database, cancelling, late, gone)
    await database.run("UPDATE requests SET cancel_requested_at = now() WHERE id = :id", id=cancelling.id)
    known = await targets(database, ended, running, cancelling, late, gone)
    async with database.transaction() as tx:
        await delete_conversations(tx, [gone.conversation])

    wanted = ChangeRequest(priority=1, not_before=datetime.now(UTC) + 2 * HOUR)
    outcomes = await steering.change(database, TENANT, known, wanted)

    expected = [
        SkipCode.ENDED, SkipCode.IN_PROGRESS, SkipCode.CANCELLING, SkipCode.NOT_BEFORE_DEADLINE, SkipCode.NOT_FOUND
    ]  # fmt: skip
    assert expected == [outcomes[each.id] for each in (ended, running, cancelling, late, gone)]
    assert 6 == (await row(database, late.ref)).priority


async def test_a_claim_that_comes_first_wins(database: Database) -> None:
    """A change that meets a claim waits for it, and then changes nothing of a turn that runs."""
    await take(database, asked := request())
    (target,) = await targets(database, asked)
    worker = await new_worker(database)
    async with database.transaction() as tx:
        assert await claims.claim_in(tx, ClaimOrder(worker, 1))
        changing = asyncio.create_task(steering.change(database, TENANT, [target], ChangeRequest(priority=9)))
        await eventually(lambda: database.run(_WAITS))
    assert {asked.id: SkipCode.IN_PROGRESS} == await changing
    assert 5 == (await row(database, asked.ref)).priority


async def test_changes_and_claims_at_the_same_time(database: Database) -> None:
    """Each request is changed before its claim or not at all: what a worker claims, it claims with the new values."""
    given = [request() for _ in range(60)]
    await take(database, *given)
    found = await targets(database, *given)
    worker = await new_worker(database)

    async def claiming() -> list[UUID]:
        taken: list[UUID] = []
        while len(taken) < len(given):  # What is being changed is passed over for the moment.
            taken += [turn.id for turn in await claim(database, worker, 7)]
        return taken

    halves: Sequence[Sequence[Target]] = (found[:30], found[30:])
    taken, *outcomes = await asyncio.gather(
        claiming(), *(steering.change(database, TENANT, half, ChangeRequest(priority=7)) for half in halves)
    )

    changes = {id: code for each in outcomes for id, code in each.items()}
    assert {each.id for each in given} == set(taken) == changes.keys()
    assert {None, SkipCode.IN_PROGRESS} >= set(changes.values())
    priorities = {each.id: (await row(database, each.ref)).priority for each in given}
    assert {id: 7 if code is None else 5 for id, code in changes.items()} == priorities


async def test_places_are_in_order(database: Database) -> None:
    """Named requests come in the order in which a selection has them."""
    talk = uuid4()
    given = [request(talk) for _ in range(3)]
    await take(database, *given, request())

    found = await targets(database, *reversed(given))

    assert [each.id for each in given] == [each.id for each in found]
    assert all(one.place < other.place for one, other in pairwise(found))
