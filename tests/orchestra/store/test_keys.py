"""Promises of orchestra/store/keys.py: kept as a hash, found with their user, listed, revoked."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestra.credentials import new_key, read_key
from orchestra.store import keys, users
from orchestra.store.database import Database, DataRefusedError
from schemas.api.keys import CreateKey, Scope
from tests.support.people import PASSWORD, key_id, make_key, make_user

PAST = datetime(2020, 1, 1, tzinfo=UTC)


async def test_a_key_is_found_with_its_user(database: Database) -> None:
    """Name and role are those of now; a program's own key has none."""
    ann = await make_user(database, "ann")
    own, programs = await make_key(database, "read", user=ann), await make_key(database, "write", "read", "read")
    await users.change(database, ("default", ann.resource.id), username="anna", role="admin")

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
    """A key of a user who is gone meanwhile is not kept."""
    ann = await make_user(database, "ann")
    await users.delete(database, ("default", ann.resource.id))
    with pytest.raises(DataRefusedError):
        await make_key(database, "read", user=ann)


async def test_no_table_has_a_raw_key_or_password(database: Database) -> None:
    """In all text and bytes of the database there is nothing that a caller could come in with."""
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
    """The second time changes nothing; another user's or tenant's key is unknown."""
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
    """A user's own, or everybody's of the tenant, also those of the same moment."""
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
    """A good key or an admin is one; a user, a revoked and an expired key are none."""
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
