"""Promises of orchestra/store/messages.py: what was said, and how much of it is loaded for a prompt."""

from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, messages
from orchestra.store.database import Database
from orchestra.store.messages import Recall
from tests.support.store import claim_one, finish, request, take


async def say(database: Database, conversation: UUID, *turns: tuple[str, str]) -> None:
    """Turns of a conversation, as question and answer."""
    for question, answer in turns:
        await take(database, request(conversation))
        await finish(database, await claim_one(database), question=("user", question), reply=answer)


async def recalled(database: Database, conversation: UUID, budget: int) -> list[str]:
    """The texts that are recalled within this many bytes."""
    found = await messages.recall(database, [Recall(("default", conversation), budget)])
    return [each.content for each in found.get(("default", conversation), [])]


async def test_the_newest_whole_turns_that_fit_are_recalled(database: Database) -> None:
    """Oldest first, and never an answer without its question."""
    conversation = uuid4()
    await say(database, conversation, ("q1" * 10, "a1" * 10), ("q2" * 10, "a2" * 10), ("q3" * 10, "a3" * 10))
    turns = [["q1" * 10, "a1" * 10], ["q2" * 10, "a2" * 10], ["q3" * 10, "a3" * 10]]

    assert turns[0] + turns[1] + turns[2] == await recalled(database, conversation, 120)
    assert turns[1] + turns[2] == await recalled(database, conversation, 119)
    assert turns[1] + turns[2] == await recalled(database, conversation, 80)
    assert turns[2] == await recalled(database, conversation, 79)
    assert [] == await recalled(database, conversation, 39)
    assert [] == await recalled(database, conversation, 0)


async def test_the_budget_counts_bytes(database: Database) -> None:
    """Text beyond ASCII takes more than one byte per character."""
    conversation = uuid4()
    await say(database, conversation, ("ü" * 10, "ü" * 10))

    assert [0, 2] == [len(await recalled(database, conversation, budget)) for budget in (39, 40)]


async def test_many_conversations_are_recalled_at_once(database: Database) -> None:
    """Each conversation has its own budget; one without history is left out."""
    full, short, none = uuid4(), uuid4(), uuid4()
    await say(database, full, ("q1", "a1"), ("q2", "a2"))
    await say(database, short, ("q1", "a1"), ("q2", "a2"))
    wanted = [Recall(("default", full), 1000), Recall(("default", short), 4), Recall(("default", none), 1000)]

    found = await messages.recall(database, wanted)

    assert ["q1", "a1", "q2", "a2"] == [each.content for each in found["default", full]]
    assert ["q2", "a2"] == [each.content for each in found["default", short]]
    assert ("default", none) not in found


async def test_another_tenants_history_is_never_recalled(database: Database) -> None:
    """The same conversation id of another tenant is another conversation."""
    conversation = uuid4()
    await say(database, conversation, ("mine", "too"))

    assert await messages.recall(database, [Recall(("other", conversation), 1000)]) == {}


async def test_a_page_goes_on_where_the_last_one_ended(database: Database) -> None:
    """Messages come oldest first, after the given id, up to the limit."""
    conversation = uuid4()
    await say(database, conversation, ("q1", "a1"), ("q2", "a2"))

    first, more = await messages.page(database, ("default", conversation), 0, 3)
    rest, last = await messages.page(database, ("default", conversation), first[-1].id, 1)

    assert (True, False) == (more, last)
    assert ["q1", "a1", "q2", "a2"] == [each.content for each in (*first, *rest)]
    assert ["user", "assistant", "user"] == [each.role for each in first]


async def test_long_messages_make_a_page_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that would be too big ends earlier, has one message at least, and says that there are more."""
    monkeypatch.setattr(messages, "PAGE_BYTES", 10)
    conversation, seen, after = uuid4(), [], 0
    await say(database, conversation, ("a long question", "short"), ("long", "a long answer"))
    for more in (True, True, False):
        found, told = await messages.page(database, ("default", conversation), after, 3)
        assert more == told
        seen.append([each.content for each in found])
        after = found[-1].id

    assert [["a long question"], ["short", "long"], ["a long answer"]] == seen


async def test_a_deleted_conversation_shows_no_messages(database: Database) -> None:
    """A hidden conversation shows nothing at once, before its record is processed; other owners never see it."""
    conversation = uuid4()
    await say(database, conversation, ("q", "a"))
    await cancels.mark_deleted(database, ("default", conversation))

    assert await messages.page(database, ("default", conversation), 0, 10) == ([], False)
    assert await messages.page(database, ("other", conversation), 0, 10) == ([], False)
