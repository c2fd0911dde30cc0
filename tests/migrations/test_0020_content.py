"""Promises of migrations/0020_content.sql: messages of all kinds, and releases that know only texts."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from orchestra.cli.migrate import dbmate
from orchestra.store import endings, messages, turns
from orchestra.store.database import Database, DataRefusedError
from orchestra.store.messages import Recall
from tests.support.stack import Stack
from tests.support.store import claim_one, connect, finish, request, take

_INSERT = "INSERT INTO messages (conversation_id, role, content) VALUES (:conversation, :role, :content)"


async def test_only_roles_of_the_list_are_kept(database: Database) -> None:
    """The roles of the chat API are accepted, and no others."""
    await take(database, asked := request())
    for role in ("system", "developer", "user", "assistant", "tool"):
        await database.run(_INSERT, conversation=asked.conversation_id, role=role, content="x")

    with pytest.raises(DataRefusedError):
        await database.run(_INSERT, conversation=asked.conversation_id, role="function", content="x")


async def test_functions_of_before_still_work(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older worker ends a turn with the functions that it knows, and its question and answer are read here."""
    conversation = uuid4()
    await take(database, request(conversation))
    turn = await claim_one(database)
    monkeypatch.setattr(endings, "_FINISH", endings._FINISH.replace("finish_v2", "finish_v1"))
    monkeypatch.setattr(endings, "_row", _row_of_before)

    done = await finish(database, turn, reply="answer")

    found = await messages.recall(database, [Recall(turns.ConversationRef("default", conversation), 1000)])
    assert 1 == len(done.announcements)
    assert [("user", "hello"), ("assistant", "answer")] == [(m.role, m.content) for m in found["default", conversation]]


def _row_of_before(place: int, end: endings.AttemptEnd) -> dict[str, object]:
    names = ("tenant", "id", "conversation_id", "fence", "status", "delay", "reply", "finish_reason")
    row = {name: getattr(end, name) for name in names}
    usage = end.usage and end.usage.model_dump()
    return row | {"place": place, "tries_back": 0, "usage": usage, "question_role": "user", "question": "hello"}


async def test_the_way_back_keeps_what_older_releases_can_read(stack: Stack) -> None:
    """Down: results of tools are gone, instructions have their older role, and all else is as it was."""
    url = await stack.fresh_database()
    database = connect(url)
    await take(database, asked := request())
    for role in ("user", "assistant", "tool", "developer"):
        await database.run(_INSERT, conversation=asked.conversation_id, role=role, content=role)
    await database.close()

    for _ in [file for file in Path("migrations").glob("*.sql") if file.name >= "0020"]:
        done = await asyncio.to_thread(dbmate, "down", url=url)
        assert done.returncode == 0, done.stdout + done.stderr

    database = connect(url)
    rows = await database.run("SELECT role, content FROM messages ORDER BY id")
    await database.close()
    assert [("user", "user"), ("assistant", "assistant"), ("system", "developer")] == [tuple(row) for row in rows]
