"""Promises of orchestra/store/retention.py about conversations: hidden, not to be kept, or unused."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import branches, cancels, conversations, outbox, requests, retention
from orchestra.store.database import Database
from orchestra.store.intake import NewRequest
from orchestra.store.turns import ConversationRef
from schemas.status import Status
from tests.support.store import claim_one, count, finish, messages, request, take

DAYS = 30


def hidden() -> NewRequest:
    """A request in a conversation of its own, which has its id."""
    id = UUID(int=uuid4().int & ~(0xF << 76) | 8 << 76)
    assert id.version == 8
    return request(id, id=id)


def ref(conversation: UUID) -> ConversationRef:
    """A conversation of the default tenant."""
    return ConversationRef("default", conversation)


async def answer(database: Database, asked: NewRequest, status: Status = Status.COMPLETED, **more: Any) -> UUID:
    """Run a request to its end, and mark its reply as published. Its conversation."""
    await take(database, asked)
    done = await finish(database, await claim_one(database), status, **more)
    await outbox.mark_published(database, [each.id for each in done.announcements])
    return asked.conversation_id


async def age(database: Database, days: float, *conversations: UUID) -> None:
    """Make everything in these conversations this old, or in all of them."""
    for table, columns in (
        ("conversations", "created_at deleted_at"), ("messages", "created_at"), ("requests", "created_at finished_at"),
    ):  # fmt: skip
        name = "id" if table == "conversations" else "conversation_id"
        for column in columns.split():
            await database.run(
                f"UPDATE {table} SET {column} = {column} - make_interval(secs => :s) "
                f"WHERE CAST(:all AS boolean) OR {name} = ANY(CAST(:ids AS uuid[]))",
                s=days * 86_400, all=not conversations, ids=list(conversations),
            )  # fmt: skip


async def branched(database: Database, parent: UUID, asked: NewRequest) -> UUID:
    """Answer a request in its conversation, as a branch of another one at its end."""
    up_to = await branches.position(database, ref(parent))
    assert up_to is not None
    assert await branches.branch(database, ref(asked.conversation_id), None, ref(parent), up_to, {})
    return await answer(database, asked)


async def left(database: Database) -> set[UUID]:
    """The conversations that have a row."""
    return {row.id for row in await database.run("SELECT id FROM conversations")}


async def sweep(database: Database, limit: int = 100) -> None:
    """Sweep until nothing is left to do."""
    while await retention.sweep_old(database, DAYS, limit):
        pass


async def test_a_hidden_conversation_goes_with_its_request(database: Database) -> None:
    """With its messages and its row; other conversations stay, and so does a younger one."""
    old, other = await answer(database, hidden()), await answer(database, request())
    await age(database, 31)
    young = await answer(database, hidden())

    await sweep(database)

    assert {other, young} == await left(database)
    assert [0, 2, 2] == [len(await messages(database, each)) for each in (old, other, young)]
    assert 1 == await count(database, "requests")


async def test_a_hidden_conversation_that_goes_on_stays_with_its_request(database: Database) -> None:
    """Its own request is the last to go."""
    conversation = await answer(database, hidden())
    await age(database, 31)
    await answer(database, request(conversation))

    await sweep(database)
    assert (2, 4) == (await count(database, "requests"), len(await messages(database, conversation)))

    await age(database, 31)
    await sweep(database)
    assert set() == await left(database)


async def test_an_id_of_version_8_alone_deletes_nothing(database: Database) -> None:
    """A conversation that a client has given such an id is kept when its requests go."""
    chosen = hidden().id
    await answer(database, request(chosen))
    await age(database, 31)

    await sweep(database)

    assert ({chosen}, 0) == (await left(database), await count(database, "requests"))


@pytest.mark.parametrize("limit", [1, 100])
async def test_a_chain_of_branches_stays_until_the_last_of_them_goes(database: Database, limit: int) -> None:
    """Requests go in their time; what the last branch inherits stays with it, and goes with it."""
    chain = [await answer(database, hidden())]
    for _ in range(5):
        chain.append(await branched(database, chain[-1], hidden()))
    await age(database, 31, *chain[:-1])

    await sweep(database, limit)
    assert (set(chain), 1) == (await left(database), await count(database, "requests"))

    await age(database, 31, chain[-1])
    await sweep(database, limit)
    assert set() == await left(database)
    assert [0, 0, 0] == [await count(database, table) for table in ("requests", "messages", "branches")]


async def test_what_an_interrupted_sweep_leaves_is_found_by_a_walk(database: Database) -> None:
    """Branches whose requests are gone, and branches whose request never came, go with what only they needed."""
    chain = [await answer(database, hidden())]
    for _ in range(3):
        chain.append(await branched(database, chain[-1], hidden()))
    never = hidden().id
    assert await branches.branch(database, ref(never), None, ref(chain[0]), 0, {})
    await age(database, 31)
    await database.run("DELETE FROM requests")

    await retention.walk_branches(database, DAYS, 2)

    assert set() == await left(database)


async def test_a_deleted_branch_releases_what_only_it_needed(database: Database) -> None:
    """The row of a deleted branch stays, and what it was a branch of goes in its time."""
    first = await answer(database, hidden())
    second = await branched(database, first, hidden())
    deleted = await branched(database, second, request())
    await age(database, 31)
    await sweep(database)
    assert {first, second, deleted} == await left(database)

    async with database.transaction() as tx:
        await cancels.delete_conversations(tx, [ref(deleted)])
    await retention.walk_branches(database, DAYS, 100)

    assert {deleted} == await left(database)


async def test_a_request_that_must_not_be_kept_is_emptied_after_ten_minutes(database: Database) -> None:
    """Its messages, its body and its reply are removed, and nothing else of its conversation; repeating is harmless."""
    conversation, asked = await answer(database, request()), request()
    for each in (asked, failed := hidden(), young := hidden()):
        each.body["store"] = False
    asked = request(conversation, body=asked.body)
    await answer(database, asked)
    await answer(database, failed, Status.FAILED)
    await age(database, 11 / 1440)
    await answer(database, young)

    assert [2, 0] == [await retention.empty_not_kept(database, 100) for _ in range(2)]

    assert [2, 2] == [len(await messages(database, each)) for each in (conversation, young.id)]
    assert {young.ref} == set(await requests.find(database, [each.ref for each in (asked, failed, young)]))
    bodies = await database.run("SELECT id FROM requests WHERE body IS NULL")
    assert {asked.id, failed.id} == {row.id for row in bodies}
    replies = await database.run("SELECT value FROM outbox WHERE request_id = :id", id=asked.id)
    assert ["answer" in row.value for row in replies] == [False]


async def test_a_reply_that_is_not_published_keeps_its_texts(database: Database) -> None:
    """However long Kafka is away, the reply that must not be kept is sent first."""
    asked = hidden()
    asked.body["store"] = False
    await take(database, asked)
    done = await finish(database, await claim_one(database))
    await age(database, 1)

    assert 0 == await retention.empty_not_kept(database, 100)
    await outbox.mark_published(database, [each.id for each in done.announcements])
    assert 1 == await retention.empty_not_kept(database, 100)


async def test_unused_conversations_are_deleted(database: Database) -> None:
    """Those in which nothing has happened for the days that are set, with all that was said in them."""
    old, answered, empty = await answer(database, request()), await answer(database, request()), uuid4()
    await conversations.create(database, ref(empty), None, {"a": "b"})
    of_one_request = await answer(database, hidden())
    await age(database, 8)
    await answer(database, request(answered))
    young = await answer(database, request())

    assert 2 == await retention.walk_conversations(database, 7, 2)

    found = await conversations.page(database, "default", None, 10)
    assert {answered, young} == {each.id for each in found}
    assert [0, 4, 2, 2] == [len(await messages(database, each)) for each in (old, answered, young, of_one_request)]
    bodies = await database.run("SELECT conversation_id AS id FROM requests WHERE body IS NULL")
    assert [old] == [row.id for row in bodies]


async def test_a_conversation_with_an_open_turn_is_never_unused(database: Database) -> None:
    """However long a turn waits for its time, its conversation stays."""
    waits = await answer(database, request())
    await take(database, request(waits))
    await age(database, 365)

    assert 0 == await retention.walk_conversations(database, 7, 100)
    assert 2 == len(await messages(database, waits))


async def test_a_parent_is_used_as_long_as_a_branch_of_it(database: Database) -> None:
    """Then both go; a branch that is deleted does not keep its parent."""
    parent = await answer(database, request())
    await age(database, 8)
    branch = await branched(database, parent, request())

    assert 0 == await retention.walk_conversations(database, 7, 100)
    await age(database, 8, branch)
    assert [1, 1] == [await _walk(database) for _ in range(2)]
    assert 0 == await count(database, "messages")


async def _walk(database: Database) -> int:
    await retention.walk_branches(database, DAYS, 100)
    return await retention.walk_conversations(database, 7, 100)


async def test_a_deletion_that_was_interrupted_is_finished(database: Database) -> None:
    """What is marked as deleted and still has messages is emptied by the next walk."""
    conversation = await answer(database, request())
    await cancels.mark_deleted(database, ref(conversation))

    assert 0 == await retention.walk_conversations(database, 7, 100)

    assert 0 == await count(database, "messages")
    assert [None] == [row.body for row in await database.run("SELECT body FROM requests")]


async def test_the_row_of_a_deleted_conversation_goes_when_nothing_refers_to_it(database: Database) -> None:
    """After the days that are set, and not before its requests."""
    conversation = await answer(database, request())
    await age(database, 8)
    assert 1 == await retention.walk_conversations(database, 7, 100)
    await age(database, 8)
    await retention.walk_conversations(database, 7, 100)
    assert {conversation} == await left(database)

    await database.run("DELETE FROM requests")
    await retention.walk_conversations(database, 7, 100)

    assert set() == await left(database)


async def test_one_worker_walks_at_a_time(database: Database) -> None:
    """A walk is due once in each interval, for whichever worker asks first."""
    await database.run("UPDATE totals_due SET due_at = now() WHERE what = 'conversations'")

    assert [True, False] == [await retention.take_walk(database, 60) for _ in range(2)]
