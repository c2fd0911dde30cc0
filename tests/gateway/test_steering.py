"""Promises of gateway/steering.py and gateway/retries.py: one request or many, and why some are left alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from gateway import steering as parts
from gateway.bulk import Bulk
from gateway.drain import Drain
from gateway.following.events import Hub
from gateway.following.lookup import Lookup
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.quotas import Parking
from gateway.retries import Retries
from gateway.steering import Steering
from gateway.submission import Submission
from gateway.submit import Submissions
from gateway.timings import Timings
from orchestra.agents.catalogue import Agents
from orchestra.receipts import Receipts
from orchestra.store import audit, branches, cancels, progress, requests
from orchestra.store.audit import Author
from orchestra.store.database import Database
from orchestra.store.intake import NewRequest
from orchestra.store.progress import IntakeProgress
from orchestra.store.turns import ConversationRef
from schemas.api.audit import Action, AuditFilter
from schemas.api.keys import Scope
from schemas.api.requests import RequestFilter
from schemas.api.steering import (
    CancelRequests,
    ChangeRequest,
    ChangeRequests,
    RequestsChanged,
    RequestsDone,
    RetryRequests,
    SkipCode,
)
from schemas.changes import Change
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageRequested
from schemas.status import Status
from schemas.topics import REQUESTS
from tests.support.events import SIGNER
from tests.support.store import claim, count, finish, new_worker, request, row, statuses, take

ADA = Principal("default", "ada", frozenset({Scope.READ, Scope.WRITE}), user_id=uuid4())
BOB = Principal("default", "bob", frozenset({Scope.READ, Scope.WRITE}), user_id=uuid4())
OPERATOR = Principal("default", "key:op", frozenset({Scope.OPERATE}), key_id="op")
HOUR = timedelta(hours=1)
BY = Author("default", "user:ada", Action.REQUEST_RETRY)


@dataclass
class World:
    """A service whose records are taken in at once. ``errors``: what refuses a retry, by the text of the message."""

    database: Database
    errors: dict[str, ErrorCode] = field(default_factory=dict)
    sent: list[Submission] = field(default_factory=list)
    cancelled: list[UUID] = field(default_factory=list)
    room: int | None = None
    full: bool = False

    def __post_init__(self) -> None:
        around: Any = self
        receipts, hub, drain = Receipts([b"x" * 32]), Hub(Metrics(), 1024 * 1024, SIGNER), Drain()
        self.lookup = lookup = Lookup(self.database, receipts)
        timings = Timings(look_for_row=0.001)
        submissions = Submissions(receipts, around, around, Agents.load(None), lookup, hub, drain, timings)
        bulk, retries = Bulk(self.database, submissions, drain, timings), Retries(self.database, submissions, 5, None)
        self.steering = Steering(self.database, submissions, around, bulk, lookup, hub, around, retries, 5)

    def check(self, *_: Any) -> None:
        """The limits of new requests."""
        if self.full:
            raise OrchestraError(ErrorCode.TOO_MANY_OPEN)

    async def message(self, submission: Submission) -> None:
        """Accept a message and take it in."""
        body = submission.body
        assert isinstance(body, MessageRequested)
        if error := self.errors.get(str(body.messages[-1].content)):
            raise OrchestraError(error)
        assert submission.change
        assert {"retried_as": str(submission.id)} == submission.change.after
        self.sent.append(submission)
        taken = request(
            submission.conversation_id, id=submission.id, user=submission.caller.user or None,
            task_type=body.task_type, retry_of=body.retry_of, priority=5 if body.priority is None else body.priority,
            on_busy=body.on_busy or "enqueue",
        )  # fmt: skip
        dumped = body.model_dump(mode="json", exclude_none=True)
        await take(self.database, NewRequest(**{**_fields(taken), "body": dumped, "body_hash": submission.body_hash}))

    async def cancel(self, _caller: Principal, id: UUID, _conversation_id: UUID | None, change: Change) -> None:
        """Accept a cancel and take it in."""
        assert (f"requests/{id}", {"cancel_requested": True}) == (change.target, change.after)
        self.cancelled.append(id)
        async with self.database.transaction() as tx:
            await cancels.cancel(tx, [ADA.request(id)])

    def check_parked(self, _caller: Principal, not_before: datetime | None) -> None:
        """The limit of delayed requests."""
        if self.room == 0 and not_before:
            raise OrchestraError(ErrorCode.TOO_MANY_PARKED)

    async def parking(self, _tenant: str, owners: set[str], not_before: datetime | None) -> Parking | None:
        """The room for delayed requests of each owner."""
        return Parking({None: 100, **dict.fromkeys(owners, self.room)}) if self.room is not None else None

    async def failed(self, *given: NewRequest, status: Status = Status.FAILED) -> None:
        """Take these in, and end them in their order."""
        await take(self.database, *given)
        worker, left = await new_worker(self.database), {each.id for each in given}
        while left:
            for turn in await claim(self.database, worker):
                error = (ErrorCode.TIMEOUT, "late") if status is Status.FAILED else None
                await finish(self.database, turn, status, error=error)
                left.discard(turn.id)

    def texts(self) -> list[Any]:
        """The last messages of all that was sent."""
        return [each.body.messages[-1].content for each in self.sent]


def _fields(given: NewRequest) -> dict[str, Any]:
    return {name: value for name, value in vars(given).items() if name not in ("ref", "conversation")}


def skipped(done: RequestsDone) -> dict[str, int]:
    assert done.matched == done.done + sum(each.count for each in done.skipped)
    return {each.code.value: each.count for each in done.skipped}


@pytest.fixture
async def world(database: Database) -> World:
    return World(database)


async def refused(call: Any) -> ErrorCode:
    with pytest.raises(OrchestraError) as caught:
        await call
    return caught.value.code


async def outcome(call: Any) -> ErrorCode | None:
    """The error of a call; None if it succeeds."""
    try:
        await call
    except OrchestraError as error:
        return error.code
    return None


async def test_a_retry_is_a_new_request_at_the_end_of_the_conversation(world: World) -> None:
    """It has the same body and owner without times and on_busy; the old one stays, and a repeat makes no other."""
    talk = uuid4()
    old = request(talk, text="again", user="ada", deadline=datetime.now(UTC) + HOUR)
    old.body.update(priority=9, deadline="2026-01-01T00:00:00Z", on_busy="interrupt", metadata={"a": "b"})
    await world.failed(old)
    await take(world.database, behind := request(talk, user="ada"))
    before = await row(world.database, old.ref)

    first = await world.steering.retry(ADA, old.id, None, None, BY)
    second = await world.steering.retry(ADA, old.id, None, None, BY)
    another = await world.steering.retry(ADA, old.id, "once more", None, BY)

    assert (first.id, first.retry_of, Status.PENDING) == (second.id, old.id, first.status)
    assert {old.id, first.id, another.id} == {old.id, first.id, another.id, second.id}
    body = world.sent[0].body.model_dump(exclude_none=True)
    assert {"conversation_id": talk, "priority": 5, "metadata": {"a": "b"}, "retry_of": old.id} == {
        name: value for name, value in body.items() if name != "messages"
    }
    assert (["again", "again"], "ada") == (world.texts(), world.sent[0].caller.user)
    assert ["pending", "waiting"] == [
        (await row(world.database, ADA.request(id))).status for id in (behind.id, first.id)
    ]
    assert before == await row(world.database, old.ref)


async def test_what_cannot_be_retried_is_refused(world: World) -> None:
    """An open request, an answered one, one without a body, one whose retry was deleted, and another user's."""
    open_, answered, emptied, theirs, deleted = (request(user="ada") for _ in range(5))
    await world.failed(answered, status=Status.COMPLETED)
    await world.failed(emptied, theirs, deleted)
    await take(world.database, open_)
    await world.database.run("UPDATE requests SET body = NULL WHERE id = :id", id=emptied.id)
    gone = await world.steering.retry(ADA, deleted.id, None, None, BY)
    await world.database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=gone.id)

    for each in (open_, answered, emptied, deleted):
        assert ErrorCode.NOT_RETRYABLE == await refused(world.steering.retry(ADA, each.id, None, None, BY))
    for id in (theirs.id, uuid4()):
        assert ErrorCode.NOT_FOUND == await refused(world.steering.retry(BOB, id, None, None, BY))
    assert [gone.id] == [each.id for each in world.sent]


async def test_an_operator_acts_for_the_owners_and_reads_nothing(world: World) -> None:
    """A retry belongs to the old owner, or to the tenant; what it said and was answered is not shown."""
    old, tenants = request(user="ada"), request()
    old.body["metadata"] = {"secret": "word"}
    await world.failed(old, tenants)
    await world.failed(answered := request(user="ada"), status=Status.COMPLETED)
    await take(world.database, waits := request(user="ada", text="w"))

    retried = await world.steering.retry(OPERATOR, old.id, None, None, BY)
    await world.steering.retry(OPERATOR, tenants.id, None, None, BY)
    changed, warnings = await world.steering.change(OPERATOR, waits.id, ChangeRequest(priority=8), BY)
    ended = await world.steering.cancel(OPERATOR, answered.id, BY)

    assert ["ada", ""] == [each.caller.user for each in world.sent]
    assert {None} == {retried.metadata, ended.reply, ended.output, changed.metadata}
    assert ("completed", ["priority"]) == (ended.status, list(warnings))
    assert 5 == (await row(world.database, waits.ref)).priority
    shown = await world.steering.cancel(ADA, answered.id, BY)
    assert "answer" == shown.reply
    assert {"secret": "word"} == (await world.steering.retry(ADA, old.id, None, None, BY)).metadata


async def test_a_row_that_is_written_during_the_call_shows_no_texts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator that cancels a request while it is read gets it as always, without what was answered."""
    id = Receipts([b"x" * 32]).mint("default", "ada", datetime.now(UTC) - HOUR)
    await world.failed(request(id=id, user="ada"), status=Status.COMPLETED)
    await progress.note_progress(world.database, [IntakeProgress(REQUESTS.name, 0, 0, datetime.now(UTC))])
    find, looks = requests.find, list[int]()

    async def late(database: Database, refs: Any) -> Any:
        looks.append(len(refs))
        return await find(database, refs) if len(looks) > 1 else {}

    monkeypatch.setattr(world.lookup._rows, "_find", late)
    shown = await world.steering.cancel(OPERATOR, id, BY)

    assert (2, Status.COMPLETED, None) == (len(looks), shown.status, shown.reply)


@pytest.mark.parametrize("door", ["chat", "responses"])
async def test_a_conversation_of_one_request_stays_with_it(world: World, door: str) -> None:
    """The retry of a request of OpenAI's API has one of its own, with the same beginning; a refused one has none."""
    await world.failed(parent := request(user="ada"), status=Status.COMPLETED)
    place = await branches.last_message(world.database, parent.ref)
    id = uuid4()
    old = request(id, id=id, user="ada")
    old.body.update(conversation_id=str(id), door=door, context="stored" if door == "responses" else "given")
    if door == "responses":
        assert place
        await branches.branch(world.database, old.conversation, "ada", *place, {})
    await world.failed(old)

    world.full = True
    assert ErrorCode.TOO_MANY_OPEN == await refused(world.steering.retry(ADA, id, None, None, BY))
    assert int(door == "responses") == await count(world.database, "branches")
    world.full = False
    again = await world.steering.retry(ADA, id, None, None, BY)

    assert again.id == again.conversation_id
    found = await branches.place_of(world.database, ConversationRef("default", again.id))
    assert found == (place if door == "responses" else None)
    if door == "responses":
        await cancels.mark_deleted(world.database, parent.conversation)
        assert ErrorCode.CONVERSATION_DELETED == await refused(world.steering.retry(ADA, id, "once more", None, BY))
        counted = await world.steering.retry_all(ADA, RetryRequests(ids=[id]), "again", None, BY)
        assert {"conversation_deleted": 1} == skipped(counted)


async def test_a_task_without_a_conversation_has_one_of_its_own_again(world: World) -> None:
    """By either route the retry of a task is the same request."""
    made = request(task_type="analyst", user="ada")
    await world.failed(made)

    again = await world.steering.retry(ADA, made.id, None, None, BY)

    assert world.sent[0].id == again.id
    assert made.conversation_id == again.conversation_id  # It named one.


async def test_many_are_retried_in_the_order_of_their_conversations(world: World) -> None:
    """All that match and can be retried, once; the others are counted by reason."""
    talk = uuid4()
    turns = [request(talk, text=f"t{number}", user="ada") for number in range(30)]
    await world.failed(*turns)
    await world.failed(request(user="ada", text="answered"), status=Status.COMPLETED)
    await world.failed(request(user="bob", text="theirs"))
    await world.failed(empty := request(user="ada"))
    await world.database.run("UPDATE requests SET body = NULL WHERE id = :id", id=empty.id)
    await take(world.database, request(user="ada", text="open"))
    wanted = RetryRequests(filter=RequestFilter(created_after=datetime(2000, 1, 1, tzinfo=UTC)))

    counted = await world.steering.retry_all(ADA, wanted.model_copy(update={"dry_run": True}), None, None, BY)
    assert (30, {"not_kept": 1}, []) == (counted.done, skipped(counted), world.sent)
    done = await world.steering.retry_all(ADA, wanted, None, None, BY)

    assert (30, {"not_kept": 1}, False, None) == (done.done, skipped(done), done.more, done.next)
    assert [f"t{number}" for number in range(30)] == world.texts()
    repeated = await world.steering.retry_all(ADA, wanted, None, None, BY)
    assert (0, {"not_kept": 1, "retried": 30}) == (repeated.done, skipped(repeated))


async def test_a_repeat_by_filter_retries_no_retry(world: World) -> None:
    """Retries that failed are skipped by name, with and without a key; by its id each is retried, once."""
    old = request(user="ada")
    await world.failed(old)
    wanted = RetryRequests(filter=RequestFilter(status=Status.FAILED))
    for key in (None, "one"):
        assert 1 == (await world.steering.retry_all(ADA, wanted, key, None, BY)).done
        for turn in await claim(world.database, await new_worker(world.database)):
            await finish(world.database, turn, Status.FAILED, error=(ErrorCode.TIMEOUT, "late"))

        repeated = await world.steering.retry_all(ADA, wanted, key, None, BY)
        assert (0, {"retried": 1, "is_retry": len(world.sent)}) == (repeated.done, skipped(repeated))

    named = RetryRequests(ids=[old.id, *(each.id for each in world.sent)])
    assert 2 == (await world.steering.retry_all(ADA, named, None, None, BY)).done
    assert (0, {"retried": 3}) == (
        (again := await world.steering.retry_all(ADA, named, None, None, BY)).done, skipped(again),
    )  # fmt: skip


async def test_ids_that_cannot_be_retried_are_counted(world: World) -> None:
    """Each id counts once: unknown ones, open ones, answered ones, and those of others."""
    good, answered, open_, theirs = (request(user=user) for user in ("ada", "ada", "ada", "bob"))
    await world.failed(good, theirs)
    await world.failed(answered, status=Status.COMPLETED)
    await take(world.database, open_)
    ids = [each.id for each in (good, answered, open_, theirs, good)]

    done = await world.steering.retry_all(ADA, RetryRequests(ids=[*ids, uuid4()]), None, None, BY)

    assert (1, {"completed": 1, "not_ended": 1, "not_found": 2}) == (done.done, skipped(done))


async def test_no_retry_overtakes_one_that_may_be_accepted_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind it, those of its conversation are skipped, in this batch and in the next; others are accepted."""
    monkeypatch.setattr(parts, "_RETRIES_AT_ONCE", 2)
    talk, other = uuid4(), uuid4()
    for text, place in (("a", talk), ("full", talk), ("b", talk), ("wrong", other), ("c", other), ("d", talk)):
        await world.failed(request(place, text=text, user="ada"))
    world.errors = {"full": ErrorCode.TOO_MANY_OPEN, "wrong": ErrorCode.UNKNOWN_MODEL}

    done = await world.steering.retry_all(
        ADA, RetryRequests(filter=RequestFilter(status=Status.FAILED)), None, None, BY
    )

    assert ({"a", "c"}, 2) == (set(world.texts()), done.done)
    assert {"too_many_open": 3, "unknown_model": 1} == skipped(done)
    world.errors = {}
    done = await world.steering.retry_all(
        ADA, RetryRequests(filter=RequestFilter(status=Status.FAILED)), None, None, BY
    )
    assert [text for text in world.texts() if text in ("full", "b", "d")] == ["full", "b", "d"]


async def test_a_call_that_takes_long_ends_with_a_cursor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call goes on where it stopped, by filter and by ids."""
    monkeypatch.setattr(parts, "_MAX_SECONDS", -1.0)
    monkeypatch.setattr(parts, "_RETRIES_AT_ONCE", 2)
    given = [request(text=str(number), user="ada") for number in range(5)]
    for each in given:
        await world.failed(each)

    ways: list[Callable[[str | None], RetryRequests]] = [
        lambda cursor: RetryRequests(filter=RequestFilter(status=Status.FAILED), cursor=cursor),
        lambda cursor: RetryRequests(ids=[uuid4(), *(each.id for each in given)], cursor=cursor),
    ]
    for key, selection in zip(("one", "two"), ways, strict=True):
        calls, cursor = [], None
        while not calls or cursor:
            calls.append(await world.steering.retry_all(ADA, selection(cursor), key, None, BY))
            cursor = calls[-1].next
        assert [2, 2, 1] == [each.done for each in calls]
        assert [True, True, False] == [each.more for each in calls]
    assert {"not_found": 1} == skipped(calls[0])
    assert [str(number) for number in range(5)] * 2 == world.texts()


async def test_a_change_that_takes_long_ends_with_a_cursor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call goes on where it stopped, and changes no request a second time."""
    monkeypatch.setattr(parts, "_MAX_SECONDS", -1.0)
    monkeypatch.setattr(parts, "_CHANGES_AT_ONCE", 2)
    await take(world.database, *(request(user="ada") for _ in range(5)))

    calls: list[RequestsChanged] = []
    while not calls or calls[-1].next:
        cursor = calls[-1].next if calls else None
        wanted = ChangeRequests(
            filter=RequestFilter(status=Status.PENDING), change=ChangeRequest(priority=3), cursor=cursor
        )
        calls.append(await world.steering.change_all(ADA, wanted, BY))

    assert [(2, True), (2, True), (1, False)] == [(each.done, each.more) for each in calls]


async def test_many_are_cancelled_the_last_turn_of_a_conversation_first(world: World) -> None:
    """Open ones that match; ids of ended, cancelled and unknown ones are counted, and other users' are unknown."""
    talk = uuid4()
    turns = [request(talk, user="ada") for _ in range(4)]
    await take(world.database, *turns, theirs := request(user="bob"))
    wanted = CancelRequests(filter=RequestFilter(model="llama3"))

    counted = await world.steering.cancel_all(ADA, wanted.model_copy(update={"dry_run": True}), BY)
    assert (4, []) == (counted.done, world.cancelled)
    done = await world.steering.cancel_all(ADA, wanted, BY)

    assert (4, 4, []) == (done.matched, done.done, done.skipped)
    assert [each.id for each in reversed(turns)] == world.cancelled
    assert ["cancelled"] * 4 + ["pending"] == await statuses(world.database, [*turns, theirs])
    again = await world.steering.cancel_all(ADA, CancelRequests(ids=[turns[0].id, theirs.id, uuid4()]), BY)
    assert (0, {"ended": 1, "not_found": 2}) == (again.done, skipped(again))
    one = await world.steering.cancel_all(OPERATOR, CancelRequests(ids=[theirs.id]), BY)
    assert (1, "own", "tenant") == (one.done, again.scope, one.scope)


async def test_a_cancel_by_id_reaches_a_request_on_its_way(world: World) -> None:
    """An id that a gateway gave out and that no worker has read yet is cancelled, not unknown."""
    id = Receipts([b"x" * 32]).mint("default", "ada", datetime.now(UTC))

    done = await world.steering.cancel_all(ADA, CancelRequests(ids=[id]), BY)

    assert ([id], 1) == (world.cancelled, done.done)
    assert ErrorCode.UNAVAILABLE == await refused(world.steering.change(ADA, id, ChangeRequest(priority=1), BY))
    assert ErrorCode.NOT_RETRYABLE == await refused(world.steering.retry(ADA, id, None, None, BY))


async def test_many_are_changed(world: World) -> None:
    """All that no worker runs yet; a priority above the caller's is lowered, and the answer says so."""
    waiting = [request(user="ada") for _ in range(3)]
    await take(world.database, *waiting, theirs := request(user="bob"))
    wanted = ChangeRequests(
        filter=RequestFilter(status=Status.PENDING), change=ChangeRequest(priority=9, deadline=None)
    )

    deadlines = [(await row(world.database, each.ref)).deadline_at for each in waiting]
    dry = await world.steering.change_all(ADA, wanted.model_copy(update={"dry_run": True}), BY)
    assert deadlines == [(await row(world.database, each.ref)).deadline_at for each in waiting]
    done = await world.steering.change_all(ADA, wanted, BY)

    assert (3, 3, ["priority"]) == (dry.done, done.done, done.warnings)
    later = [(await row(world.database, each.ref)).deadline_at for each in waiting]
    assert all(old < new for old, new in zip(deadlines, later, strict=True))
    same = ChangeRequests(ids=[each.id for each in (*waiting, theirs)], change=ChangeRequest(priority=5))
    entries = (await audit.page(world.database, "default", AuditFilter(), None, 100)).data
    assert sorted(f"requests/{each.id}" for each in waiting) == sorted(each.target for each in entries)
    assert ({"priority", "deadline"}, {5}) == (
        {*(entries[0].before or {})},
        {(e.after or {})["priority"] for e in entries},
    )
    assert {"not_found": 1, "unchanged": 3} == skipped(await world.steering.change_all(ADA, same, BY))


async def test_one_call_parks_no_more_than_there_is_room_for(world: World) -> None:
    """A change of many counts what it has parked itself; what waits already may wait longer."""
    waiting = [request(user="ada") for _ in range(3)]
    await take(world.database, *waiting, theirs := request(user="bob"))
    delays = [ChangeRequest(not_before=datetime.now(UTC) + timedelta(minutes=minutes)) for minutes in (5, 6)]
    ids = [each.id for each in (*waiting, theirs)]

    world.room = 1
    first = await world.steering.change_all(OPERATOR, ChangeRequests(ids=ids, change=delays[0]), BY)
    world.room = 0
    second = await world.steering.change_all(OPERATOR, ChangeRequests(ids=ids, change=delays[1]), BY)
    outcomes = [await outcome(world.steering.change(ADA, each.id, delays[0], BY)) for each in waiting]

    assert (2, {"too_many_parked": 2}) == (first.done, skipped(first))
    assert (2, {"too_many_parked": 2}) == (second.done, skipped(second))
    assert [ErrorCode.TOO_MANY_PARKED] * 2 + [None] == sorted(outcomes, key=lambda code: code is None)


async def test_what_cannot_be_changed_is_refused(world: World) -> None:
    """An empty change, times that cannot be, and requests that run, have ended or are another user's."""
    await world.failed(ended := request(user="ada"))
    await take(world.database, open_ := request(user="ada"))
    now = datetime.now(UTC)
    change = world.steering.change

    assert ErrorCode.NOTHING_TO_CHANGE == await refused(change(ADA, open_.id, ChangeRequest(), BY))
    late = ChangeRequest(not_before=now + 2 * HOUR)
    assert ErrorCode.INVALID_REQUEST == await refused(change(ADA, open_.id, late, BY))
    far = ChangeRequest(deadline=now + timedelta(days=8))
    assert ErrorCode.INVALID_REQUEST == await refused(change(ADA, open_.id, far, BY))
    assert ErrorCode.NOT_CHANGEABLE == await refused(change(ADA, ended.id, ChangeRequest(priority=1), BY))
    for id in (open_.id, uuid4()):
        assert ErrorCode.NOT_FOUND == await refused(change(BOB, id, ChangeRequest(priority=1), BY))
    await claim(world.database, await new_worker(world.database))
    assert ErrorCode.NOT_CHANGEABLE == await refused(change(ADA, open_.id, ChangeRequest(priority=1), BY))


def test_the_codes_are_a_closed_list() -> None:
    """Those of errors have the names of the errors, so that one page explains both."""
    own = """ended in_progress cancelling unchanged not_before_deadline
        not_ended completed retried is_retry not_kept""".split()

    assert set(own) == {code.value for code in SkipCode} - {code.value for code in ErrorCode}


@pytest.mark.parametrize(
    "selection", [{}, {"ids": []}, {"filter": {}}, {"ids": [str(uuid4())], "filter": {"status": "failed"}}]
)
def test_a_selection_names_something_in_one_way(selection: dict[str, Any]) -> None:
    """A call without ids and without a condition would act on everything by mistake."""
    with pytest.raises(ValueError, match=r"ids|filter"):
        CancelRequests.model_validate(selection)
