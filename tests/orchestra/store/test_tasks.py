import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, tasks
from orchestra.store.database import Database
from orchestra.store.endings import Items
from orchestra.store.intake import NewRequest
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.api.requests import AttemptError
from schemas.api.tasks import TaskFilter, TaskResource
from schemas.errors import ErrorCode
from schemas.generation import Usage
from schemas.ids import conversation_id_for_request
from schemas.requests import Message, MessageRequested
from schemas.status import Status
from tests.support.store import claim_one, finish, messages, request, row, take, to_store

EVERYTHING = TaskFilter()


def task(
    prompt: str = "hello", *, type: str = "summarization", history: list[dict[str, str]] | None = None, **more: Any
) -> NewRequest:
    """A task, in a conversation of its own as HTTP makes it unless one is named."""
    body = MessageRequested.model_validate({"task_type": type, "prompt": prompt, "history": history})
    id = more.pop("id", None) or uuid4()
    fields = {
        "conversation": conversation_id_for_request(id),
        "body": body.model_dump(mode="json", exclude_none=True),
        "body_hash": body.body_hash(),
        "task_type": type,
        **more,
    }
    return request(id=id, **fields)


async def page(database: Database, filter: TaskFilter = EVERYTHING, **more: Any) -> list[TaskResource]:
    """The first page."""
    fields = {"only": None, "before": None, "limit": 100, **more}
    found, _ = await tasks.page(database, "default", filter=filter, **fields)
    return found


async def ids(database: Database, filter: TaskFilter = EVERYTHING, **more: Any) -> set[UUID]:
    """The ids on the first page."""
    return {each.id for each in await page(database, filter, **more)}


async def born(database: Database, each: NewRequest, at: datetime) -> None:
    """Act as if intake had written it then."""
    await database.run("UPDATE requests SET created_at = :at WHERE id = :id", at=at, id=each.id)


async def test_a_task_shows_what_it_is(database: Database) -> None:
    """A task shows what was asked and what was said before, whose it is, and where it stands."""
    deadline, not_before = datetime.now(UTC) + timedelta(hours=2), datetime.now(UTC) + timedelta(hours=1)
    said = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    old = uuid4()
    each = task("three", history=said, user="alice", priority=8, deadline=deadline, not_before=not_before, retry_of=old)
    await take(database, each)

    (found,) = await page(database)

    assert found == await tasks.get(database, each.ref, None)
    assert found.created_at is not None
    assert found == TaskResource(
        id=each.id,
        task_id=each.id,
        user_id="alice",
        task_type="summarization",
        prompt="three",
        history=[Message.model_validate(one) for one in said],
        status=Status.PENDING,
        created_at=found.created_at,
        conversation_id=each.conversation_id,
        model="llama3",
        priority=8,
        not_before=not_before,
        deadline=deadline,
        retry_of=old,
    )


async def test_the_result_of_a_completed_task_is_its_answer(database: Database) -> None:
    """A completed task has its answer as the result, its tokens, and when it began and ended."""
    each = task()
    await take(database, each)
    await finish(database, await claim_one(database), reply="short")

    found = await tasks.get(database, each.ref, None)

    assert found is not None
    assert (found.status, found.result, found.attempts) == (Status.COMPLETED, "short", 1)
    assert found.usage == Usage(input_tokens=1, output_tokens=2)
    assert found.started_at
    assert found.completed_at
    assert found.errors == []


async def test_a_failed_task_tells_why_each_attempt_failed(database: Database) -> None:
    """A failed task has the error's text as the result, and the errors of all its attempts in order."""
    each = task()
    await take(database, each)
    await finish(database, await claim_one(database), Status.PENDING, error=(ErrorCode.OVERLOADED, "busy"))
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "too slow"))

    found = await tasks.get(database, each.ref, None)

    assert found is not None
    assert (found.status, found.result, found.attempts) == (Status.FAILED, "too slow", 2)
    assert [(error.attempt, error.code, error.detail) for error in found.errors] == [
        (1, ErrorCode.OVERLOADED, "busy"),
        (2, ErrorCode.TIMEOUT, "too slow"),
    ]
    assert all(isinstance(error, AttemptError) and error.at.tzinfo for error in found.errors)


async def test_a_message_is_no_task(database: Database) -> None:
    """A request without a task_type is in no list, no count and not found."""
    message = request()
    await take(database, message)

    assert await page(database) == []
    assert await tasks.get(database, message.ref, None) is None
    assert await tasks.body(database, message.ref, None) is None
    assert not any((await tasks.count_by_status(database, "default", None)).values())
    assert not await tasks.remove(database, message.ref, message.conversation_id, None)


async def test_an_owner_sees_his_own_only(database: Database) -> None:
    """With an owner named, lists, counts, look-ups, cancels and removal see no other owner's tasks."""
    hers, his, nobodys = task(user="alice"), task(user="bob"), task()
    await take(database, hers, his, nobodys)

    assert await ids(database, only="alice") == {hers.id}
    assert await ids(database) == {hers.id, his.id, nobodys.id}
    assert await ids(database, TaskFilter(user="bob"), only="alice") == set()
    assert await tasks.get(database, his.ref, "alice") is None
    assert await tasks.body(database, his.ref, "alice") is None
    assert (await tasks.count_by_status(database, "default", "alice"))["pending"] == 1
    assert await tasks.count_by_type(database, "default", "alice") == {"summarization": 1}
    assert [each.id for each in await tasks.open_tasks(database, "default", "alice", EVERYTHING, 10)] == [hers.id]
    assert not await tasks.remove(database, his.ref, his.conversation_id, "alice")
    assert await tasks.get(database, his.ref, None)


async def test_another_tenants_tasks_are_not_there(database: Database) -> None:
    """A tenant sees nothing of another's, for any owner."""
    each = task(tenant="acme")
    await take(database, each)

    assert await page(database) == []
    assert await tasks.get(database, RequestRef("default", each.id), None) is None
    assert await tasks.open_tasks(database, "default", None, EVERYTHING, 10) == []
    assert not await tasks.remove(database, RequestRef("default", each.id), each.conversation_id, None)


@pytest.mark.parametrize(
    ("filter", "places"),
    [
        ({"status": "pending"}, {1, 2}),
        ({"status": "completed"}, {0}),
        ({"type": "analyst"}, {2}),
        ({"user": "bob"}, {1}),
        ({"user": "bob", "type": "analyst"}, set()),
        ({"created_after": "2026-01-02T00:00:00Z"}, {1, 2}),
        ({"created_before": "2026-01-02T00:00:00Z"}, {0}),
        ({"created_after": "2026-01-02T00:00:00", "created_before": "2026-01-03T00:00:00Z"}, {1}),
    ],
)
async def test_filters(database: Database, filter: dict[str, Any], places: set[int]) -> None:
    """Every condition must hold; a waiting task is pending; a period includes its start and not its end."""
    shared = uuid4()
    made = [task(), task(user="bob", conversation=shared), task(type="analyst", conversation=shared)]
    await take(database, made[0])
    await finish(database, await claim_one(database))
    await take(database, *made[1:])
    for day, each in enumerate(made):
        await born(database, each, datetime(2026, 1, 1 + day, tzinfo=UTC))

    assert await ids(database, TaskFilter.model_validate(filter)) == {made[place].id for place in places}


async def test_pages_go_on_where_the_last_one_ended(database: Database) -> None:
    """Pages show each task once, newest first, also among tasks of the same moment, and tell when there are more."""
    made = [task(str(number)) for number in range(7)]
    await take(database, *made)  # One transaction: one moment.
    for each in made[:2]:
        await born(database, each, datetime(2026, 1, 1, tzinfo=UTC))
    seen: list[TaskResource] = []
    before, more = None, True

    while more:
        found, more = await tasks.page(database, "default", None, EVERYTHING, before, 3)
        seen += found
        assert found[-1].created_at is not None
        before = found[-1].created_at, found[-1].id

    places = [(each.created_at, each.id) for each in seen]
    assert places == sorted(places, reverse=True, key=str)
    assert {each.id for each in seen} == {each.id for each in made}
    assert len(seen) == len(made)


async def test_long_texts_make_a_page_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would be too big ends earlier, has one task at least, and says that there are more."""
    monkeypatch.setattr(tasks, "PAGE_BYTES", 10)
    await take(database, task(), task(), task())

    found, more = await tasks.page(database, "default", None, EVERYTHING, None, 2)

    assert (len(found), more) == (1, True)


async def test_a_task_with_items_and_a_history_of_calls(database: Database) -> None:
    """A task shows the text and the items of its answer, and a history that has calls, results and parts."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    history = [
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "4"},
    ]  # fmt: skip
    question = {"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "text", "text": "?"}]}
    asked = replace(task(), body={"messages": [*history, question]})
    await take(database, asked)
    items = [{"type": "function_call", "call_id": "d", "name": "f", "arguments": "{}"}]
    await finish(database, await claim_one(database), reply="", items=Items(items, 1))

    found = await tasks.get(database, asked.ref, None)

    assert found
    assert ("Why?", "", items) == (found.prompt, found.result, found.output)
    first, second = json.loads(found.model_dump_json())["history"]
    assert ({"role": "assistant", "content": None, "tool_calls": [call]}, history[1]) == (first, second)


async def test_counts(database: Database) -> None:
    """Counts name every state, a waiting task is pending, and types are those that there are."""
    shared = uuid4()
    await take(database, task())
    await finish(database, await claim_one(database))
    await take(database, task(type="analyst"))
    await finish(database, await claim_one(database), Status.FAILED, error=(ErrorCode.TIMEOUT, "slow"))
    await take(database, task(conversation=shared))
    await claim_one(database)
    await take(database, task(conversation=shared), task(conversation=shared), request())

    counted = await tasks.count_by_status(database, "default", None)

    assert counted == {
        "pending": 2, "in_progress": 1, "completed": 1, "failed": 1, "cancelled": 0, "expired": 0,
    }  # fmt: skip
    assert await tasks.count_by_type(database, "default", None) == {"analyst": 1, "summarization": 4}


async def test_open_tasks_are_those_to_cancel(database: Database) -> None:
    """Open tasks come oldest first with their conversations, without those that a cancel has reached."""
    ended, first, second, running = task(), task(), task(), task()
    await take(database, ended)
    await finish(database, await claim_one(database))
    await take(database, running)
    await claim_one(database)
    await take(database, first)
    await take(database, second)

    found = await tasks.open_tasks(database, "default", None, EVERYTHING, 10)

    assert [(each.id, each.conversation_id) for each in found] == [
        (each.id, each.conversation_id) for each in (running, first, second)
    ]
    assert len(await tasks.open_tasks(database, "default", None, EVERYTHING, 2)) == 2
    every = [each.id for each in (ended, running, first, second)]
    assert await tasks.untouched(database, "default", every) == 3
    await take(database, cancels=[running.ref, first.ref])
    assert [each.id for each in await tasks.open_tasks(database, "default", None, EVERYTHING, 10)] == [second.id]
    assert await tasks.untouched(database, "default", every) == 1


async def test_an_ended_task_goes_with_its_texts(database: Database) -> None:
    """Removing an ended task takes its question and its answer out of every table, at once and for good."""
    each = task("secret question", conversation=uuid4())
    other = task("kept", conversation=each.conversation_id)
    await take(database, each)
    await finish(database, await claim_one(database), said=[to_store("user", "secret question")], reply="secret answer")
    await take(database, other)
    await finish(database, await claim_one(database), said=[to_store("user", "kept")], reply="kept answer")

    assert await tasks.remove(database, each.ref, each.conversation_id, None)

    assert await ids(database) == {other.id}
    assert await tasks.get(database, each.ref, None) is None
    assert (await row(database, each.ref)).body is None
    assert await messages(database, each.conversation_id) == [("user", "kept"), ("assistant", "kept answer")]
    outbox = await database.run("SELECT request_id, value FROM outbox ORDER BY id")
    assert ["answer" in line.value for line in outbox] == [False, True]
    assert not await tasks.remove(database, each.ref, each.conversation_id, None)


async def test_an_ended_task_goes_with_its_items(database: Database) -> None:
    """Removing an ended task takes the items of its answer out of a reply that is not published yet."""
    each = task("question", conversation=uuid4())
    await take(database, each)
    output = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "secret"}]
    await finish(database, await claim_one(database), reply="", items=Items(output, 9))

    assert await tasks.remove(database, each.ref, each.conversation_id, None)

    assert await messages(database, each.conversation_id) == []
    assert "secret" not in (await database.run("SELECT value FROM outbox"))[0].value


async def test_a_task_of_parts_shows_its_text(database: Database) -> None:
    """The prompt of a task whose message has parts is their text."""
    each = task("question")
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    each.body["messages"] = [{"role": "assistant", "tool_calls": calls}, {"role": "user", "content": parts}]
    await take(database, each)

    shown = await tasks.get(database, each.ref, None)

    assert shown
    assert ("What is it?", calls) == (shown.prompt, shown.history[0].tool_calls)


async def test_an_open_task_is_gone_at_once_and_emptied_when_it_ends(database: Database) -> None:
    """A removed task that runs is not seen any more, and its answer is discarded when it ends."""
    each = task("secret question", conversation=uuid4())
    await take(database, each)
    turn = await claim_one(database)

    assert await tasks.remove(database, each.ref, each.conversation_id, None)

    assert await page(database) == []
    assert not any((await tasks.count_by_status(database, "default", None)).values())
    assert (await row(database, each.ref)).body is not None
    await finish(database, turn, said=[to_store("user", "secret question")], reply="secret answer")
    assert (await row(database, each.ref)).body is None
    assert await messages(database, each.conversation_id) == []
    assert "answer" not in (await database.run("SELECT value FROM outbox"))[0].value


async def test_a_removed_task_is_emptied_by_its_cancel(database: Database) -> None:
    """A removed task that waits keeps no text once its cancel is processed."""
    each = task(conversation=uuid4())
    await take(database, each)
    assert await tasks.remove(database, each.ref, each.conversation_id, None)

    await take(database, cancels=[each.ref])

    found = await row(database, each.ref)
    assert (found.status, found.body) == ("cancelled", None)


async def test_a_task_goes_with_its_conversation(database: Database) -> None:
    """Tasks of a deleted conversation do not exist, before its record is processed and after."""
    each = task()
    await take(database, each)
    conversation = ConversationRef("default", each.conversation_id)

    await cancels.mark_deleted(database, conversation)
    assert await page(database) == []
    assert await tasks.get(database, each.ref, None) is None
    assert not await tasks.remove(database, each.ref, each.conversation_id, None)
    await take(database, deletes=[conversation])
    assert await page(database) == []


async def test_alone(database: Database) -> None:
    """A task is alone in the conversation that was made for it, until another request or a message is in it too."""
    lone, chosen, shared, written = task(), task(conversation=uuid4()), task(), task()
    await take(database, lone, chosen, shared, written)
    await take(database, request(shared.conversation_id))
    await database.run(
        "INSERT INTO messages (conversation_id, role, content) VALUES (:id, 'user', 'by hand')",
        id=written.conversation_id,
    )

    made = [lone, chosen, shared, written]
    assert [await tasks.alone(database, each.ref, each.conversation_id) for each in made] == [True, False, False, False]


async def test_body(database: Database) -> None:
    """The body of a task comes back as it was sent."""
    each = task("again", history=[{"role": "user", "content": "before"}])
    await take(database, each)

    assert await tasks.body(database, each.ref, None) == each.body
