"""Promises of orchestra/store/messages.py: what was said, and how much of it is loaded for a prompt."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from orchestra.store import cancels, messages
from orchestra.store.database import Database
from orchestra.store.endings import Items, Said
from orchestra.store.messages import Recall
from orchestra.store.turns import ConversationRef
from tests.support.store import claim_one, finish, request, take, to_store


async def say(database: Database, conversation: UUID, *turns: tuple[str, str]) -> None:
    """Turns of a conversation, as question and answer."""
    for question, answer in turns:
        await take(database, request(conversation))
        await finish(database, await claim_one(database), said=[to_store("user", question)], reply=answer)


async def recalled(database: Database, conversation: UUID, budget: int) -> list[Any]:
    """The contents that are recalled within this many bytes."""
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


CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
WANTED = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
REASONING = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "so"}]}
IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


async def end(database: Database, conversation: UUID, *said: Said, reply: str = "", **more: Any) -> None:
    """A turn of a conversation that ends with these messages."""
    await take(database, request(conversation))
    await finish(database, await claim_one(database), said=said, reply=reply, **more)


async def test_messages_are_recalled_with_all_that_is_sent(database: Database) -> None:
    """Parts, calls, results, refusals and the provider's data come back in order; reasoning stays behind."""
    conversation, state = uuid4(), {"provider": "p", "opaque": None}
    refusal = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    await end(database, conversation, to_store("user", "", IMAGE, None, 3000), items=Items([REASONING, CALL], 9, state))
    await end(database, conversation, to_store("tool", "sunny", None, "call_1"), items=Items([refusal], 2))
    await end(database, conversation, to_store("user", "why?"), items=Items([REASONING], 0))

    found = await messages.recall(database, [Recall(("default", conversation), 10_000)])

    assert [
        {"role": "user", "content": IMAGE},
        {"role": "assistant", "tool_calls": WANTED, "state": state},
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
        {"role": "assistant", "refusal": "no"},
        {"role": "user", "content": "why?"},
        {"role": "assistant", "content": ""},
    ] == [each.model_dump(exclude_none=True) for each in found["default", conversation]]


async def test_a_row_counts_what_it_weighs(database: Database) -> None:
    """The budget counts a row's weight; a row without one counts the bytes of its text."""
    conversation = uuid4()
    await end(
        database, conversation, to_store("user", "12345", IMAGE, None, 3000), reply="12345", items=Items([CALL], 50)
    )
    await end(database, conversation, to_store("tool", "12345", None, "call_1"), reply="12345")

    assert [0, 4] == [len(await recalled(database, conversation, budget)) for budget in (3059, 3060)]


async def test_history_starts_with_a_question(database: Database) -> None:
    """A call is never cut from its results, nor from its question: a turn of a tool loop comes whole or not at all."""
    conversation = uuid4()
    await end(database, conversation, to_store("user", "q" * 10), items=Items([CALL], 10))
    await end(database, conversation, to_store("tool", "r" * 10, None, "call_1"), reply="a" * 10)
    await end(database, conversation, to_store("user", "Q" * 10), reply="A" * 10)
    whole = ["q" * 10, None, "r" * 10, "a" * 10, "Q" * 10, "A" * 10]

    found = [await recalled(database, conversation, budget) for budget in (60, 59, 49, 39, 29, 19)]

    assert [whole, whole[4:], whole[4:], whole[4:], whole[4:], []] == found


async def test_results_without_their_call_are_cut_from_the_message_after_them(database: Database) -> None:
    """Results that came with a new message go with their call; the message itself may stay."""
    conversation = uuid4()
    await end(database, conversation, to_store("user", "q"), items=Items([CALL], 1000))
    await end(database, conversation, to_store("tool", "r", None, "call_1"), to_store("user", "Q"), reply="A")

    assert ["Q", "A"] == await recalled(database, conversation, 900)


async def test_media_are_recalled_up_to_a_size(database: Database) -> None:
    """However little images weigh in a prompt, a history has at most 16 MiB of them, whole turns as always."""
    conversation = uuid4()
    large = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 6 * 1024 * 1024}}]
    for number in range(3):
        await end(database, conversation, to_store("user", f"{number}", large, None, 3000), reply="a")

    assert 4 == len(await recalled(database, conversation, 100_000))


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


async def test_a_page_shows_parts_calls_and_items(database: Database) -> None:
    """A message is shown with its parts, the call that it answers, and the items of an answer, and with no state."""
    conversation, parts = uuid4(), [{"type": "text", "text": "hi"}]
    items = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    await say(database, conversation, ("q", "a"))
    await put(database, conversation, "user", parts=parts)
    await put(database, conversation, "assistant", output=items, state={"secret": 1})
    await database.run("UPDATE messages SET tool_call_id = 'c' WHERE role = 'user'")

    (question, answer), _ = await messages.page(database, ("default", conversation), 0, 10)

    assert (parts, "c", None) == (question.parts, question.tool_call_id, question.output)
    assert (None, None, items) == (answer.parts, answer.tool_call_id, answer.output)
    assert "secret" not in answer.model_dump_json()


async def test_a_plain_message_is_shown_as_before(database: Database) -> None:
    """A message that is a text has no fields of others."""
    conversation = uuid4()
    await say(database, conversation, ("q", "a"))

    found, _ = await messages.page(database, ("default", conversation), 0, 10)

    shown = {"id", "role", "content", "created_at", "request_id", "finish_reason"}
    assert [shown, shown] == [set(each.model_dump()) for each in found]


@pytest.mark.parametrize("field", ["parts", "output"])
async def test_long_parts_and_items_make_a_page_short(
    database: Database, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    """What a message has beside its text counts, too."""
    monkeypatch.setattr(messages, "PAGE_BYTES", 50)
    conversation = uuid4()
    await say(database, conversation, ("q1", "a1"), ("q2", "a2"))
    value = [{"type": "text", "text": "long" * 20}] if field == "parts" else [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "long" * 20}
    ]  # fmt: skip
    await put(database, conversation, "user", **{field: value})

    found, more = await messages.page(database, ("default", conversation), 0, 3)

    assert (1, True) == (len(found), more)


async def put(database: Database, conversation: UUID, role: str, **fields: Any) -> None:
    """Give the messages of a role these JSON fields."""
    for name, value in fields.items():
        await database.run(
            f"UPDATE messages SET {name} = CAST(:value AS jsonb) WHERE conversation_id = :id AND role = :role",
            value=json.dumps(value), id=conversation, role=role,
        )  # fmt: skip


async def test_a_deleted_conversation_shows_no_messages(database: Database) -> None:
    """A hidden conversation shows nothing at once, before its record is processed; other owners never see it."""
    conversation = uuid4()
    await say(database, conversation, ("q", "a"))
    await cancels.mark_deleted(database, ConversationRef("default", conversation))

    assert await messages.page(database, ("default", conversation), 0, 10) == ([], False)
    assert await messages.page(database, ("other", conversation), 0, 10) == ([], False)
