"""Promises of orchestra/store/claims.py: which turns may run where, and what becomes of the turns of lost workers."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import claims, leases
from orchestra.store.claims import ClaimOrder, ModelLimit
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.leases import Beat
from schemas.status import Status
from tests.support.store import (
    claim,
    claim_one,
    finish,
    let_lease_run_out,
    new_worker,
    request,
    row,
    statuses,
    take,
)
from tests.support.waiting import eventually


async def test_the_urgent_come_first_then_the_oldest(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Priority decides, among equals the time since when a turn may run."""
    monkeypatch.setattr(claims.random, "random", lambda: 0.0)  # No claim of these goes by age alone.
    low, high, oldest, newest = (request(priority=priority) for priority in (1, 9, 5, 5))
    for each in (low, oldest, newest, high):
        await take(database, each)
    worker_id = await new_worker(database)

    order = [(await claim(database, worker_id, limit=1))[0].id for _ in range(4)]

    assert [high.id, oldest.id, newest.id, low.id] == order


async def test_one_claim_in_eight_goes_by_age_alone(database: Database) -> None:
    """However many urgent turns are runnable, the oldest of all is among every eight that are claimed."""
    low, lower = request(priority=1), request(priority=0)
    for each in (low, lower, *(request(priority=9) for _ in range(30))):
        await take(database, each)
    worker_id = await new_worker(database)

    first, second = [{turn.id for turn in await claim(database, worker_id, limit=8)} for _ in range(2)]

    assert (8, 8) == (len(first), len(second))
    assert (low.id in first, lower.id in first) == (True, False)
    assert lower.id in second


async def test_the_share_of_age_holds_where_there_is_room_for_one_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that a worker may open one call of is no place to starve: the eighth draw goes to the oldest."""
    draws = iter(number / 8 for number in range(8))
    monkeypatch.setattr(claims.random, "random", lambda: next(draws))
    low = request(priority=0)
    for each in (low, *(request(priority=9) for _ in range(10))):
        await take(database, each)
    worker_id = await new_worker(database)
    order = ClaimOrder(worker_id, 1)

    claimed = [(await claims.claim(database, order))[0].id for _ in range(8)]

    assert claimed.index(low.id) == 7


async def test_a_claim_reads_what_it_takes_and_not_the_queue(database: Database) -> None:
    """However long the queue, the planner goes by indexes: one pass over the table would be paid at every claim."""
    await database.run("INSERT INTO conversations (id) SELECT gen_random_uuid() FROM generate_series(1, 20000)")
    await database.run(
        "INSERT INTO requests (id, conversation_id, seq, status, priority, model, body, body_hash, deadline_at,"
        " src_topic, src_partition, src_offset, src_timestamp) SELECT gen_random_uuid(), id, 1, 'pending',"
        " floor(random() * 10), 'm', '{}', 'h', now() + interval '1 hour', 't', 0, row_number() OVER (), 0"
        " FROM conversations"
    )
    await database.run("ANALYZE requests")
    worker_id = await new_worker(database)

    for limit in (1, 8):
        async with database.transaction() as tx:
            # Includes what earlier transactions of this session have not yet reported.
            seen = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'requests'"
            before = await tx.run(seen)
            assert limit == len(await claims.claim_in(tx, ClaimOrder(worker_id, limit)))
            assert await tx.run(seen) == before


async def test_a_delayed_turn_is_not_claimed_before_its_time(database: Database) -> None:
    """A delayed turn stays until its time has come, and those behind it in its conversation with it."""
    conversation, soon = uuid4(), datetime.now(UTC) + timedelta(seconds=3)
    delayed, behind = request(conversation, not_before=soon), request(conversation)
    await take(database, delayed, behind)
    worker_id = await new_worker(database)
    assert await claim(database, worker_id) == []

    claimed = await eventually(lambda: claim(database, worker_id))

    assert datetime.now(UTC) >= soon
    assert [delayed.id] == [turn.id for turn in claimed]


async def test_a_delayed_turn_behind_another_keeps_its_time(database: Database) -> None:
    """Promotion does not bring it forward."""
    conversation, later = uuid4(), datetime.now(UTC) + timedelta(hours=1)
    first, delayed = request(conversation), request(conversation, not_before=later)
    await take(database, first, delayed)
    await finish(database, await claim_one(database))

    assert (await row(database, delayed.ref)).status == "pending"
    assert (await row(database, delayed.ref)).run_at == later
    assert await claim(database, await new_worker(database)) == []


async def test_a_lost_worker_is_kept_as_the_error_of_its_attempt(database: Database) -> None:
    """The errors of a request show that it took long because a worker was lost."""
    await take(database, asked := request())
    worker_id = await new_worker(database)
    await claim(database, worker_id)
    await let_lease_run_out(database, worker_id)

    await leases.give_back_lost(database)

    (error,) = await database.run("SELECT attempt, code FROM attempt_errors WHERE request_id = :id", id=asked.id)
    assert (1, "worker_lost") == tuple(error)


async def test_a_claim_takes_no_more_than_its_limit(database: Database) -> None:
    """The rest stays for others."""
    await take(database, *(request() for _ in range(5)))
    worker_id = await new_worker(database)

    assert [3, 2, 0] == [len(await claim(database, worker_id, limit=3)) for _ in range(3)]


async def test_a_claim_tells_what_is_to_be_run(database: Database) -> None:
    """Body, attempt, tries and the time that is left come with the claim; both counters have grown."""
    deadline = datetime.now(UTC) + timedelta(seconds=100)
    await take(database, asked := request(deadline=deadline, user="someone", traceparent="trace", caller_waits=True))

    turn = await claim_one(database)

    assert (asked.ref, asked.conversation_id, 1) == (turn.ref, turn.conversation_id, turn.seq)
    assert (asked.body, asked.body_hash, asked.model) == (turn.body, turn.body_hash, turn.model)
    assert ("someone", "trace", True, False) == (turn.user, turn.traceparent, turn.caller_waits, turn.cancelled)
    assert (1, 1, 5) == (turn.fence, turn.tries, turn.max_tries)
    assert 0 < turn.seconds_left <= 100
    assert turn.seconds_queued >= 0


async def test_waiting_turns_are_not_claimed(database: Database) -> None:
    """Only heads run."""
    conversation = uuid4()
    await take(database, request(conversation), request(conversation))

    assert 1 == len(await claim(database, await new_worker(database)))


async def test_nothing_is_claimed_before_its_time(database: Database) -> None:
    """A turn that was put back with a delay rests until then."""
    await take(database, request())
    worker_id = await new_worker(database)
    await finish(database, await claim_one(database, worker_id), Status.PENDING, delay=60.0)

    assert await claim(database, worker_id) == []


async def test_nothing_is_claimed_after_its_deadline(database: Database) -> None:
    """What is too late is left to the sweeper."""
    await take(database, request())
    await database.run("UPDATE requests SET deadline_at = now() - interval '1 second'")

    assert await claim(database, await new_worker(database)) == []


async def test_a_worker_without_a_lease_claims_nothing(database: Database) -> None:
    """Neither one that never registered nor one whose lease was taken away."""
    await take(database, asked := request())
    lost = await new_worker(database)
    await let_lease_run_out(database, lost)
    await leases.give_back_lost(database)

    assert [[], []] == [await claim(database, uuid4()), await claim(database, lost)]
    assert ["pending"] == await statuses(database, [asked])


async def test_no_two_workers_claim_the_same_turn(database: Database) -> None:
    """Many claims at once share the turns between them."""
    await take(database, *(request() for _ in range(100)))
    workers = [await new_worker(database) for _ in range(8)]

    taken = await asyncio.gather(*(claim(database, worker, limit=20) for worker in workers))

    ids = [turn.id for turns in taken for turn in turns]
    assert 100 == len(ids) == len(set(ids))


async def test_a_claim_that_races_with_the_loss_of_its_lease_leaves_nothing_stuck(database: Database) -> None:
    """Turns claimed while the lease is taken away go back; a worker that is gone holds nothing."""
    for _ in range(30):
        await take(database, *(request() for _ in range(5)))
        worker_id = await new_worker(database)
        await let_lease_run_out(database, worker_id)
        raced = await asyncio.gather(
            claim(database, worker_id, limit=3),
            leases.give_back_lost(database),
            claim(database, worker_id, limit=3),
            return_exceptions=True,
        )
        # Postgres may end one of them as a deadlock. A worker then repeats it, as after any outage.
        assert {type(each) for each in raced if isinstance(each, BaseException)} <= {DatabaseUnavailableError}
        await leases.give_back_lost(database)
        held_by_nobody = await database.run(
            "SELECT 1 FROM requests WHERE status = 'in_progress' AND worker_id NOT IN (SELECT id FROM workers)"
        )
        assert held_by_nobody == []


async def test_intake_that_claims_races_with_the_loss_of_its_lease(database: Database) -> None:
    """The claim inside an intake transaction leaves nothing stuck either."""
    for _ in range(30):
        worker_id = await new_worker(database)
        await let_lease_run_out(database, worker_id)
        done, _ = await asyncio.gather(
            take(database, asked := request(), order=ClaimOrder(worker_id, 5)), leases.give_back_lost(database)
        )
        await leases.give_back_lost(database)
        assert done.inserted == 1
        assert ["pending"] == await statuses(database, [asked])


async def test_a_lease_is_renewed_until_it_is_taken_away(database: Database) -> None:
    """Renewing tells of cancels; of a lost lease it says None; a late renewal does not bring it back."""
    worker_id = await new_worker(database)
    await let_lease_run_out(database, worker_id)
    assert await leases.renew(database, worker_id) == Beat([], drains=False)
    assert (await leases.give_back_lost(database)).workers == 0

    await let_lease_run_out(database, worker_id)
    await leases.give_back_lost(database)

    assert await leases.renew(database, worker_id) is None


async def test_a_lost_workers_turns_go_back_at_once_the_first_time(database: Database) -> None:
    """The first loss costs no wait; the second puts the turn off by a second or more, half a minute at most."""
    await take(database, asked := request())
    waits = []
    for _ in range(3):
        await database.run("UPDATE requests SET run_at = now()")
        worker_id = await new_worker(database)
        assert await claim_one(database, worker_id)
        await let_lease_run_out(database, worker_id)
        lost = await leases.give_back_lost(database)
        assert (1, 1, []) == (lost.workers, lost.returned, lost.announcements)
        (found,) = await database.run("SELECT extract(epoch FROM run_at - now()) AS wait FROM requests")
        waits.append(float(found.wait))

    assert waits[0] <= 0
    assert 0 < waits[1] <= 2
    assert 1 < waits[2] <= 4
    assert (3, 3) == ((kept := await row(database, asked.ref)).losses, kept.tries)


async def test_the_wait_after_many_losses_is_capped(database: Database) -> None:
    """However many workers were lost, half a minute is the longest wait."""
    await take(database, request(max_tries=100))
    await database.run("UPDATE requests SET losses = 90")
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await let_lease_run_out(database, worker_id)

    await leases.give_back_lost(database)

    (found,) = await database.run("SELECT extract(epoch FROM run_at - now()) AS wait FROM requests")
    assert 14 <= float(found.wait) <= 30


async def test_a_turn_that_loses_every_worker_fails(database: Database) -> None:
    """When the tries are used up it ends as worker_lost, is announced, and the next turn runs."""
    conversation = uuid4()
    killer, second = request(conversation, max_tries=1), request(conversation)
    await take(database, killer, second)
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await let_lease_run_out(database, worker_id)

    lost = await leases.give_back_lost(database)

    assert ["failed", "pending"] == await statuses(database, [killer, second])
    assert "worker_lost" == (await row(database, killer.ref)).error_code
    assert [killer.id] == [each.request_id for each in lost.announcements]


async def test_a_lost_worker_is_the_last_error_of_its_turns(database: Database) -> None:
    """The last error says why there is no answer yet, until there is one."""
    await take(database, asked := request())
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await let_lease_run_out(database, worker_id)

    await leases.give_back_lost(database)

    kept = await row(database, asked.ref)
    assert ("pending", "worker_lost", "the worker that ran it was lost") == (
        kept.status,
        kept.error_code,
        kept.error_detail,
    )
    assert "worker_lost" == (await claim_one(database)).last_error


@pytest.mark.parametrize(("waited", "seconds"), [(0, 60), (50, 10), (61, 0), (3600, 0)])
async def test_a_caller_waits_for_a_minute(database: Database, waited: int, seconds: int) -> None:
    """From when the request was taken in; after that it is a request like all others."""
    await take(database, request(caller_waits=True), request())
    await database.run("UPDATE requests SET created_at = created_at - make_interval(secs => :waited)", waited=waited)

    turns = await claim(database, await new_worker(database))

    found = sorted(turn.caller_seconds for turn in turns)
    assert (0, seconds > 0) == (found[0], any(turn.caller_waits for turn in turns))
    assert seconds - 5 <= found[1] <= seconds


async def test_a_cancelled_turn_of_a_lost_worker_ends(database: Database) -> None:
    """No worker runs it again; a cancel wins over exhausted tries."""
    await take(database, asked := request(max_tries=1))
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await take(database, cancels=[asked.ref])
    await let_lease_run_out(database, worker_id)

    lost = await leases.give_back_lost(database)

    kept = await row(database, asked.ref)
    assert ("cancelled", None) == (kept.status, kept.error_code)
    assert [asked.id] == [each.request_id for each in lost.announcements]


async def test_only_lost_workers_lose_their_turns(database: Database) -> None:
    """A worker that renews its lease keeps its turns."""
    await take(database, request(), request())
    alive, dead = await new_worker(database), await new_worker(database)
    (kept,) = await claim(database, alive, limit=1)
    (given_back,) = await claim(database, dead, limit=1)
    await let_lease_run_out(database, dead)

    await leases.give_back_lost(database)

    assert ("in_progress", alive) == ((found := await row(database, kept.ref)).status, found.worker_id)
    assert ("pending", None) == ((found := await row(database, given_back.ref)).status, found.worker_id)


async def test_two_sweepers_at_once_take_a_worker_away_once(database: Database) -> None:
    """One of them counts the loss."""
    await take(database, asked := request())
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await let_lease_run_out(database, worker_id)

    lost = await asyncio.gather(*(leases.give_back_lost(database) for _ in range(4)))

    assert 1 == sum(each.workers for each in lost) == sum(each.returned for each in lost)
    assert 1 == (await row(database, asked.ref)).losses


async def test_a_worker_that_leaves_gives_back_what_it_holds(database: Database) -> None:
    """Nothing waits for a lease to run out."""
    await take(database, asked := request())
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)

    left = await leases.leave(database, worker_id)

    assert 1 == left.returned
    assert ["pending"] == await statuses(database, [asked])
    assert await leases.renew(database, worker_id) is None


async def test_held_turns_can_be_asked_for(database: Database) -> None:
    """A worker that does not know whether its claim was committed finds what it holds, as it was claimed."""
    await take(database, request(), request())
    worker_id = await new_worker(database)
    (turn,) = await claim(database, worker_id, limit=1)

    (held,) = await claims.held(database, worker_id)

    assert (turn.ref, turn.fence, turn.tries, turn.body) == (held.ref, held.fence, held.tries, held.body)
    assert await claims.held(database, uuid4()) == []


async def test_a_model_with_little_room_gets_few(database: Database) -> None:
    """Of a model with a limit no more than its room is claimed, of others as many as there are slots."""
    await take(database, *(request(model="busy") for _ in range(4)), *(request(model="free") for _ in range(4)))
    worker_id = await new_worker(database)

    order = ClaimOrder(worker_id, 100, (ModelLimit("busy", 1), ModelLimit("other", 5)))
    first = await claims.claim(database, order)
    none = await claims.claim(database, ClaimOrder(worker_id, 100, (ModelLimit("busy", 0),)))
    rest = await claims.claim(database, ClaimOrder(worker_id, 2, (ModelLimit("busy", 9),)))

    assert {"busy": 1, "free": 4} == Counter(turn.model for turn in first)
    assert ([], 2) == (none, len(rest))


async def test_the_next_attempt_of_a_turn_that_runs(database: Database) -> None:
    """It has the next number and costs no try; done twice it is done once, and the old number ends nothing more."""
    asked = request()
    await take(database, asked)
    first = await claim_one(database)

    second = await claims.next_attempt(database, first)
    again = await claims.next_attempt(database, first)

    assert second is not None
    assert (2, second) == (second.fence, again)
    kept = await row(database, asked.ref)
    assert (2, 1, "in_progress") == (kept.fence, kept.tries, kept.status)
    assert [asked.ref] == (await finish(database, first)).fenced
    assert [] == (await finish(database, second)).fenced


async def test_a_lost_turn_has_no_next_attempt(database: Database) -> None:
    """Neither ended, nor given back, nor when another worker has it, whatever its number by then."""
    asked = request()
    await take(database, asked)
    worker_id = await new_worker(database)
    lost = await claim_one(database, worker_id)
    await let_lease_run_out(database, worker_id)
    await leases.give_back_lost(database)
    assert await claims.next_attempt(database, lost) is None
    theirs = await claim_one(database)
    assert lost.fence + 1 == theirs.fence
    assert await claims.next_attempt(database, lost) is None
    await finish(database, theirs)

    assert await claims.next_attempt(database, theirs) is None
    assert 2 == (await row(database, asked.ref)).fence


async def test_a_claim_waits_for_no_lock(database: Database) -> None:
    """A claim finds nothing while another worker ends the lease: it may hold what that worker waits for."""
    worker_id = await new_worker(database)
    await take(database, request())
    async with database.transaction() as tx:
        await tx.run("DELETE FROM workers WHERE id = :id", id=worker_id)
        assert [] == await asyncio.wait_for(claim(database, worker_id), 10)
        done = await asyncio.wait_for(take(database, new := request(), order=ClaimOrder(worker_id, 1)), 10)

    assert ([], ["pending"]) == (done.claimed, await statuses(database, [new]))
