"""Promises of orchestra/store/intake.py: records become rows, once."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import conversations
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database, DataRefusedError
from orchestra.store.intake import Intaken, Unsigned
from orchestra.store.request_lists import Asked, page
from orchestra.store.turns import ConversationRef
from schemas.api.requests import RequestFilter
from schemas.errors import ErrorCode
from schemas.ids import conversation_id_beside, conversation_id_for_key, conversation_id_for_request
from schemas.status import Status
from tests.support.store import (
    claim,
    claim_one,
    count,
    finish,
    letter,
    messages,
    new_worker,
    request,
    row,
    statuses,
    take,
)


async def test_a_batch_that_comes_again_changes_nothing(database: Database) -> None:
    """A redelivered batch inserts nothing and is counted as duplicates."""
    conversation = uuid4()
    batch = [request(conversation), request(conversation), request()]
    first = await take(database, *batch, dead_letters=[bad := letter()])
    before = await database.run("SELECT * FROM requests ORDER BY id")

    again = await take(database, *batch, dead_letters=[bad])

    assert (3, 0) == (first.inserted, first.duplicates)
    assert (0, 3) == (again.inserted, again.duplicates)
    assert before == await database.run("SELECT * FROM requests ORDER BY id")
    assert await count(database, "dead_letters") == 1


async def test_a_batch_that_comes_again_after_the_answer_changes_nothing(database: Database) -> None:
    """A duplicate of an answered request is dropped, not answered again."""
    asked = request()
    await take(database, asked)
    await finish(database, await claim_one(database))

    again = await take(database, asked)

    assert (0, 1) == (again.inserted, again.duplicates)
    assert await claim(database, await new_worker(database)) == []


async def test_an_empty_batch_is_harmless(database: Database) -> None:
    """An empty batch does nothing."""
    assert await take(database) == Intaken()


async def test_another_body_under_a_known_id_is_a_dead_letter(database: Database) -> None:
    """The first body stays; the later one is kept with its reason and never runs."""
    asked = request(text="first")
    await take(database, asked)
    other = request(asked.conversation_id, id=asked.id, text="second")

    done = await take(database, other)

    assert [ErrorCode.IDEMPOTENCY_KEY_REUSED] == [each.reason for each in done.dead_letters]
    assert [] == done.refused
    (kept,) = await database.run("SELECT * FROM dead_letters")
    assert (asked.id, "idempotency_key_reused") == (kept.request_id, kept.reason)
    assert asked.body_hash == (await row(database, asked.ref)).body_hash


async def test_another_body_in_the_same_batch_is_a_dead_letter(database: Database) -> None:
    """Of two bodies under one id in one batch, the first becomes a request and the second a dead letter."""
    asked = request(text="first")
    same = request(asked.conversation_id, id=asked.id, text="first")
    other = request(asked.conversation_id, id=asked.id, text="second")

    done = await take(database, asked, same, other)

    assert (1, 1, 1) == (done.inserted, done.duplicates, len(done.dead_letters))


async def test_only_what_has_no_request_is_refused(database: Database) -> None:
    """An id has one ending: a letter under the id of a request, from this or an earlier batch, does not change it."""
    before, now = request(), request()
    await take(database, before)
    letters = [
        letter(request_id=id, tenant=tenant).because(ErrorCode.NOT_JSON, "why")
        for id, tenant in ((before.id, "default"), (now.id, "default"), (now.id, "them"), (uuid4(), "default"))
    ]

    done = await take(database, now, dead_letters=letters)
    again = await take(database, now, dead_letters=letters)

    assert (letters, letters[2:]) == (done.dead_letters, done.refused)
    assert letters[2:] == again.refused


async def test_another_body_that_comes_at_the_same_moment_is_a_dead_letter(database: Database) -> None:
    """When two workers take in two bodies of one id at once, one becomes a request and the other a dead letter."""
    for _ in range(20):
        id = uuid4()
        done = await asyncio.gather(
            take(database, request(id=id, text="one")), take(database, request(id=id, text="two"))
        )
        assert (1, 0) == (sum(each.inserted for each in done), sum(each.duplicates for each in done))
        assert [ErrorCode.IDEMPOTENCY_KEY_REUSED] == [dead.reason for each in done for dead in each.dead_letters]


async def test_the_same_id_of_two_tenants_is_two_requests(database: Database) -> None:
    """A tenant's id says nothing about another tenant's."""
    id = uuid4()

    done = await take(database, request(id=id, tenant="a"), request(id=id, tenant="b", text="other"))

    assert (2, []) == (done.inserted, done.dead_letters)


async def test_only_the_first_turn_of_a_conversation_may_run(database: Database) -> None:
    """Turns of a batch are numbered in its order; the first is pending, those behind it wait."""
    conversation = uuid4()
    turns = [request(conversation) for _ in range(3)]

    await take(database, *turns)

    assert ["pending", "waiting", "waiting"] == await statuses(database, turns)
    assert [1, 2, 3] == [(await row(database, turn.ref)).seq for turn in turns]


async def test_a_later_batch_goes_behind_the_open_turns(database: Database) -> None:
    """A turn that comes while another runs waits for it."""
    conversation = uuid4()
    await take(database, first := request(conversation))
    await claim_one(database)

    await take(database, second := request(conversation))

    assert ["in_progress", "waiting"] == await statuses(database, [first, second])


async def test_a_turn_behind_ended_ones_may_run(database: Database) -> None:
    """A conversation whose turns have all ended has room for a head."""
    conversation = uuid4()
    await take(database, request(conversation))
    await finish(database, await claim_one(database))

    await take(database, second := request(conversation))

    assert ["pending"] == await statuses(database, [second])


async def test_duplicates_between_new_turns_leave_the_order(database: Database) -> None:
    """Known records in a batch do not change the order, and the new turns behind them have a head."""
    conversation = uuid4()
    await take(database, known := request(conversation))
    await finish(database, await claim_one(database))
    new = [request(conversation), request(conversation)]

    await take(database, new[0], known, new[1])

    assert ["pending", "waiting"] == await statuses(database, new)
    seqs = [(await row(database, each.ref)).seq for each in (known, *new)]
    assert sorted(seqs) == seqs


async def test_a_deadline_in_the_past_is_an_expired_request(database: Database) -> None:
    """A request that comes too late ends at once, is announced, and delays no turn behind it."""
    conversation = uuid4()
    late = request(conversation, deadline=datetime.now(UTC) - timedelta(seconds=1))

    done = await take(database, late, second := request(conversation))

    assert ["expired", "pending"] == await statuses(database, [late, second])
    assert [late.id] == [each.request_id for each in done.announcements]


@pytest.mark.parametrize("deadline", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
async def test_any_deadline_can_be_kept(database: Database, deadline: datetime) -> None:
    """The earliest and the latest possible moments are valid deadlines."""
    done = await take(database, request(deadline=deadline))

    assert done.inserted == 1


async def test_a_deadline_is_an_hour_by_default_and_seven_days_at_most(database: Database) -> None:
    """Without a deadline it is one hour; one beyond seven days becomes seven days."""
    await take(database, request(), request(deadline=datetime.now(UTC) + timedelta(days=100)))

    found = await database.run("SELECT deadline_at - created_at AS time FROM requests ORDER BY 1")

    assert [timedelta(hours=1), timedelta(days=7)] == [each.time for each in found]


async def test_a_turn_of_a_deleted_conversation_fails(database: Database) -> None:
    """A request after the deletion fails with its reason, is announced, and keeps no text."""
    conversation = uuid4()
    await take(database, deletes=[ConversationRef("default", conversation)])

    done = await take(database, late := request(conversation))

    kept = await row(database, late.ref)
    assert ("failed", "conversation_deleted", None) == (kept.status, kept.error_code, kept.body)
    assert [late.id] == [each.request_id for each in done.announcements]


async def test_a_request_whose_cancel_came_first_is_born_cancelled(database: Database) -> None:
    """It never runs, its ending is announced, and the turn behind it may run."""
    conversation = uuid4()
    early, second = request(conversation), request(conversation)
    await take(database, cancels=[early.ref])

    done = await take(database, early, second)

    assert ["cancelled", "pending"] == await statuses(database, [early, second])
    assert [early.id] == [each.request_id for each in done.announcements]
    assert (await row(database, early.ref)).cancel_requested_at is not None


async def test_intake_claims_when_it_is_told_to(database: Database) -> None:
    """With an order the new heads are claimed in the same transaction, up to the limit."""
    worker_id = await new_worker(database)
    conversation = uuid4()
    batch = [request(conversation), request(conversation), request(), request()]

    done = await take(database, *batch, order=ClaimOrder(worker_id, 2))

    assert 2 == len(done.claimed)
    assert sorted(["in_progress", "in_progress", "pending", "waiting"]) == sorted(await statuses(database, batch))


async def test_a_worker_with_room_for_some_gets_the_most_urgent(database: Database) -> None:
    """Of a batch's turns that may run now, the most urgent are the worker's at once, with fence and try counted."""
    worker_id, later = await new_worker(database), datetime.now(UTC) + timedelta(hours=1)
    batch = [request(priority=priority) for priority in (2, 9, 5, 7)]
    delayed = request(priority=9, not_before=later)

    done = await take(database, *batch, delayed, order=ClaimOrder(worker_id, 2))

    assert {batch[1].id, batch[3].id} == {turn.id for turn in done.claimed}
    assert {(worker_id, 1, 1)} == {(turn.worker_id, turn.fence, turn.tries) for turn in done.claimed}
    assert ["pending", "in_progress", "pending", "in_progress"] == await statuses(database, batch)
    assert ["pending"] == await statuses(database, [delayed])


async def test_data_that_postgres_refuses_changes_nothing(database: Database) -> None:
    """A batch with a NUL in it is refused as a whole, and nothing of it is written."""
    bad = request()
    bad.body["messages"][0]["content"] = "a\0b"

    with pytest.raises(DataRefusedError):
        await take(database, request(), bad)

    assert await count(database, "requests") == 0


async def test_requests_and_their_deletion_in_one_batch(database: Database) -> None:
    """A conversation deleted in the batch of its own requests ends them and keeps none of their texts."""
    asked = request()

    done = await take(database, asked, deletes=[ConversationRef("default", asked.conversation_id)])

    assert ["cancelled"] == await statuses(database, [asked])
    assert [asked.id] == [each.request_id for each in done.announcements]
    assert (await row(database, asked.ref)).body is None


async def test_batches_of_the_same_conversations_never_wait_for_each_other_for_ever(database: Database) -> None:
    """Many batches with the same conversations in different orders are all taken in, with one head each."""
    conversations = [uuid4() for _ in range(5)]
    orders = [conversations, conversations[::-1], conversations[2:] + conversations[:2], conversations[3:]]

    await asyncio.gather(*(take(database, *(request(each) for each in order)) for order in orders for _ in range(5)))

    heads = await database.run("SELECT count(*) AS n FROM requests WHERE status = 'pending' GROUP BY conversation_id")
    assert [1] * 5 == [each.n for each in heads]
    assert await count(database, "requests") == 5 * (5 + 5 + 5 + 2)


async def test_taking_in_writes_no_messages(database: Database) -> None:
    """Only completed requests add to the history."""
    asked = request()

    await take(database, asked)

    assert await messages(database, asked.conversation_id) == []


async def test_a_new_conversation_is_the_users_who_began_it(database: Database) -> None:
    """A user's first turn makes the conversation theirs, and their further turns join it."""
    conversation = uuid4()
    await take(database, first := request(conversation, user="ann"))
    await take(database, second := request(conversation, user="ann"))

    (found,) = await database.run("SELECT owner FROM conversations WHERE id = :id", id=conversation)
    assert found.owner == "ann"
    assert ["pending", "waiting"] == await statuses(database, [first, second])


@pytest.mark.parametrize("owner", ["ann", None])
async def test_nobody_speaks_in_anothers_conversation(database: Database, owner: str | None) -> None:
    """The turn fails at once, as if there were no such conversation; nothing of its owner's is changed."""
    conversation = uuid4()
    await take(database, first := request(conversation, user=owner), foreign := request(conversation, user="bob"))
    await take(database, again := request(conversation, user="bob", on_busy="interrupt"))

    assert ["pending", "failed", "failed"] == await statuses(database, [first, foreign, again])
    refused = await row(database, foreign.ref)
    assert ("not_found", "there is no such conversation") == (refused.error_code, refused.error_detail)
    await finish(database, await claim_one(database))
    assert await messages(database, conversation) == [("user", "hello"), ("assistant", "answer")]


async def test_a_deleted_conversation_of_another_looks_like_any_of_anothers(database: Database) -> None:
    """Whether another owner's conversation is deleted is not revealed."""
    conversation = uuid4()
    await take(database, request(conversation, user="ann"))
    await take(database, deletes=[ConversationRef("default", conversation)])

    await take(database, foreign := request(conversation, user="bob"), own := request(conversation, user="ann"))

    assert (await row(database, foreign.ref)).error_code == "not_found"
    assert (await row(database, own.ref)).error_code == "conversation_deleted"


async def test_the_tenant_itself_speaks_in_any_conversation(database: Database) -> None:
    """A caller of an open gateway without a name may do everything, because the gateway signs for them."""
    conversation = uuid4()
    await take(database, request(conversation, user="ann"))

    await take(database, asked := request(conversation))

    assert (await row(database, asked.ref)).status == "waiting"


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("together", [True, False])
async def test_what_nobody_signed_never_joins_a_users_conversation(
    database: Database, *, keyed: bool, together: bool
) -> None:
    """It fails at once with a reply; nothing of the user's is changed, and they do not see it."""
    conversation = uuid4()
    hers = request(conversation, user="ann")
    strange = request(conversation, signed=False, keyed=keyed, on_busy="interrupt")
    if not together:
        await take(database, hers)

    done = await take(database, *([hers] if together else []), strange)

    assert ["pending", "failed"] == await statuses(database, [hers, strange])
    assert (await row(database, strange.ref)).error_code == ErrorCode.NOT_FOUND
    assert [strange.id] == [each.request_id for each in done.announcements]
    await finish(database, await claim_one(database))
    assert await messages(database, conversation) == [("user", "hello"), ("assistant", "answer")]
    shown = await page(database, Asked("default", "ann", RequestFilter()), 9)
    assert [hers.id] == [each.id for each in shown.data]


async def test_nobody_makes_a_conversation_that_others_can_compute(database: Database) -> None:
    """A user's turn under the id of a producer's key fails at once; the producer's own runs, unread by the user."""
    conversation = conversation_id_for_key("default", b"customer-42")
    squatter = request(conversation, user="bob")
    await take(database, squatter, first := request(conversation, signed=False, keyed=True))
    await take(database, again := request(conversation, user="bob"))

    assert ["failed", "pending", "failed"] == await statuses(database, [squatter, first, again])
    assert {"not_found"} == {(await row(database, each.ref)).error_code for each in (squatter, again)}
    assert await conversations.get(database, ("default", conversation), "bob") is None
    await finish(database, await claim_one(database))
    assert await messages(database, conversation) == [("user", "hello"), ("assistant", "answer")]


async def test_a_user_who_comes_first_leaves_it_nobodys(database: Database) -> None:
    """Even alone in its batch: the key's conversation is the tenant's own when the producer's record comes."""
    conversation = conversation_id_for_key("default", b"customer-42")
    await take(database, request(conversation, user="bob"))

    await take(database, first := request(conversation, signed=False, keyed=True))

    assert (await row(database, first.ref)).status == "pending"
    (found,) = await database.run("SELECT owner FROM conversations WHERE id = :id", id=conversation)
    assert found.owner is None


async def test_a_request_makes_the_conversation_of_its_own(database: Database) -> None:
    """Its id is computed from the request's; what follows in it is its owner's like in any other."""
    id = uuid4()
    own = conversation_id_for_request(id)

    await take(database, first := request(own, id=id, user="ann"), second := request(own, user="ann"))
    await take(database, third := request(own, user="ann"), foreign := request(own, user="bob"))

    assert ["pending", "waiting", "waiting", "failed"] == await statuses(database, [first, second, third, foreign])


async def test_a_tombstone_counts_for_its_owner_alone(database: Database) -> None:
    """A key that names what a user has made and deleted has a conversation of the tenant's own, always the same."""
    theirs = uuid4()
    await take(database, request(theirs, user="bob"))
    await take(database, deletes=[ConversationRef("default", theirs)])
    keyed = [request(theirs, signed=False, keyed=True) for _ in range(2)]

    for each in keyed:
        await take(database, each)
    await take(database, named := request(theirs, signed=False), own := request(theirs, user="bob"))

    assert ["pending", "waiting", "failed", "failed"] == await statuses(database, [*keyed, named, own])
    beside = {(await row(database, each.ref)).conversation_id for each in keyed}
    assert {conversation_id_beside(theirs)} == beside
    (found,) = await database.run("SELECT owner FROM conversations WHERE id = :id", id=beside.pop())
    assert found.owner is None


async def test_a_tombstone_of_the_tenants_own_stays_one(database: Database) -> None:
    """A producer who deletes the conversation of a key finds it deleted."""
    conversation = uuid4()
    await take(database, request(conversation, signed=False, keyed=True))
    await take(database, unsigned_deletes=[Unsigned(ConversationRef("default", conversation), letter())])

    await take(database, late := request(conversation, signed=False, keyed=True))

    assert (await row(database, late.ref)).error_code == ErrorCode.CONVERSATION_DELETED


async def test_what_nobody_signed_ends_only_what_is_nobodys(database: Database) -> None:
    """An unsigned cancel or deletion of a user's data is a dead letter, `unsigned`, and changes nothing."""
    hers, free, deleted = request(user="ann"), request(), request()
    await take(database, hers, free, deleted)
    bad = [letter(), letter()]

    done = await take(
        database,
        unsigned_cancels=[Unsigned(hers.ref, bad[0]), Unsigned(free.ref, letter())],
        unsigned_deletes=[Unsigned(hers.conversation, bad[1]), Unsigned(deleted.conversation, letter())],
    )

    assert ["pending", "cancelled", "cancelled"] == await statuses(database, [hers, free, deleted])
    assert {(each.offset, ErrorCode.UNSIGNED) for each in bad} == {(d.offset, d.reason) for d in done.dead_letters}
    assert await count(database, "dead_letters") == 2
    assert (await row(database, hers.ref)).cancel_requested_at is None


async def test_an_unsigned_cancel_in_the_batch_of_its_request(database: Database) -> None:
    """An owner set earlier in the same batch counts as one set in an earlier batch."""
    hers, free = request(user="ann"), request()
    cancels = [Unsigned(each.ref, letter()) for each in (hers, free)]

    done = await take(database, hers, free, unsigned_cancels=cancels)

    assert ["pending", "cancelled"] == await statuses(database, [hers, free])
    assert [cancels[0].record.offset] == [each.offset for each in done.dead_letters]


async def test_a_conversation_of_the_old_system_is_its_users(database: Database) -> None:
    """Conversations of older releases have a user_id and no owner."""
    (user,) = await database.run("INSERT INTO users (username, password_hash) VALUES ('old', 'x') RETURNING id")
    (old,) = await database.run("INSERT INTO conversations (user_id) VALUES (:id) RETURNING id", id=user.id)

    await take(database, own := request(old.id, user=str(user.id)), foreign := request(old.id, user="bob"))

    assert ["pending", "failed"] == await statuses(database, [own, foreign])


async def test_reject_when_the_conversation_is_busy(database: Database) -> None:
    """A turn with `reject` fails at once in a busy conversation and is announced; in a free one it runs."""
    conversation = uuid4()
    await take(database, free := request(conversation, on_busy="reject"))
    done = await take(database, busy := request(conversation, on_busy="reject"))

    assert ["pending", "failed"] == await statuses(database, [free, busy])
    assert (await row(database, busy.ref)).error_code == ErrorCode.CONVERSATION_BUSY
    assert [busy.id] == [each.request_id for each in done.announcements]


async def test_interrupt_takes_the_place_of_all_that_is_open(database: Database) -> None:
    """Waiting turns are cancelled at once, the running one is asked to stop, and the interrupting turn is next."""
    conversation = uuid4()
    await take(database, running := request(conversation), waiting := request(conversation))
    turn = await claim_one(database)

    done = await take(database, interrupting := request(conversation, on_busy="interrupt"))

    assert ["in_progress", "cancelled", "waiting"] == await statuses(database, [running, waiting, interrupting])
    assert [running.ref] == done.running_cancelled
    await finish(database, turn, Status.CANCELLED)
    assert ["cancelled", "cancelled", "pending"] == await statuses(database, [running, waiting, interrupting])


async def test_interrupt_within_one_batch(database: Database) -> None:
    """The order of the records decides: turns before it are cancelled, turns after it wait for it."""
    conversation = uuid4()
    before, interrupting, behind = (
        request(conversation),
        request(conversation, on_busy="interrupt"),
        request(conversation),
    )

    done = await take(database, before, interrupting, behind)

    assert ["cancelled", "pending", "waiting"] == await statuses(database, [before, interrupting, behind])
    assert [before.id] == [each.request_id for each in done.announcements]


async def test_an_interrupt_that_comes_again_cancels_nothing(database: Database) -> None:
    """A redelivered interrupting record must not stop what came after it."""
    conversation = uuid4()
    await take(database, interrupting := request(conversation, on_busy="interrupt"))
    await take(database, later := request(conversation))

    again = await take(database, interrupting)

    assert (1, []) == (again.duplicates, again.announcements)
    assert ["pending", "waiting"] == await statuses(database, [interrupting, later])


async def test_a_delayed_turn_has_its_time_from_its_beginning(database: Database) -> None:
    """Without a deadline of its own it expires an hour after it could first run."""
    later = datetime.now(UTC) + timedelta(hours=5)

    await take(database, delayed := request(not_before=later))

    found = await row(database, delayed.ref)
    assert (later, later, later + timedelta(hours=1)) == (found.run_at, found.not_before, found.deadline_at)


async def test_a_task_keeps_its_type_and_what_it_tries_again(database: Database) -> None:
    """The type and the id of the earlier task are stored with the task."""
    earlier = uuid4()

    await take(database, task := request(task_type="translation", retry_of=earlier))

    found = await row(database, task.ref)
    assert ("translation", earlier) == (found.task_type, found.retry_of)


async def test_two_bodies_of_one_id_are_held_against_the_one_that_is_kept(database: Database) -> None:
    """A later body is compared with the stored one: another worker may have inserted it first."""
    id = uuid4()
    first, second = request(id=id, text="first"), request(id=id, text="second")
    await take(database, second)

    done = await take(database, first, second)

    assert (0, 1) == (done.inserted, done.duplicates)
    assert [first.record.offset] == [each.offset for each in done.dead_letters]
