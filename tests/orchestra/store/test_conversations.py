"""Promises of orchestra/store/conversations.py: conversations are created, listed and shown by their owner."""

from uuid import UUID, uuid4

from orchestra.store import cancels, conversations
from orchestra.store.database import Database
from orchestra.store.turns import ConversationRef
from tests.support.plans import noted, rows_read
from tests.support.store import claim_one, finish, request, take


async def test_a_conversation_is_made_once(database: Database) -> None:
    """Creating one again reports that it exists; another tenant's with the same id is another conversation."""
    id = uuid4()

    made = [await conversations.create(database, (tenant, id), None, {"a": "b"}) for tenant in ("t", "t", "other")]

    assert [True, False, True] == made
    found = await conversations.get(database, ("t", id))
    assert found is not None
    assert ({"a": "b"}, []) == (found.metadata, found.open_requests)


async def test_open_requests_are_shown_in_their_order(database: Database) -> None:
    """Ended requests are not among the open ones."""
    conversation = uuid4()
    turns = [request(conversation) for _ in range(3)]
    await take(database, *turns)
    await finish(database, await claim_one(database))

    found = await conversations.get(database, ("default", conversation))

    assert found is not None
    assert [turns[1].id, turns[2].id] == found.open_requests


async def test_ended_turns_are_not_read(database: Database) -> None:
    """However many turns of a conversation have ended, a look reads the open ones; a list reads its first words too."""
    conversation = uuid4()
    await take(database, *(request(conversation) for _ in range(40)))
    for _ in range(38):
        await finish(database, await claim_one(database))
    # The planner knows how many have ended, and no entry of an index is left of what they were before.
    await database.run("VACUUM ANALYZE requests, conversations")
    with noted("run") as asked:
        await conversations.get(database, ("default", conversation))
        await conversations.page(database, "default", None, 10)

    # In order: a bitmap would count the entry of an index beside its row.
    assert [3, 4] == [await rows_read(database.run_in_order, sql, **values) for sql, values in asked]


async def test_a_deleted_conversation_is_gone_and_its_id_is_taken(database: Database) -> None:
    """A deleted conversation is neither shown nor listed, and cannot be created again."""
    id = uuid4()
    await conversations.create(database, ("t", id), None, {})
    await cancels.mark_deleted(database, ConversationRef("t", id))

    assert await conversations.get(database, ("t", id)) is None
    assert await conversations.page(database, "t", None, 10) == []
    assert await conversations.create(database, ("t", id), None, {}) is False


async def test_the_conversation_of_one_request_is_not_listed(database: Database) -> None:
    """A conversation with an id as only requests have, of version 8, is found by its id alone."""
    shown, hidden = uuid4(), UUID("01890a5d-ac96-8b7c-9f39-0d9b6f0f6a01")
    for id in (shown, hidden):
        await conversations.create(database, ("t", id), "alice", {})

    for only in (None, "alice"):
        assert [shown] == [each.id for each in await conversations.page(database, "t", None, 10, only)]
        assert await conversations.get(database, ("t", hidden), only) is not None


async def test_lists_show_how_conversations_begin(database: Database) -> None:
    """A list has the beginning of what a user said first, however much came before and after; and none before that."""
    conversation = uuid4()
    await conversations.create(database, ("default", conversation), None, {})
    (before,) = await conversations.page(database, "default", None, 10)
    for role, text in (("system", "Be brief."), ("user", "é" * 5000), ("assistant", "Yes?"), ("user", "And then?")):
        await database.run(
            "INSERT INTO messages (conversation_id, role, content) VALUES (:conversation, :role, :text)",
            conversation=conversation, role=role, text=text,
        )  # fmt: skip
    (after,) = await conversations.page(database, "default", None, 10)

    assert (None, "é" * 100) == (before.beginning, after.beginning)


async def test_pages_show_each_conversation_once_newest_first(database: Database) -> None:
    """Pages include those created at the same moment, and never another tenant's."""
    ids = [uuid4() for _ in range(5)]
    async with database.transaction() as tx:
        for id in ids:
            await tx.run("INSERT INTO conversations (tenant, id) VALUES ('t', :id)", id=id)
    newest = uuid4()
    await conversations.create(database, ("t", newest), None, {})
    await conversations.create(database, ("other", uuid4()), None, {})
    seen = []
    before = None
    while page := await conversations.page(database, "t", before, 2):
        seen += [each.id for each in page]
        before = page[-1].created_at, page[-1].id

    assert newest == seen[0]
    assert sorted([newest, *ids]) == sorted(seen)
