"""Promises of migrations/0002_tasks_users_keys.sql: what the database enforces, whatever the code does."""

from uuid import uuid4

import pytest

from orchestra.store.database import Database, DataRefusedError
from tests.support.store import claim_one, count, request, row, take

_ENDS = {
    "waiting": ("cancelled", "expired", "failed"),
    "pending": ("cancelled", "expired", "failed"),
    "in_progress": ("cancelled", "completed", "failed", "expired"),
}


@pytest.mark.parametrize(("state", "end"), [(state, end) for state, ends in _ENDS.items() for end in ends])
async def test_what_was_deleted_is_emptied_however_it_ends(database: Database, state: str, end: str) -> None:
    """A request that was deleted while open keeps no text of the question or answer, however it ends."""
    conversation = uuid4()
    await take(database, first := request(conversation), second := request(conversation))
    asked = second if state == "waiting" else first
    if state == "in_progress":
        await claim_one(database)
    await database.run("UPDATE requests SET deleted_at = now() WHERE id = :id", id=asked.id)
    assert (await row(database, asked.ref)).body is not None

    await database.run(
        f"UPDATE requests SET status = '{end}', finished_at = now(), worker_id = NULL WHERE id = :id", id=asked.id
    )

    assert (await row(database, asked.ref)).body is None


async def test_what_was_not_deleted_is_kept(database: Database) -> None:
    """An ending by itself deletes no text."""
    await take(database, asked := request())

    await database.run("UPDATE requests SET status = 'cancelled', finished_at = now()")

    assert (await row(database, asked.ref)).body is not None


@pytest.mark.parametrize(
    ("scopes", "hash_bytes"), [("{}", 32), ("{root}", 32), ("{read,root}", 32), ("{read}", 31), ("{read}", 64)]
)
async def test_a_key_that_cannot_be_is_refused(database: Database, scopes: str, hash_bytes: int) -> None:
    """A key without a scope, with an unknown one, or with anything but a SHA-256 as its secret is refused."""
    with pytest.raises(DataRefusedError):
        await database.run(
            "INSERT INTO api_keys (id, name, scopes, secret_hash)"
            " VALUES ('i', 'n', CAST(CAST(:scopes AS text) AS text[]), :hash)",
            scopes=scopes,
            hash=bytes(hash_bytes),
        )


async def test_keys_go_with_their_user(database: Database) -> None:
    """A user's keys are deleted with the user; a program's key stays."""
    (user,) = await database.run("INSERT INTO users (username, password_hash) VALUES ('ann', 'x') RETURNING id")
    for id, owner in (("hers", user.id), ("programs", None)):
        await database.run(
            "INSERT INTO api_keys (id, name, user_id, scopes, secret_hash) VALUES (:id, 'n', :user, '{read}', :hash)",
            id=id,
            user=owner,
            hash=bytes(32),
        )

    await database.run("DELETE FROM users WHERE id = :id", id=user.id)

    assert ["programs"] == [each.id for each in await database.run("SELECT id FROM api_keys")]


async def test_errors_go_with_their_request(database: Database) -> None:
    """A request that is deleted after its retention takes its attempts' errors with it."""
    await take(database, asked := request())
    await database.run(
        "INSERT INTO attempt_errors (tenant, request_id, attempt, code, detail) VALUES ('default', :id, 1, 'c', 'd')",
        id=asked.id,
    )

    await database.run("DELETE FROM requests")

    assert await count(database, "attempt_errors") == 0
