"""Promises of migrations/0025_branches.sql: whose branch a conversation is, and that its parent stays."""

from uuid import UUID, uuid4

import pytest

from orchestra.store.database import Database, DataRefusedError
from tests.support.store import request, take

_BRANCH = "INSERT INTO branches (tenant, conversation_id, parent_id, up_to) VALUES ('default', :id, :parent, 1)"
_REMOVE = "DELETE FROM conversations WHERE id = :id"


async def _conversation(database: Database) -> UUID:
    rows = await database.run("INSERT INTO conversations DEFAULT VALUES RETURNING id")
    id: UUID = rows[0].id
    return id


async def test_a_branch_is_one_of_another_conversation(database: Database) -> None:
    """A conversation has one parent, which exists and is not itself."""
    one, other = await _conversation(database), await _conversation(database)
    await database.run(_BRANCH, id=one, parent=other)

    for id, parent in ((one, other), (other, other), (other, uuid4()), (uuid4(), one)):
        with pytest.raises(DataRefusedError):
            await database.run(_BRANCH, id=id, parent=parent)


async def test_a_parent_outlives_its_branches(database: Database) -> None:
    """The row of a parent cannot be removed before the last of its branches; that of a branch goes with it."""
    parent, branch = await _conversation(database), await _conversation(database)
    await database.run(_BRANCH, id=branch, parent=parent)

    with pytest.raises(DataRefusedError):
        await database.run(_REMOVE, id=parent)
    await database.run(_REMOVE, id=branch)
    await database.run(_REMOVE, id=parent)

    assert [] == await database.run("SELECT FROM branches")


async def test_older_workers_work_beside_branches(database: Database) -> None:
    """Turns are taken into a branch as into any conversation, behind the numbers of its history."""
    parent, branch = await _conversation(database), await _conversation(database)
    await database.run("UPDATE conversations SET next_seq = 2 WHERE id = :id", id=branch)
    await database.run(_BRANCH, id=branch, parent=parent)

    await take(database, request(branch), request(branch))

    assert [2, 3] == [row.seq for row in await database.run("SELECT seq FROM requests ORDER BY seq")]
