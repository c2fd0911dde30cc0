"""Promises of orchestra/store/endings.py: how attempts end, once, under their fence."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestra.store import endings, leases, outbox, requests
from orchestra.store.claims import ClaimOrder
from orchestra.store.database import Database, DataRefusedError
from orchestra.store.endings import HeldModel, Items
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.replies import Reply, RequestError
from schemas.status import Status
from tests.support.store import (
    claim,
    claim_one,
    count,
    ending,
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

HOUR = timedelta(hours=1)


async def last_error(database: Database, ref: RequestRef) -> tuple[str | None, str | None]:
    """Code and detail, as the row has them."""
    found = await row(database, ref)
    return found.error_code, found.error_detail


async def test_a_completed_turn_is_history(database: Database) -> None:
    """Question and answer are stored in this order, usage is kept, the next turn may run, the reply waits."""
    conversation = uuid4()
    first, second = request(conversation, correlation_id="mine"), request(conversation)
    await take(database, first, second)

    done = await finish(database, await claim_one(database), said=[to_store("user", "why?")], reply="because")

    assert [("user", "why?"), ("assistant", "because")] == await messages(database, conversation)
    assert ["completed", "pending"] == await statuses(database, [first, second])
    assert (1, []) == (done.promoted, done.fenced)
    (announced,) = done.announcements
    reply = Reply.model_validate_json(announced.value)
    assert (first.id, conversation, Status.COMPLETED) == (reply.request_id, reply.conversation_id, reply.status)
    assert ("because", Usage(input_tokens=1, output_tokens=2), 1) == (reply.reply, reply.usage, reply.attempts)
    assert reply.source is not None
    assert first.record.offset == reply.source.offset
    assert ("mine", first.body_hash) == (announced.headers["correlation_id"], announced.headers["body_hash"])


CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
PARTS = [{"type": "text", "text": "Where?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


async def test_all_that_was_said_is_a_row(database: Database) -> None:
    """Results of tools, a message of parts and the items of the answer are stored in order, under the request."""
    await take(database, asked := request())
    said = [
        to_store("tool", "sunny", None, "call_0", 7),
        to_store("tool", "windy", None, "call_1"),
        to_store("user", "Where?", PARTS, None, 3006),
    ]

    await finish(database, await claim_one(database), said=said, reply="", items=Items([CALL], 99, {"provider": "p"}))

    rows = await database.run(
        "SELECT request_id, role, content, parts, tool_call_id, output, state, weight FROM messages ORDER BY id"
    )
    assert [
        (asked.id, "tool", "sunny", None, "call_0", None, None, 7),
        (asked.id, "tool", "windy", None, "call_1", None, None, None),
        (asked.id, "user", "Where?", PARTS, None, None, None, 3006),
        (asked.id, "assistant", "", None, None, [CALL], {"provider": "p"}, 99),
    ] == [tuple(row) for row in rows]


async def test_many_endings_keep_each_its_own_messages(database: Database) -> None:
    """In a batch each request gets its own input, in order, and its own answer last."""
    asked = [request() for _ in range(5)]
    await take(database, *asked)
    turns = {turn.id: turn for turn in await claim(database, await new_worker(database))}
    batch = [
        ending(
            turns[each.id],
            said=[to_store("tool", f"{at}.{place}", None, "c") for place in range(at)],
            reply=f"answer {at}",
        )
        for at, each in enumerate(asked)
    ]

    await endings.finish(database, batch)

    for at, each in enumerate(asked):
        results = [("tool", f"{at}.{place}") for place in range(at)]
        assert [*results, ("assistant", f"answer {at}")] == await messages(database, each.conversation_id)


async def test_the_items_of_an_answer_are_announced(database: Database) -> None:
    """A reply has the items of its answer, and no such field if the answer is a text."""
    await take(database, request(), request())
    one, other = await claim(database, await new_worker(database))

    (announced,) = (
        await finish(database, one, reply="", items=Items([CALL], 9), finish_reason="tool_calls")
    ).announcements
    (plain,) = (await finish(database, other)).announcements

    reply = Reply.model_validate_json(announced.value)
    assert ("", "tool_calls", [CALL]) == (reply.reply, reply.finish_reason, reply.output)
    assert "output" not in json.loads(plain.value)


async def test_items_too_long_for_a_record_are_pointed_to(database: Database) -> None:
    """A reply has text and items if both together are at most 64 KiB, and otherwise the URL of both."""
    item = len(json.dumps([CALL]))
    for length, inside in ((65_536 - item, True), (65_537 - item, False)):
        await take(database, asked := request())
        done = await finish(database, await claim_one(database), reply="x" * length, items=Items([CALL], 9))
        reply = Reply.model_validate_json(done.announcements[0].value)
        assert (inside, inside) == (reply.reply is not None, reply.output is not None)
        assert (None if inside else f"/v1/requests/{asked.id}") == reply.reply_url


async def test_a_failed_turn_leaves_no_messages_and_makes_room(database: Database) -> None:
    """The error is kept and told, a log row is written, the next turn may run."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)

    done = await finish(
        database,
        await claim_one(database),
        Status.FAILED,
        error=(ErrorCode.BAD_UPSTREAM, "nonsense"),
        log=("llm_decode_error", "request failed"),
    )

    assert ["failed", "pending"] == await statuses(database, [first, second])
    reply = Reply.model_validate_json(done.announcements[0].value)
    assert reply.error is not None
    assert (ErrorCode.BAD_UPSTREAM, "nonsense", None) == (reply.error.code, reply.error.detail, reply.reply)
    assert await messages(database, conversation) == []
    (log,) = await database.run("SELECT type, message FROM logs")
    assert ("llm_decode_error", "request failed") == tuple(log)


async def test_a_retry_keeps_its_place(database: Database) -> None:
    """The head goes back to be run later; the try stays spent, nothing is announced, and no turn overtakes it."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)

    done = await finish(database, await claim_one(database), Status.PENDING, delay=30.0)

    assert ["pending", "waiting"] == await statuses(database, [first, second])
    kept = await row(database, first.ref)
    assert (1, 1, None) == (kept.fence, kept.tries, kept.worker_id)
    assert ([], 0) == (done.announcements, done.promoted)


async def test_a_try_can_be_given_back_the_fence_never(database: Database) -> None:
    """An interrupted or rate-limited attempt costs no try, and the next attempt still has a higher number."""
    await take(database, request())
    worker_id = await new_worker(database)
    await finish(database, await claim_one(database, worker_id), Status.PENDING, give_try_back=True)

    again = await claim_one(database, worker_id)

    assert (2, 1) == (again.fence, again.tries)


async def test_an_ending_whose_fence_is_old_changes_nothing(database: Database) -> None:
    """A worker that was thought dead comes late: its answer is thrown away, its log too."""
    await take(database, asked := request())
    dead = await new_worker(database)
    old = await claim_one(database, dead)
    await let_lease_run_out(database, dead)
    await leases.give_back_lost(database)
    new = await claim_one(database)

    late = await finish(database, old, reply="late", log=("type", "late"))
    await finish(database, new, reply="in time")

    assert ([asked.ref], []) == (late.fenced, late.announcements)
    assert [("user", "hello"), ("assistant", "in time")] == await messages(database, asked.conversation_id)
    assert await count(database, "logs") == 0


async def test_finishing_twice_is_finishing_once(database: Database) -> None:
    """After a commit of unknown outcome the same ending is written again: nothing is there twice."""
    await take(database, asked := request())
    turn = await claim_one(database)
    first = await finish(database, turn, log=("type", "once"))

    again = await finish(database, turn, log=("type", "once"))

    assert [asked.ref] == again.fenced
    assert [("user", "hello"), ("assistant", "answer")] == await messages(database, asked.conversation_id)
    assert (1, 1) == (await count(database, "outbox"), await count(database, "logs"))
    assert first.announcements == again.announcements


async def test_finishing_at_the_same_moment_is_finishing_once(database: Database) -> None:
    """Many writers of the same ending: one answer."""
    await take(database, asked := request())
    turn = await claim_one(database)

    await asyncio.gather(*(finish(database, turn, reply=f"answer {number}") for number in range(5)))

    assert 2 == len(await messages(database, asked.conversation_id))
    assert 1 == await count(database, "outbox")


async def test_a_requested_cancel_wins_over_a_retry(database: Database) -> None:
    """A cancelled turn that is put back ends, and the next may run."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second)
    turn = await claim_one(database)
    await take(database, cancels=[first.ref])

    done = await finish(database, turn, Status.PENDING, delay=10.0, error=(ErrorCode.OVERLOADED, "busy"))

    assert ["cancelled", "pending"] == await statuses(database, [first, second])
    assert (None, None) == await last_error(database, first.ref)
    assert [first.id] == [each.request_id for each in done.announcements]


async def test_an_answer_wins_over_a_requested_cancel(database: Database) -> None:
    """What was answered before the cancel could stop it is answered."""
    await take(database, asked := request())
    turn = await claim_one(database)
    await take(database, cancels=[asked.ref])

    await finish(database, turn)

    assert ["completed"] == await statuses(database, [asked])


async def test_earlier_replies_that_were_not_published_come_along(database: Database) -> None:
    """The worker that ends a turn also gets the conversation's unpublished replies, which go first."""
    conversation = uuid4()
    turns = [request(conversation) for _ in range(3)]
    await take(database, *turns)
    worker_id = await new_worker(database)
    published = await finish(database, await claim_one(database, worker_id))
    await outbox.mark_published(database, [each.id for each in published.announcements])
    await finish(database, await claim_one(database, worker_id))

    done = await finish(database, await claim_one(database, worker_id))

    assert [turns[1].id, turns[2].id] == [each.request_id for each in done.announcements]


@pytest.mark.parametrize("how", ["cancelled", "expired", "cancelled early", "lost"])
async def test_whoever_ends_a_turn_takes_earlier_replies_along(database: Database, how: str) -> None:
    """A reply that is not published goes before that of a later ending, whatever ends the turn."""
    conversation = uuid4()
    first, second = request(conversation), request(conversation)
    await take(database, first, second, request(conversation))
    await finish(database, await claim_one(database))

    match how:
        case "cancelled":
            announced = (await take(database, cancels=[second.ref])).announcements
        case "expired":
            await database.run("UPDATE requests SET deadline_at = now() WHERE id = :id", id=second.id)
            announced = await endings.expire(database, 100)
        case "cancelled early":
            await take(database, cancels=[(second.tenant, late := uuid4())])
            announced = (await take(database, second := request(conversation, id=late))).announcements
        case _:
            await claim_one(database, worker_id := await new_worker(database))
            await take(database, cancels=[second.ref])
            announced = (await leases.leave(database, worker_id)).announcements

    assert [first.id, second.id] == [each.request_id for each in announced]


async def test_a_batch_ends_many_turns(database: Database) -> None:
    """Endings of every kind and of several conversations are written together, each as it is."""
    asked = [request() for _ in range(4)]
    await take(database, *asked)
    turns = {turn.id: turn for turn in await claim(database, await new_worker(database))}
    kinds = [Status.COMPLETED, Status.FAILED, Status.PENDING, Status.EXPIRED]
    batch = [ending(turns[each.id], kind) for each, kind in zip(asked, kinds, strict=True)]

    done = await endings.finish(database, batch)

    assert kinds == await statuses(database, asked)
    assert {asked[0].id, asked[1].id, asked[3].id} == {each.request_id for each in done.announcements}


async def test_an_answer_to_a_question_that_no_user_asked_is_kept(database: Database) -> None:
    """Where no message has the role user, the last one is stored, even an assistant's."""
    await take(database, asked := request())

    await finish(database, await claim_one(database), said=[to_store("assistant", "as I said")], reply="go on")

    assert [("assistant", "as I said"), ("assistant", "go on")] == await messages(database, asked.conversation_id)


async def test_a_reply_too_long_for_a_record_is_pointed_to(database: Database) -> None:
    """Up to 64 KiB of UTF-8 travel in the record; a longer reply is a URL, and whole in the history."""
    for length, inside in ((65_536, True), (65_537, False)):
        await take(database, asked := request())
        done = await finish(database, await claim_one(database), reply="x" * length)
        reply = Reply.model_validate_json(done.announcements[0].value)
        assert (inside, not inside) == (reply.reply is not None, reply.reply_url == f"/v1/requests/{asked.id}")
        assert length == len((await messages(database, asked.conversation_id))[1][1])


async def test_an_empty_answer_is_an_answer(database: Database) -> None:
    """A model that says nothing has answered."""
    await take(database, asked := request())

    done = await finish(database, await claim_one(database), reply="")

    assert Reply.model_validate_json(done.announcements[0].value).reply == ""
    assert [("user", "hello"), ("assistant", "")] == await messages(database, asked.conversation_id)


async def test_an_answer_that_postgres_refuses_ends_nothing(database: Database) -> None:
    """The whole batch is refused by name, and every turn in it still runs."""
    asked = [request(), request()]
    await take(database, *asked)
    turns = await claim(database, await new_worker(database))

    with pytest.raises(DataRefusedError):
        await endings.finish(database, [ending(turns[0]), ending(turns[1], reply="a\0b")])

    assert ["in_progress", "in_progress"] == await statuses(database, asked)


async def test_what_is_due_expires(database: Database) -> None:
    """Heads and waiting turns past their deadline end, are announced, and make room; up to the limit at once."""
    conversation = uuid4()
    turns = [request(conversation) for _ in range(4)]
    await take(database, *turns)
    late = [turns[0].id, turns[2].id]
    await database.run("UPDATE requests SET deadline_at = now() WHERE id = ANY(:late)", late=late)

    ended = [[each.request_id for each in await endings.expire(database, 1)][-1:] for _ in range(3)]

    assert {(late[0],), (late[1],), ()} == {tuple(each) for each in ended}
    assert ["expired", "pending", "expired", "waiting"] == await statuses(database, turns)


async def test_a_running_turn_does_not_expire_under_its_worker(database: Database) -> None:
    """A running turn is ended by its worker."""
    await take(database, asked := request())
    await claim_one(database)
    await database.run("UPDATE requests SET deadline_at = now() - interval '1 hour'")

    assert await endings.expire(database, 10) == []
    assert ["in_progress"] == await statuses(database, [asked])


async def test_why_attempts_failed_is_kept_one_by_one(database: Database) -> None:
    """Of every attempt that failed, whether another followed or not; the newest one's is the request's own."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.PENDING, error=(ErrorCode.OVERLOADED, "busy"))
    assert (await row(database, asked.ref)).error_code == ErrorCode.OVERLOADED
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.BAD_UPSTREAM, "nonsense"))

    kept = await database.run("SELECT attempt, code, detail FROM attempt_errors ORDER BY attempt")
    assert [(1, "overloaded", "busy"), (2, "bad_upstream", "nonsense")] == [tuple(each) for each in kept]
    assert (await row(database, asked.ref)).error_code == ErrorCode.BAD_UPSTREAM


async def test_the_error_of_a_fenced_attempt_is_not_kept(database: Database) -> None:
    """A worker that lost its turn adds nothing to the turn's errors."""
    await take(database, request())
    turn = await claim_one(database)
    await finish(database, turn, Status.PENDING)

    await finish(database, turn, Status.FAILED, error=(ErrorCode.BAD_UPSTREAM, "late"))

    assert await count(database, "attempt_errors") == 0


async def test_a_request_that_was_deleted_while_it_ran_leaves_nothing(database: Database) -> None:
    """It ends as cancelled whatever the model said: no message, no body, no error, no reply."""
    conversation = uuid4()
    await take(database, asked := request(conversation))
    turn = await claim_one(database)
    await database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=asked.id)

    done = await finish(database, turn)

    found = await row(database, asked.ref)
    assert ("cancelled", None, None) == (found.status, found.body, found.error_code)
    assert await messages(database, conversation) == []
    assert '"reply" : null' in done.announcements[0].value


async def test_the_reason_why_an_answer_ended_is_kept_and_told(database: Database) -> None:
    """With the answer alone, and in its reply; what fails has none."""
    await take(database, request(), request())
    first, second = await claim(database, await new_worker(database))

    done = await finish(database, first, finish_reason="length")
    failed = await finish(database, second, Status.FAILED, error=(ErrorCode.TIMEOUT, "slow"))

    kept = await database.run("SELECT role, finish_reason FROM messages ORDER BY id")
    assert [("user", None), ("assistant", "length")] == [tuple(each) for each in kept]
    assert "length" == Reply.model_validate_json(done.announcements[0].value).finish_reason
    assert "finish_reason" not in failed.announcements[0].value


@pytest.mark.parametrize("metadata", [{"order": "7", "said": 'a "quote" and }'}, {}, None])
async def test_a_reply_brings_the_metadata_of_its_request(database: Database, metadata: dict[str, str] | None) -> None:
    """As it was sent; absent where there was none, as in the records of older releases."""
    asked = request()
    body = asked.body if metadata is None else {**asked.body, "metadata": metadata}
    await take(database, replace(asked, body=body))

    done = await finish(database, await claim_one(database), finish_reason="stop")

    value = done.announcements[0].value
    assert (metadata or None) == Reply.model_validate_json(value).metadata
    assert bool(metadata) == ("metadata" in json.loads(value))


async def test_the_metadata_of_what_is_deleted_is_not_told(database: Database) -> None:
    """Neither when it ends later, nor in a reply that was not published yet."""
    conversation, secret = uuid4(), {"secret": "canary"}
    first, second = request(conversation), request(conversation)
    turns = [replace(each, body={**each.body, "metadata": secret}) for each in (first, second)]
    await take(database, *turns)
    await finish(database, await claim_one(database))
    running = await claim_one(database)
    told = await take(database, deletes=[ConversationRef("default", conversation)])

    late = await finish(database, running)

    assert late.announcements
    assert "canary" not in "".join(each.value for each in (*told.announcements, *late.announcements))
    assert "canary" not in "".join(each.value for each in await database.run("SELECT value FROM outbox"))


async def test_why_the_last_attempt_failed_is_kept_while_a_request_is_open(database: Database) -> None:
    """Also while the next attempt runs, and when that is interrupted; its answer ends it."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.PENDING, error=(ErrorCode.RATE_LIMITED, "not now"))
    turn = await claim_one(database)
    assert ("rate_limited", "in_progress") == (turn.last_error, (await row(database, asked.ref)).status)
    await finish(database, turn, Status.PENDING, give_try_back=True)
    assert ("rate_limited", "not now") == await last_error(database, asked.ref)

    await finish(database, await claim_one(database))

    assert (None, None) == await last_error(database, asked.ref)


@pytest.mark.parametrize("how", ["by its worker", "by the sweep"])
async def test_what_expires_keeps_why_it_was_not_answered(database: Database, how: str) -> None:
    """An expired request and its reply have no error, but the last error shows why there was no answer."""
    await take(database, asked := request())
    error = (ErrorCode.AUTH, "wrong key")
    if how == "by its worker":
        done = (await finish(database, await claim_one(database), Status.EXPIRED, error=error)).announcements
    else:
        await finish(database, await claim_one(database), Status.PENDING, error=error)
        await database.run("UPDATE requests SET deadline_at = now()")
        done = await endings.expire(database, 1)

    (found,) = (await requests.find(database, [asked.ref])).values()
    assert (Status.EXPIRED, None) == (found.resource.status, found.resource.error)
    assert RequestError(code=ErrorCode.AUTH, detail="wrong key") == found.resource.last_error
    assert Reply.model_validate_json(done[0].value).error is None


HELD = HeldModel("llama3", ErrorCode.RATE_LIMITED, "not now", 20.0)
ACCOUNT = frozenset({ErrorCode.AUTH})


async def hold_back(database: Database, held: HeldModel = HELD) -> endings.HeldBack:
    hopeless = {held.model} if held.code in ACCOUNT else set()
    return await endings.hold_back(database, [held], hopeless, 100)


async def test_what_waits_for_a_model_that_is_held_back_is_told_once(database: Database) -> None:
    """Those that may run and do not know: no attempt is counted, and they stay in their place."""
    await take(database, asked := request(), request(model="other"), request(not_before=datetime.now(UTC) + HOUR))
    before = await row(database, asked.ref)

    first, second = await hold_back(database), await hold_back(database)

    (told,) = first.told
    assert (asked.id, 0, ErrorCode.RATE_LIMITED, asked.body_hash) == (told.id, told.fence, told.code, told.body_hash)
    assert ("not now (the model is held back for 20 s)", 0) == (told.detail, first.refused)
    after = await row(database, asked.ref)
    assert (before.status, before.run_at, 0, 0) == (after.status, after.run_at, after.fence, after.tries)
    assert ([], 0, []) == (second.told, second.refused, second.announcements)
    assert await count(database, "attempt_errors") == 0


async def test_what_knows_why_it_waits_keeps_that(database: Database) -> None:
    """The error of a request's own attempt says more than another's."""
    await take(database, asked := request())
    await finish(database, await claim_one(database), Status.PENDING, error=(ErrorCode.BAD_UPSTREAM, "broke"))

    await hold_back(database)

    assert ("bad_upstream", "broke") == await last_error(database, asked.ref)


@pytest.mark.parametrize(
    ("code", "hold", "waited", "fails"),
    [
        (ErrorCode.AUTH, 5.0, 0, True),
        (ErrorCode.AUTH, 5.0, 50, True),
        (ErrorCode.AUTH, 5.0, 61, False),
        (ErrorCode.RATE_LIMITED, 5.0, 0, False),
        (ErrorCode.RATE_LIMITED, 5.0, 58, True),
        (ErrorCode.RATE_LIMITED, 90.0, 0, True),
        (ErrorCode.RATE_LIMITED, 90.0, 61, False),
    ],
)
async def test_a_caller_who_would_leave_before_the_hold_ends_is_told(
    database: Database, code: ErrorCode, hold: float, waited: int, fails: bool
) -> None:
    """The request fails at once, without an attempt, and the next one of its conversation may run; others wait on."""
    conversation = uuid4()
    await take(database, asked := request(conversation, caller_waits=True), second := request(conversation))
    moved = "UPDATE requests SET created_at = now() - make_interval(secs => :waited) WHERE id = :id"
    await database.run(moved, waited=waited, id=asked.id)

    done = await hold_back(database, HeldModel("llama3", code, "no", hold))

    assert (["failed", "pending"] if fails else ["pending", "waiting"]) == await statuses(database, [asked, second])
    assert (int(fails), int(not fails)) == (done.refused, len(done.told))
    if fails:
        reply = Reply.model_validate_json(done.announcements[0].value)
        assert reply.error
        assert (code, 0) == (reply.error.code, reply.attempts)


async def test_two_workers_that_tell_the_same_turns_tell_each_once(database: Database) -> None:
    """Neither worker waits for the other, and each turn is noted once."""
    await take(database, *(request(caller_waits=number % 2 == 0) for number in range(20)))
    held = HeldModel("llama3", ErrorCode.AUTH, "no", 20.0)

    done = await asyncio.gather(*(hold_back(database, held) for _ in range(4)))

    assert (10, 10) == (sum(len(each.told) for each in done), sum(each.refused for each in done))


async def test_the_next_turn_is_claimed_with_the_ending(database: Database) -> None:
    """The worker that ends a turn gets the one behind it in the same round trip, if it asks."""
    conversation, worker_id = uuid4(), await new_worker(database)
    first, second, third = (request(conversation) for _ in range(3))
    await take(database, first, second, third)
    turn = await claim_one(database, worker_id)

    done = await endings.finish(database, [ending(turn)], ClaimOrder(worker_id, 2, only_after_promotion=True))

    assert (1, [second.id]) == (done.promoted, [each.id for each in done.claimed])
    assert ["completed", "in_progress", "waiting"] == await statuses(database, [first, second, third])


async def test_endings_claim_what_else_is_runnable_only_if_it_is_known(database: Database) -> None:
    """An ending that promotes nothing claims other turns only for a worker that does not rule them out."""
    worker_id = await new_worker(database)
    for only_after_promotion, claimed in ((True, 0), (False, 1)):
        await take(database, request())
        turn = await claim_one(database, worker_id)
        await take(database, request())
        order = ClaimOrder(worker_id, 2, only_after_promotion=only_after_promotion)

        done = await endings.finish(database, [ending(turn)], order)

        assert claimed == len(done.claimed)
        for left in (*done.claimed, *await claim(database, worker_id)):
            await finish(database, left)


async def test_endings_without_a_lease_claim_nothing(database: Database) -> None:
    """A worker that has lost its lease can still write an ending, and gets no turn with it."""
    conversation, worker_id = uuid4(), await new_worker(database)
    await take(database, request(conversation), second := request(conversation))
    turn = await claim_one(database, worker_id)
    await database.run("DELETE FROM workers")

    done = await endings.finish(database, [ending(turn)], ClaimOrder(worker_id, 2))

    assert ([], ["pending"]) == (done.claimed, await statuses(database, [second]))
