"""Promises of migrations/0005_finish_reason.sql: what was stored before it can still be read."""

from uuid import uuid4

from orchestra.store import messages
from orchestra.store.database import Database
from tests.support.store import claim_one, finish, request, take


async def test_an_answer_of_before_has_no_reason(database: Database) -> None:
    """An older answer is shown without a finish reason, beside a new one that has one."""
    conversation = uuid4()
    await take(database, request(conversation), request(conversation))
    for _ in range(2):
        await finish(database, await claim_one(database), finish_reason="length")
    await database.run("UPDATE messages SET finish_reason = NULL WHERE id IN (SELECT min(id) + 1 FROM messages)")

    found, _ = await messages.page(database, ("default", conversation), 0, 10)

    assert [None, None, None, "length"] == [each.finish_reason for each in found]
