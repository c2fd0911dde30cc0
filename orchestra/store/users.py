"""Users: people who sign in with a password. Only a slow hash of it is stored."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, case, cast, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert

from orchestra.store import keys
from orchestra.store.audit import Author, changing
from orchestra.store.compose import composed, matches, parameters
from orchestra.store.database import Database, DataRefusedError, Transaction
from orchestra.store.pages import applied, conditions, newest_page
from orchestra.store.tables import users
from schemas.api.users import Role, UserResource
from schemas.changes import Fields
from schemas.errors import ErrorCode, OrchestraError

# The fields of a user that can be changed, with the columns that they are kept in.
_GIVEN = {"username": "username", "password": "password_hash", "role": "role"}
# No hasher recognizes it, so no password matches.
_NO_HASH = "none"
_UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True)
class StoredUser:
    """A user's row without the hash. A session from before ``password_set_at`` is no longer valid."""

    resource: UserResource
    tenant: str
    password_set_at: datetime


_COLUMNS = (users.c.id, users.c.username, users.c.role, users.c.created_at)

_CREATE = composed(
    insert(users)
    .values(parameters("tenant", "username", "password_hash", "role"))
    .on_conflict_do_nothing(index_elements=["username"])
    .returning(*_COLUMNS)
)

_NEW_HASH = cast(bindparam("password_hash"), Text)
_CHANGE = composed(
    update(users)
    .values(
        username=func.coalesce(bindparam("username"), users.c.username),
        password_hash=func.coalesce(_NEW_HASH, users.c.password_hash),
        password_set_at=case((_NEW_HASH.is_(None), users.c.password_set_at), else_=func.clock_timestamp()),
        role=func.coalesce(bindparam("role"), users.c.role),
    )
    .where(
        matches(users.c.tenant, users.c.id),
        users.c.password_hash == func.coalesce(bindparam("old_hash"), users.c.password_hash),
    )
    .returning(*_COLUMNS)
)

# In a fixed order, so that concurrent changes cannot deadlock.
_HOLD_ADMINS = composed(
    select(users.c.id).where(matches(users.c.tenant), users.c.role == "admin").order_by(users.c.id).with_for_update()
)

_ROLE = composed(select(users.c.role).where(matches(users.c.tenant, users.c.id)).with_for_update())
_DELETE = composed(users.delete().where(matches(users.c.tenant, users.c.id)).returning(users.c.role))

_OF_TENANT = select(*_COLUMNS).where(matches(users.c.tenant))
_CONDITIONS = conditions(users)

_EXIST = composed(select(exists(select(users.c.id)).label("found")))

_STORED = (*_COLUMNS, users.c.tenant, users.c.password_set_at)
_BY_ID = composed(select(*_STORED).where(matches(users.c.id)))
_BY_USERNAME = composed(select(*_STORED, users.c.password_hash).where(matches(users.c.username)))

# Must not overwrite a password that was set meanwhile.
_SET_HASH = composed(
    update(users)
    .values(password_hash=bindparam("new"))
    .where(matches(users.c.id), users.c.password_hash == bindparam("old"))
)


async def exist(database: Database) -> bool:
    """Whether there is any user, in any tenant."""
    return bool((await database.run(_EXIST))[0].found)


async def create(
    database: Database, tenant: str, username: str, password_hash: str, role: Role, by: Author | None = None
) -> UserResource:
    """Create a user. Raises ``USERNAME_TAKEN``: names are unique across all tenants."""
    async with changing(database) as tx:
        rows = await tx.run(_CREATE, tenant=tenant, username=username, password_hash=password_hash, role=role)
        if not rows:
            raise OrchestraError(ErrorCode.USERNAME_TAKEN)
        tx.note(by, f"users/{rows[0].id}", after={"role": role})
    return _resource(rows[0])


async def change(
    database: Database,
    tenant: str,
    id: UUID,
    *,
    username: str | None = None,
    password_hash: str | None = None,
    role: Role | None = None,
    old_hash: str | None = None,
    keep_keys: bool = False,
    leave_admin: bool = False,
    by: Author | None = None,
) -> UserResource | None:
    """Change the fields that are not None. A new password ends the user's sessions and revokes their keys.

    ``old_hash``: change nothing unless this is still the hash of the password.
    ``keep_keys``: do not revoke the keys.
    ``leave_admin``: refuse a change after which no credential would give admin rights in the tenant.

    Returns None if the user is unknown or has another hash than ``old_hash``.
    Raises ``USERNAME_TAKEN``, and ``FORBIDDEN`` for the last admin.
    """
    wanted = {"username": username, "password_hash": password_hash, "role": role}
    try:
        async with changing(database) as transaction:
            before = await transaction.run(_ROLE, tenant=tenant, id=id) if by else ()
            async with _admin_left(transaction, tenant, asked=leave_admin and role == "user"):
                rows = await transaction.run(_CHANGE, tenant=tenant, id=id, old_hash=old_hash, **wanted)
            if rows and password_hash is not None and not keep_keys:
                await keys.revoke_all(transaction, id)
            if rows:
                transaction.note(by, f"users/{id}", *_roles(before, rows, wanted, keep_keys=keep_keys))
    except DataRefusedError as error:
        if str(error) != _UNIQUE_VIOLATION:
            raise
        raise OrchestraError(ErrorCode.USERNAME_TAKEN) from None
    return _resource(rows[0]) if rows else None


async def delete(
    database: Database, tenant: str, id: UUID, *, leave_admin: bool = False, by: Author | None = None
) -> bool:
    """Delete a user and their keys, but not their requests and conversations. False if the user is unknown.

    ``leave_admin`` and ``FORBIDDEN``: as in ``change``.
    """
    async with changing(database) as transaction, _admin_left(transaction, tenant, asked=leave_admin):
        rows = await transaction.run(_DELETE, tenant=tenant, id=id)
        if rows:
            transaction.note(by, f"users/{id}", before={"role": rows[0].role})
        return bool(rows)


async def lock_out(tx: Transaction, tenant: str, id: UUID, *, leave_admin: bool) -> None:
    """Take away a user's password, role, sessions and keys, until the row is deleted.

    ``leave_admin`` and ``FORBIDDEN``: as in ``change``.
    """
    async with _admin_left(tx, tenant, asked=leave_admin):
        await tx.run(_CHANGE, tenant=tenant, id=id, username=None, password_hash=_NO_HASH, role="user", old_hash=None)
        await keys.revoke_all(tx, id)


@asynccontextmanager
async def _admin_left(transaction: Transaction, tenant: str, *, asked: bool) -> AsyncIterator[None]:
    """Raise ``FORBIDDEN`` if no admin is left after the body. Concurrent changes wait for each other."""
    if asked:
        await transaction.run(_HOLD_ADMINS, tenant=tenant)
    yield
    if asked and not await keys.any_admin(transaction, tenant):
        raise OrchestraError(ErrorCode.FORBIDDEN, "no admin of the tenant would be left")


async def page(database: Database, tenant: str, before: tuple[datetime, UUID] | None, limit: int) -> list[UserResource]:
    """Users older than ``before`` (creation time and id), newest first."""
    where, values = applied(_CONDITIONS, before=before)
    sql = newest_page(_OF_TENANT, users, where)
    return [_resource(row) for row in await database.run(sql, **values, tenant=tenant, limit=limit)]


async def by_id(database: Database, id: UUID) -> StoredUser | None:
    """A user of any tenant, or None if there is no such user."""
    rows = await database.run(_BY_ID, id=id)
    return _stored(rows[0]) if rows else None


async def by_username(database: Database, username: str) -> tuple[StoredUser, str] | None:
    """A user of any tenant and the hash of their password, or None if there is no such user."""
    rows = await database.run(_BY_USERNAME, username=username)
    return (_stored(rows[0]), rows[0].password_hash) if rows else None


async def set_hash(database: Database, id: UUID, old: str, new: str) -> None:
    """Replace ``old`` by another hash of the same password, unless the password has changed meanwhile."""
    await database.run(_SET_HASH, id=id, old=old, new=new)


def _roles(
    before: Sequence[Any], after: Sequence[Any], wanted: Mapping[str, str | None], *, keep_keys: bool
) -> tuple[Fields, Fields]:
    """The role before and after a change, and which fields were given; neither names nor passwords."""
    changed: Fields = {"role": after[0].role, "given": [name for name in _GIVEN if wanted[_GIVEN[name]] is not None]}
    if wanted["password_hash"] is not None:
        changed["keys_kept"] = keep_keys
    return {"role": before[0].role} if before else {}, changed


def _resource(row: Any) -> UserResource:
    return UserResource(id=row.id, username=row.username, role=row.role, created_at=row.created_at)


def _stored(row: Any) -> StoredUser:
    return StoredUser(_resource(row), row.tenant, row.password_set_at)
