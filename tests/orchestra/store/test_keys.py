"""Promises of orchestra/store/keys.py: keys are stored as hashes, found with their user, listed and revoked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from orchestra.credentials import new_key, read_key
from orchestra.store import keys, users
from orchestra.store.database import Database, DataRefusedError, Transaction
from orchestra.store.users import StoredUser
from schemas.api.keys import CreateKey, Scope
from schemas.errors import ErrorCode, OrchestraError
from tests.support.people import PASSWORD, key_id, make_key, make_user
from tests.support.waiting import eventually

PAST = datetime(2020, 1, 1, tzinfo=UTC)


async def test_a_key_is_found_with_its_user(database: Database) -> None:
    """A key has the present name and role of its user; a program's own key has none."""
    ann = await make_user(database, "ann")
    own, programs = await make_key(database, "read", user=ann), await make_key(database, "write", "read", "read")
    await users.change(database, "default", ann.resource.id, username="anna", role="admin")

    found = await keys.find(database, key_id(own))
    assert found is not None
    assert (ann.resource.id, "anna", "admin") == (found.resource.user_id, found.username, found.role)
    assert (key_id(own), found.secret_hash) == read_key(own)

    found = await keys.find(database, key_id(programs))
    assert found is not None
    assert (None, None, None) == (found.resource.user_id, found.username, found.role)
    assert [Scope.READ, Scope.WRITE] == found.resource.scopes
    assert await keys.find(database, "a" * 12) is None


async def test_a_key_of_nobody_is_refused(database: Database) -> None:
    """A key of a user who has been deleted is not stored."""
    ann = await make_user(database, "ann")
    await users.delete(database, "default", ann.resource.id)
    with pytest.raises(DataRefusedError):
        await make_key(database, "read", user=ann)


async def test_no_table_has_a_raw_key_or_password(database: Database) -> None:
    """No text and no bytes in the database would serve as a credential."""
    text = await make_key(database, "admin", user=await make_user(database, "ann", "admin"))
    secret = text.rpartition("_")[2]
    columns = await database.run(
        "SELECT table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type IN ('text', 'bytea', 'ARRAY', 'jsonb', 'json')"
    )
    dump = [
        repr(row[0])
        for table, column in columns
        for row in await database.run(f'SELECT "{column}" FROM "{table}" WHERE "{column}" IS NOT NULL')
    ]

    assert any(key_id(text) in value for value in dump)
    for needle in (PASSWORD, text, secret, repr(bytes.fromhex(secret))[2:-1]):
        assert not [value for value in dump if needle in value]


async def test_what_is_revoked_stays_so(database: Database) -> None:
    """Revoking again changes nothing; another user's or tenant's key is unknown."""
    ann, bob = await make_user(database, "ann"), await make_user(database, "bob")
    id = key_id(await make_key(database, "read", user=ann))

    assert await keys.revoke(database, "default", bob.resource.id, id) is False
    assert await keys.revoke(database, "other", None, id) is False
    found = await keys.find(database, id)
    assert found is not None
    assert found.resource.revoked_at is None

    assert await keys.revoke(database, "default", ann.resource.id, id) is True
    first = await keys.find(database, id)
    assert await keys.revoke(database, "default", None, id) is True
    assert first == await keys.find(database, id)
    assert first is not None
    assert first.resource.revoked_at is not None


async def test_pages_show_each_key_once_newest_first(database: Database) -> None:
    """A user's own keys, or all of the tenant, each once and newest first, even those of the same moment."""
    ann = await make_user(database, "ann")
    own = [key_id(await make_key(database, "read", user=ann)) for _ in range(2)]
    others = [key_id(await make_key(database, "read")) for _ in range(3)]
    await make_key(database, "read", tenant="other")
    await database.run("UPDATE api_keys SET created_at = '2026-01-01' WHERE user_id IS NULL")
    seen: list[str] = []
    before = None
    while page := await keys.page(database, "default", None, before, 2):
        seen += [each.id for each in page]
        before = page[-1].created_at, page[-1].id

    assert own[::-1] == seen[:2]
    assert sorted(own + others) == sorted(seen)
    assert own[::-1] == [each.id for each in await keys.page(database, "default", ann.resource.id, None, 9)]


async def test_last_use_only_moves_on(database: Database) -> None:
    """Uses of several keys are kept at once; an older one from another gateway changes nothing."""
    first, second = [key_id(await make_key(database, "read")) for _ in range(2)]
    now = datetime.now(UTC)
    await keys.note_used(database, {first: now, second: PAST, "a" * 12: now})
    await keys.note_used(database, {first: PAST, second: now})

    for id in (first, second):
        found = await keys.find(database, id)
        assert found is not None
        assert now == found.resource.last_used_at


async def test_whether_there_is_a_way_in(database: Database) -> None:
    """A valid key or an admin counts; a user, a revoked and an expired key do not."""
    assert await keys.any_way_in(database) is False
    await make_user(database, "ann")
    await make_key(database, "admin", expires_at=PAST)
    id = key_id(await make_key(database, "read", expires_at=datetime.now(UTC) + timedelta(days=1)))
    assert await keys.any_way_in(database) is True
    await keys.revoke(database, "default", None, id)
    assert await keys.any_way_in(database) is False
    await make_user(database, "root", "admin")
    assert await keys.any_way_in(database) is True


async def test_a_hash_that_is_none_is_refused(database: Database) -> None:
    """The database itself keeps no key whose hash is not 32 bytes."""
    key = new_key()
    object.__setattr__(key, "secret_hash", b"short")
    with pytest.raises(DataRefusedError):
        await keys.create(database, "default", key, CreateKey(name="x"))


def session_of(user: StoredUser) -> keys.Session:
    return keys.Session(user.resource.id, user.password_set_at)


async def make(database: Database | Transaction, maker: keys.Session, user: StoredUser | None) -> str:
    """Create a key in the session of a signed-in user; returns its id."""
    key = new_key()
    owner = user.resource.id if user else None
    await keys.create(cast(Database, database), "default", key, CreateKey(name="program"), owner, maker)
    return key.id


async def waits_for_a_lock(database: Database) -> bool:
    sql = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return bool(await database.run(sql))


async def test_a_session_of_an_old_password_makes_no_keys(database: Database) -> None:
    """Such a session creates neither a user's key nor a program's, even if a gateway still accepts the token."""
    root = await make_user(database, "root", "admin")
    old = session_of(root)
    assert await make(database, old, root)
    await users.change(database, "default", root.resource.id, password_hash="new")

    for user in (root, None):
        with pytest.raises(OrchestraError) as caught:
            await make(database, old, user)
        assert caught.value.code is ErrorCode.UNAUTHORIZED


class Within:
    """A database whose transactions are parts of this one."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """The transaction that is open."""
        yield self._transaction


async def test_a_key_that_is_made_while_the_password_changes(database: Database) -> None:
    """The key is not created, or is revoked with the others: no key of an old password is left."""
    ann = await make_user(database, "ann")
    async with database.transaction() as transaction:
        id = await make(cast("Database", Within(transaction)), session_of(ann), ann)
        changing = asyncio.create_task(users.change(database, "default", ann.resource.id, password_hash="new"))
        await eventually(lambda: waits_for_a_lock(database))
    await changing
    found = await keys.find(database, id)
    assert found is not None
    assert found.resource.revoked_at is not None

    now = await users.by_id(database, ann.resource.id)
    assert now is not None
    async with database.transaction() as transaction:
        await transaction.run("UPDATE users SET password_set_at = now() WHERE id = :id", id=ann.resource.id)
        making = asyncio.create_task(make(database, session_of(now), ann))
        await eventually(lambda: waits_for_a_lock(database))
    with pytest.raises(OrchestraError):
        await making


@pytest.mark.parametrize("keep", [False, True])
async def test_a_new_password_revokes_keys(database: Database, keep: bool) -> None:
    """A new password revokes the user's keys unless they are to be kept; another change revokes none."""
    ann, bob = await make_user(database, "ann"), await make_user(database, "bob")
    made = [key_id(await make_key(database, "read", user=user)) for user in (ann, bob, None)]
    ref = ("default", ann.resource.id)

    async def revoked() -> list[bool]:
        found = [await keys.find(database, id) for id in made]
        return [each is not None and each.resource.revoked_at is not None for each in found]

    await users.change(database, *ref, username="anna", role="admin")
    assert [False, False, False] == await revoked()
    await users.change(database, "default", ann.resource.id, password_hash="new", keep_keys=keep)
    assert [not keep, False, False] == await revoked()
