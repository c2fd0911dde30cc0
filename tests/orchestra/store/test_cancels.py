"""Promises of orchestra/store/cancels.py: cancels and deletions end what they name, even if they arrive first."""

import asyncio
import re
from collections.abc import Collection
from uuid import uuid4

import pytest

from orchestra.store import cancels, intake, leases, outbox
from orchestra.store.database import Database, Transaction
from orchestra.store.endings import Items
from orchestra.store.intake import Batch, Intaken
from orchestra.store.leases import Beat
from orchestra.store.turns import ConversationRef, lock_conversations
from schemas.status import Status
from tests.support.plans import plan_of
from tests.support.store import (
    claim,
    claim_one,
    count,
    finish,
    let_lease_run_out,
    messages,
    new_worker,
    request,
    row,
    statuses,
    take,
    to_store,
)
from tests.support.waiting import eventually


async def test_a_cancelled_head_makes_room(database: Database) -> None:
    """The pending head ends, is announced, and the next turn becomes runnable in the same transaction."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)

    done = await take(database, cancels=[first.ref])

    assert ["cancelled", "pending"] == await statuses(database, [first, second])
    assert [first.id] == [each.request_id for each in done.announcements]


async def test_a_cancelled_waiting_turn_leaves_the_head_alone(database: Database) -> None:
    """A turn in the middle ends; the head stays, and those behind keep their order."""
    conversation = uuid4()
    turns = [request(conversation) for _ in range(3)]
    await take(database, *turns)

    await take(database, cancels=[turns[1].ref])

    assert ["pending", "cancelled", "waiting"] == await statuses(database, turns)


async def test_a_running_turn_is_only_asked_to_stop(database: Database) -> None:
    """The worker that runs a cancelled turn is asked to stop; until it does, the turn stays the head."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)

    done = await take(database, cancels=[first.ref])

    assert [first.ref] == done.running_cancelled
    assert ["in_progress", "waiting"] == await statuses(database, [first, second])
    assert Beat([first.ref], drains=False) == await leases.renew(database, worker_id)


async def test_a_cancel_twice_is_one(database: Database) -> None:
    """The second cancel changes and announces nothing."""
    await take(database, asked := request())
    await take(database, cancels=[asked.ref])
    before = await row(database, asked.ref)

    done = await take(database, cancels=[asked.ref, asked.ref])

    assert (done.announcements, before) == ([], await row(database, asked.ref))


async def test_an_ended_request_is_not_cancelled(database: Database) -> None:
    """Whichever commits first wins: a completed request stays completed."""
    await take(database, asked := request())
    await finish(database, await claim_one(database))

    done = await take(database, cancels=[asked.ref])

    kept = await row(database, asked.ref)
    assert ("completed", None, []) == (kept.status, kept.cancel_requested_at, done.announcements)


async def test_a_tenant_cannot_cancel_anothers_request(database: Database) -> None:
    """The same id of another tenant is another request."""
    await take(database, asked := request())

    await take(database, cancels=[("other", asked.id)])

    assert ["pending"] == await statuses(database, [asked])


async def test_a_cancel_that_comes_at_the_same_moment_as_its_request_is_not_lost(database: Database) -> None:
    """Two workers take in a request and its cancel at once: in either order the request ends cancelled."""
    asked = [request() for _ in range(50)]

    await asyncio.gather(
        *(take(database, each) for each in asked), *(take(database, cancels=[each.ref]) for each in asked)
    )
    await cancels.settle_early(database)

    assert {"cancelled"} == set(await statuses(database, asked))


async def test_a_request_that_comes_in_the_midst_of_its_cancel_blocks_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request inserted after its cancel has looked for it ends when that is settled, and the next turn may run."""
    conversation = uuid4()
    known, late, behind = request(), request(conversation), request(conversation)
    await take(database, known)

    async def lock(tx: Transaction, refs: Collection[ConversationRef]) -> set[ConversationRef]:
        await take(database, late, behind)
        return await lock_conversations(tx, refs)

    monkeypatch.setattr(cancels, "lock_conversations", lock)
    await take(database, cancels=[known.ref, late.ref])
    monkeypatch.undo()
    await cancels.settle_early(database)

    assert ["cancelled", "cancelled", "pending"] == await statuses(database, [known, late, behind])


async def test_settling_finds_the_running_turn_too(database: Database) -> None:
    """A cancel that was kept while its request was already being answered reaches the worker that runs it."""
    await take(database, asked := request())
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await database.run("INSERT INTO early_cancels (tenant, id) VALUES ('default', :id)", id=asked.id)

    await cancels.settle_early(database)

    assert Beat([asked.ref], drains=False) == await leases.renew(database, worker_id)


async def test_settling_announces_once(database: Database) -> None:
    """Requests ended by settling are announced; settling again finds nothing to do."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)
    await database.run("INSERT INTO early_cancels (tenant, id) VALUES ('default', :id)", id=first.id)

    assert [first.id] == [each.request_id for each in await cancels.settle_early(database)]
    assert [] == await cancels.settle_early(database)
    assert ["cancelled", "pending"] == await statuses(database, [first, second])


async def test_a_deleted_conversation_keeps_nothing_but_tombstones(database: Database) -> None:
    """Messages go, open turns end, and no row keeps any text, not even in replies that are not published yet."""
    conversation = uuid4()
    turns = [request(conversation, text="secret") for _ in range(3)]
    await take(database, *turns)
    await finish(database, await claim_one(database), said=[to_store("user", "secret")], reply="secret too")

    done = await take(database, deletes=[ConversationRef("default", conversation)])

    assert ["completed", "cancelled", "cancelled"] == await statuses(database, turns)
    assert {turn.id for turn in turns} == {each.request_id for each in done.announcements}
    assert not [each for each in done.announcements if "secret" in each.value]
    assert await messages(database, conversation) == []
    assert await _mentions(database, "secret") == []
    (kept,) = await database.run("SELECT * FROM conversations")
    assert kept.deleted_at is not None


async def test_a_deleted_conversation_keeps_no_items_of_answers(database: Database) -> None:
    """The items of an answer go with its text, also from a reply that is not published yet."""
    conversation = uuid4()
    await take(database, request(conversation), request(conversation))
    output = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "secret"}]
    said = [to_store("user", "", [{"type": "text", "text": "secret"}], None, 6)]
    await finish(
        database, await claim_one(database), said=said, reply="", items=Items(output, 9, {"provider": "secret"})
    )

    done = await take(database, deletes=[ConversationRef("default", conversation)])

    assert [False, False] == ['"output"' in each.value for each in done.announcements]
    assert await _mentions(database, "secret") == []


async def test_a_turn_that_ran_while_its_conversation_was_deleted_leaves_nothing(database: Database) -> None:
    """The answer of a running turn is discarded, its row is emptied when it ends, and its duplicate is recognised."""
    await take(database, asked := request(text="secret"))
    turn = await claim_one(database)
    await take(database, deletes=[ConversationRef("default", asked.conversation_id)])

    await finish(database, turn, said=[to_store("user", "secret")], reply="secret too", log=("type", "secret three"))

    kept = await row(database, asked.ref)
    assert ("cancelled", None) == (kept.status, kept.body)
    assert kept.deleted_at is not None
    assert await messages(database, asked.conversation_id) == []
    assert await _mentions(database, "secret") == []
    assert (await take(database, asked)).duplicates == 1


async def test_a_lost_turn_of_a_deleted_conversation_leaves_nothing(database: Database) -> None:
    """When the worker of such a turn is lost, the row is emptied as well."""
    await take(database, asked := request(text="secret"))
    worker_id = await new_worker(database)
    await claim_one(database, worker_id)
    await take(database, deletes=[ConversationRef("default", asked.conversation_id)])
    await let_lease_run_out(database, worker_id)

    await leases.give_back_lost(database)

    assert ["cancelled"] == await statuses(database, [asked])
    assert await _mentions(database, "secret") == []


async def test_the_deletion_of_an_unknown_conversation_is_kept(database: Database) -> None:
    """A deletion may come before its conversation; requests that come later find it deleted."""
    conversation = uuid4()

    await take(database, deletes=[ConversationRef("default", conversation)])
    await take(database, late := request(conversation))

    assert ["failed"] == await statuses(database, [late])


async def test_a_deletion_twice_is_one(database: Database) -> None:
    """The second deletion changes nothing, not even the time."""
    await take(database, asked := request())
    await take(database, deletes=[ConversationRef("default", asked.conversation_id)])
    before = await database.run("SELECT * FROM conversations")

    done = await take(database, deletes=[ConversationRef("default", asked.conversation_id)])

    assert ([], before) == (done.announcements, await database.run("SELECT * FROM conversations"))


async def test_whether_a_conversation_is_deleted(database: Database) -> None:
    """It is not, or is, or does not exist: for another owner, neither of the first two."""
    await take(database, asked := request(user="ann"))
    ref = ConversationRef("default", asked.conversation_id)

    async def is_deleted(ref: ConversationRef, only: str | None) -> bool | None:
        life = await cancels.life_of(database, ref, only)
        return life and life.deleted

    assert [False, False] == [await is_deleted(ref, None), await is_deleted(ref, "ann")]
    await cancels.mark_deleted(database, ref)
    assert [True, None] == [await is_deleted(ref, None), await is_deleted(ref, "bob")]
    assert await is_deleted(ConversationRef("other", ref.id), None) is None


async def test_an_answer_to_a_hidden_conversation_is_thrown_away(database: Database) -> None:
    """From the moment that a conversation is hidden nothing is stored in it."""
    await take(database, asked := request())
    turn = await claim_one(database)
    await cancels.mark_deleted(database, ConversationRef("default", asked.conversation_id))

    await finish(database, turn)

    assert ["cancelled"] == await statuses(database, [asked])
    assert await messages(database, asked.conversation_id) == []


async def test_deleting_leaves_other_conversations_alone(database: Database) -> None:
    """Neither another conversation nor another tenant's of the same id is touched."""
    mine, other = request(), request()
    theirs = request(mine.conversation_id, tenant="other")
    await take(database, mine, other, theirs)

    await take(database, deletes=[ConversationRef("default", mine.conversation_id)])

    assert ["cancelled", "pending", "pending"] == await statuses(database, [mine, other, theirs])


async def test_a_reply_that_was_not_published_goes_out_without_its_text(database: Database) -> None:
    """The ending of a deleted request is still announced, without its text."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), reply="secret")

    await take(database, deletes=[ConversationRef("default", asked.conversation_id)])

    (late,) = await outbox.unpublished(database, 0, 10)
    assert Status.COMPLETED.value in late.value
    assert "secret" not in late.value


async def test_a_cancelled_turn_is_not_claimed(database: Database) -> None:
    """No worker runs a turn that was cancelled before its claim."""
    await take(database, asked := request())
    await take(database, cancels=[asked.ref])

    assert await claim(database, await new_worker(database)) == []


async def test_early_cancels_are_kept_once(database: Database) -> None:
    """A repeated cancel of a request that has not arrived is one row."""
    ref = ("default", uuid4())

    await take(database, cancels=[ref])
    await take(database, cancels=[ref, ref])

    assert await count(database, "early_cancels") == 1


@pytest.mark.parametrize(
    ("owner", "user", "status"),
    [
        ("ann", "ann", "cancelled"),  # Her own.
        ("bob", "ann", "pending"),
        (None, "ann", "cancelled"),  # An admin's.
        (None, None, "cancelled"),
        ("bob", None, "cancelled"),
    ],
)
async def test_an_early_cancel_of_a_gateway_counts_for_whom_it_was_signed(
    database: Database, owner: str | None, user: str | None, status: str
) -> None:
    """The owner of an early cancel is kept with it and compared with the request's."""
    asked = request(user=user)
    await cancels.keep_early(database, asked.ref, owner)

    await take(database, asked)

    assert [status] == await statuses(database, [asked])
    assert [] == await cancels.settle_early(database)


async def test_what_is_prevented_is_never_run(database: Database) -> None:
    """A request that was prevented is cancelled on arrival; one that was taken in before is left to run, and told."""
    late, taken = request(), request()
    await take(database, taken)

    assert (True, False) == tuple([await cancels.prevent(database, each.ref, None) for each in (late, taken)])

    await take(database, late)
    await cancels.settle_early(database)
    assert ["cancelled", "pending"] == await statuses(database, [late, taken])


async def test_an_intake_in_progress_is_awaited(database: Database) -> None:
    """An intake that looked for cancels before this one commits later: its request is found, and not said to be out."""
    asked = request()
    async with database.transaction() as tx:
        await intake._take_in_all(tx, Batch(requests=[asked]), None, Intaken())
        preventing = asyncio.create_task(cancels.prevent(database, asked.ref, None))
        await eventually(lambda: count(database, "early_cancels"))
        assert not preventing.done()

    assert not await preventing


async def test_an_intake_without_an_end_is_not_awaited(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a transaction that began before does not end, it is not certain that the request is prevented."""
    monkeypatch.setattr(cancels, "_SETTLE_SECONDS", 0.1)
    async with database.transaction() as tx:
        await tx.run("SELECT pg_current_xact_id()")

        assert not await cancels.prevent(database, request().ref, None)


@pytest.mark.parametrize("how", ["record", "settled"])
async def test_an_early_cancel_by_record_counts_for_what_is_nobodys(database: Database, how: str) -> None:
    """The owner is known once the request arrives; an owned request is cancelled only by a cancel the gateway kept."""
    hers, free = request(user="ann"), request()
    if how == "record":
        await take(database, cancels=[hers.ref, free.ref])
        await take(database, hers, free)
    else:
        await take(database, hers, free)
        await database.run("INSERT INTO early_cancels SELECT tenant, id, now(), false FROM requests")
        await cancels.settle_early(database)

    assert ["pending", "cancelled"] == await statuses(database, [hers, free])


async def test_nobody_takes_a_cancel_from_its_owner(database: Database) -> None:
    """An earlier unsigned cancel, or one in another's name, does not weaken the owner's own."""
    asked = [request(user="ann") for _ in range(3)]
    await take(database, cancels=[asked[0].ref])
    await cancels.keep_early(database, asked[1].ref, "bob")
    await cancels.keep_early(database, asked[2].ref, None)
    for each in asked:
        await cancels.keep_early(database, each.ref, "ann")
        await take(database, cancels=[each.ref])

    await take(database, *asked)

    assert {"cancelled"} == set(await statuses(database, asked))


async def test_only_recent_early_cancels_are_looked_for(database: Database) -> None:
    """Of the early cancels of a week only those of the last minutes are read, and of the requests only theirs."""
    plan = await plan_of(database, cancels._UNSETTLED)

    assert re.search(r"(Index|Bitmap Index) Scan (using|on) early_cancels_newest", plan), plan
    assert re.search(r"Index Cond: \(+tenant = e\.tenant", plan), plan


async def test_an_early_cancel_of_an_older_release_counts_as_it_did(database: Database) -> None:
    """An early cancel from an older release says neither whether it was signed nor for whom."""
    asked = request(user="ann")
    await database.run("INSERT INTO early_cancels (tenant, id) VALUES ('default', :id)", id=asked.id)

    await take(database, asked)

    assert ["cancelled"] == await statuses(database, [asked])


async def _mentions(database: Database, text: str) -> list[str]:
    """The tables that still hold a text."""
    tables = "conversations messages logs requests outbox dead_letters".split()
    found = []
    for table in tables:
        if await database.run(f"SELECT 1 FROM {table} t WHERE t::text LIKE :like", like=f"%{text}%"):
            found.append(table)  # noqa: PERF401 - an awaiting comprehension reads worse
    return found
