"""Promises of orchestra/store/users.py: made once, changed, listed, deleted."""

import asyncio
from collections.abc import Awaitable
from uuid import uuid4

import pytest

from orchestra.store import keys, users
from orchestra.store.database import Database
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import key_id, make_key, make_user


async def test_a_username_is_taken_once(database: Database) -> None:
    """The second of a name is refused by its own code, in any tenant."""
    await make_user(database, "ann")
    for tenant in ("default", "other"):
        with pytest.raises(OrchestraError) as caught:
            await users.create(database, tenant, "ann", "hash", "user")
        assert caught.value.code is ErrorCode.USERNAME_TAKEN


async def test_a_change_leaves_the_rest(database: Database) -> None:
    """Only what is named changes, and only a new password ends sessions."""
    ann = await make_user(database, "ann")
    ref = (ann.tenant, ann.resource.id)

    promoted = await users.change(database, *ref, role="admin")
    renamed = await users.change(database, *ref, username="anna")
    assert promoted is not None
    assert renamed is not None
    assert ("ann", "admin", "anna", "admin") == (promoted.username, promoted.role, renamed.username, renamed.role)
    found = await users.by_username(database, "anna")
    assert found is not None
    assert ann.password_set_at == found[0].password_set_at

    await users.change(database, *ref, password_hash="new")
    found = await users.by_username(database, "anna")
    assert found is not None
    assert "new" == found[1]
    assert ann.password_set_at < found[0].password_set_at


async def test_a_taken_name_cannot_be_changed_to(database: Database) -> None:
    """It is refused by its own code and nothing changes; one's own name is free."""
    await make_user(database, "ann")
    bob = await make_user(database, "bob")
    ref = (bob.tenant, bob.resource.id)
    with pytest.raises(OrchestraError) as caught:
        await users.change(database, *ref, username="ann", role="admin")

    assert caught.value.code is ErrorCode.USERNAME_TAKEN
    assert bob == await users.by_id(database, bob.resource.id)
    assert bob.resource == await users.change(database, *ref, username="bob")


async def test_another_tenants_user_is_unknown(database: Database) -> None:
    """Another tenant's user is neither changed nor deleted nor listed."""
    ann = await make_user(database, "ann")

    assert await users.change(database, "other", ann.resource.id, role="admin") is None
    assert await users.delete(database, "other", ann.resource.id) is False
    assert await users.page(database, "other", None, 10) == []
    assert ann == await users.by_id(database, ann.resource.id)


async def test_a_deleted_user_takes_his_keys_along(database: Database) -> None:
    """A user's requests stay; deleting them again finds no user."""
    ann = await make_user(database, "ann")
    key = await make_key(database, "read", user=ann)
    id = ann.resource.id
    await database.run("INSERT INTO conversations (id, user_id) VALUES (:id, :user)", id=uuid4(), user=id)

    assert [True, False] == [await users.delete(database, "default", id) for _ in range(2)]
    assert await users.by_id(database, id) is None
    assert await users.by_username(database, "ann") is None
    assert await keys.find(database, key_id(key)) is None
    assert 1 == len(await database.run("SELECT 1 FROM conversations"))


async def refused(attempt: Awaitable[object]) -> bool:
    try:
        await attempt
    except OrchestraError as error:
        assert error.code is ErrorCode.FORBIDDEN
        return True
    return False


async def test_an_admin_is_left(database: Database) -> None:
    """Where it is asked for, the last who could come in as an admin is neither demoted nor deleted."""
    root = await make_user(database, "root", "admin")
    ref = ("default", root.resource.id)
    await make_user(database, "them", "admin", tenant="other")
    ann = await make_user(database, "ann")
    await make_key(database, "admin", user=ann)
    await make_key(database, "write")
    await make_key(database, "admin", user=root)
    revoked = key_id(await make_key(database, "admin"))
    await keys.revoke(database, "default", None, revoked)

    assert await refused(users.change(database, *ref, role="user", leave_admin=True))
    assert await refused(users.delete(database, *ref, leave_admin=True))
    assert root == await users.by_id(database, root.resource.id)
    assert not await refused(users.change(database, *ref, username="superuser", leave_admin=True))
    assert await users.delete(database, "default", ann.resource.id, leave_admin=True)

    await make_key(database, "admin")
    assert not await refused(users.change(database, *ref, role="user", leave_admin=True))


async def test_two_admins_cannot_remove_each_other(database: Database) -> None:
    """Of two who are demoted or deleted at the same time one stays."""
    for name in ("one", "two", "three"):
        first, second = [await make_user(database, f"{name}, {place}", "admin") for place in range(2)]
        done = await asyncio.gather(
            refused(users.change(database, "default", first.resource.id, role="user", leave_admin=True)),
            refused(users.delete(database, "default", second.resource.id, leave_admin=True)),
        )
        assert [False, True] == sorted(done)
        await database.run("DELETE FROM users")


async def test_pages_show_everybody_once_newest_first(database: Database) -> None:
    """Also those who were made at the same moment."""
    made = [(await make_user(database, f"user {number}")).resource for number in range(5)]
    await database.run("UPDATE users SET created_at = '2026-01-01' WHERE username IN ('user 0', 'user 1', 'user 2')")
    seen = []
    before = None
    while page := await users.page(database, "default", before, 2):
        seen += page
        before = page[-1].created_at, page[-1].id

    assert ["user 4", "user 3"] == [each.username for each in seen[:2]]
    assert {each.id for each in made} == {each.id for each in seen}
    assert 5 == len(seen)


async def test_a_better_hash_replaces_only_the_one_it_was_made_of(database: Database) -> None:
    """A password that was set meanwhile stays, and no session ends."""
    ann = await make_user(database, "ann")
    await users.change(database, "default", ann.resource.id, password_hash="new")
    await users.set_hash(database, ann.resource.id, "old", "better")
    found = await users.by_username(database, "ann")
    assert found is not None
    assert "new" == found[1]

    await users.set_hash(database, ann.resource.id, "new", "better")
    upgraded = await users.by_username(database, "ann")
    assert (found[0], "better") == upgraded


async def test_rows_of_the_system_before_can_sign_in(database: Database) -> None:
    """A user whom a plain insert of the old system made is one of ours."""
    await database.run("INSERT INTO users (username, password_hash, role) VALUES ('old', 'hash', 'admin')")
    found = await users.by_username(database, "old")

    assert found is not None
    assert ("default", "admin", "hash") == (found[0].tenant, found[0].resource.role, found[1])
