"""Users: people who sign in with a password. Only a slow hash of it is stored."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Text, bindparam, case, cast, func, select, update
from sqlalchemy.dialects.postgresql import insert

from orchestra.store import keys
from orchestra.store.compose import composed, matches, parameters
from orchestra.store.database import Database, DataRefusedError, Transaction
from orchestra.store.pages import applied, conditions, newest_page
from orchestra.store.tables import users
from schemas.api.users import Role, UserResource
from schemas.errors import ErrorCode, OrchestraError

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

_DELETE = composed(users.delete().where(matches(users.c.tenant, users.c.id)).returning(users.c.id))

_OF_TENANT = select(*_COLUMNS).where(matches(users.c.tenant))
_CONDITIONS = conditions(users)

_STORED = (*_COLUMNS, users.c.tenant, users.c.password_set_at)
_BY_ID = composed(select(*_STORED).where(matches(users.c.id)))
_BY_USERNAME = composed(select(*_STORED, users.c.password_hash).where(matches(users.c.username)))

# Must not overwrite a password that was set meanwhile.
_SET_HASH = composed(
    update(users)
    .values(password_hash=bindparam("new"))
    .where(matches(users.c.id), users.c.password_hash == bindparam("old"))
)


async def create(database: Database, tenant: str, username: str, password_hash: str, role: Role) -> UserResource:
    """Create a user. Raises ``USERNAME_TAKEN``: names are unique across all tenants."""
    rows = await database.run(_CREATE, tenant=tenant, username=username, password_hash=password_hash, role=role)
    if not rows:
        raise OrchestraError(ErrorCode.USERNAME_TAKEN)
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
        async with database.transaction() as transaction:
            async with _admin_left(transaction, tenant, asked=leave_admin and role == "user"):
                rows = await transaction.run(_CHANGE, tenant=tenant, id=id, old_hash=old_hash, **wanted)
            if rows and password_hash is not None and not keep_keys:
                await keys.revoke_all(transaction, id)
    except DataRefusedError as error:
        if str(error) != _UNIQUE_VIOLATION:
            raise
        raise OrchestraError(ErrorCode.USERNAME_TAKEN) from None
    return _resource(rows[0]) if rows else None


async def delete(database: Database, tenant: str, id: UUID, *, leave_admin: bool = False) -> bool:
    """Delete a user and their keys, but not their requests and conversations. False if the user is unknown.

    ``leave_admin`` and ``FORBIDDEN``: as in ``change``.
    """
    async with database.transaction() as transaction, _admin_left(transaction, tenant, asked=leave_admin):
        return bool(await transaction.run(_DELETE, tenant=tenant, id=id))


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


def _resource(row: Any) -> UserResource:
    return UserResource(id=row.id, username=row.username, role=row.role, created_at=row.created_at)


def _stored(row: Any) -> StoredUser:
    return StoredUser(_resource(row), row.tenant, row.password_set_at)
