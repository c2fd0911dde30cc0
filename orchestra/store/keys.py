"""API keys: create, find with their user, list, revoke. Only the hash of a secret is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, and_, any_, bindparam, exists, func, insert, or_, select, update

from orchestra.credentials import NewKey
from orchestra.store.audit import Author, changing
from orchestra.store.compose import composed, matches, parameters
from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.pages import applied, conditions, newest_page
from orchestra.store.tables import api_keys, users
from schemas.api.keys import CreateKey, KeyResource
from schemas.api.users import Role
from schemas.errors import ErrorCode, OrchestraError


@dataclass(frozen=True)
class StoredKey:
    """A key's row with the present name and role of its user; both None for a program's own key."""

    resource: KeyResource
    tenant: str
    secret_hash: bytes = field(repr=False)
    username: str | None
    role: Role | None


_COLUMNS = (
    api_keys.c.id,
    api_keys.c.name,
    api_keys.c.user_id,
    api_keys.c.scopes,
    api_keys.c.created_at,
    api_keys.c.expires_at,
    api_keys.c.last_used_at,
    api_keys.c.revoked_at,
)

# The lock serialises with a password change: either the change revokes this key too, or the key is not created.
_MAKER = bindparam("maker", type_=Uuid)
_SESSION = (
    select(users.c.id)
    .where(users.c.id == _MAKER, matches(users.c.password_set_at))
    .with_for_update(read=True)
    .cte("session")
)
_NEW = parameters("id", "tenant", "name", "user_id", "scopes", "secret_hash", "expires_at")
_CREATE = composed(
    insert(api_keys)
    .from_select([*_NEW], select(*_NEW.values()).where(or_(_MAKER.is_(None), exists(select(_SESSION.c.id)))))
    .returning(*_COLUMNS)
)

_FIND = composed(
    select(*_COLUMNS, api_keys.c.tenant, api_keys.c.secret_hash, users.c.username, users.c.role)
    .select_from(api_keys.outerjoin(users, users.c.id == api_keys.c.user_id))
    .where(matches(api_keys.c.id))
)

_OF_TENANT = select(*_COLUMNS).where(matches(api_keys.c.tenant))
_CONDITIONS = conditions(api_keys, user_id=matches(api_keys.c.user_id))

_USER = bindparam("user_id", type_=Uuid)
_REVOKE = composed(
    update(api_keys)
    .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
    .where(
        matches(api_keys.c.tenant, api_keys.c.id),
        or_(_USER.is_(None), api_keys.c.user_id == _USER),
    )
    .returning(api_keys.c.id)
)

_REVOKE_ALL = composed(
    update(api_keys).values(revoked_at=func.now()).where(matches(api_keys.c.user_id), api_keys.c.revoked_at.is_(None))
)

# Locked in a fixed order, so that two gateways noting the same keys cannot deadlock.
_NOTE_USED = """
WITH used AS (
    SELECT k.id, n.at FROM json_to_recordset(CAST(:rows AS json)) AS n(id text, at timestamptz)
    JOIN api_keys k ON k.id = n.id ORDER BY k.id FOR UPDATE OF k
)
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at) FROM used WHERE k.id = used.id
"""

_GOOD = and_(api_keys.c.revoked_at.is_(None), or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()))
_ANY_WAY_IN = composed(select(or_(exists().where(_GOOD), exists().where(users.c.role == "admin")).label("found")))

_ANYBODY = composed(select(or_(exists(select(api_keys.c.id)), exists(select(users.c.id))).label("found")))

# By an admin key of an admin or of a program, or by an admin's password.
_ADMINS_KEY = (
    select(api_keys.c.id)
    .select_from(api_keys.outerjoin(users, users.c.id == api_keys.c.user_id))
    .where(
        matches(api_keys.c.tenant),
        any_(api_keys.c.scopes) == "admin",
        or_(api_keys.c.user_id.is_(None), users.c.role == "admin"),
        _GOOD,
    )
)
_ADMIN = select(users.c.id).where(matches(users.c.tenant), users.c.role == "admin")
_ANY_ADMIN = composed(select(or_(exists(_ADMINS_KEY), exists(_ADMIN)).label("found")))


@dataclass(frozen=True)
class Session:
    """A signed-in user, and when the password they signed in with was set."""

    user_id: UUID
    password_set_at: datetime


async def create(
    database: Database,
    tenant: str,
    key: NewKey,
    wanted: CreateKey,
    user_id: UUID | None = None,
    maker: Session | None = None,
    by: Author | None = None,
) -> KeyResource:
    """Store a key. Raises ``UNAUTHORIZED`` if the maker's password has changed since, or the maker is deleted.

    ``key``: its id and the hash of its secret. ``wanted``: its name, scopes and expiry.
    ``user_id``: the user it belongs to; None: a program's own key.
    ``maker``: the session that creates it; None: not created by a signed-in user.
    """
    scopes = sorted({scope.value for scope in wanted.scopes})
    async with changing(database) as tx:
        rows = await tx.run(
            _CREATE,
            id=key.id,
            tenant=tenant,
            name=wanted.name,
            user_id=user_id,
            scopes=scopes,
            secret_hash=key.secret_hash,
            expires_at=wanted.expires_at,
            maker=maker and maker.user_id,
            password_set_at=maker and maker.password_set_at,
        )
        if not rows:
            raise OrchestraError(ErrorCode.UNAUTHORIZED)
        tx.note(by, f"keys/{key.id}", after={"scopes": scopes, "user_id": user_id, "expires_at": wanted.expires_at})
    return _resource(rows[0])


async def find(database: Database, id: str) -> StoredKey | None:
    """A key of any tenant, even if revoked or expired. None if there is no such key."""
    rows = await database.run(_FIND, id=id)
    return _stored(rows[0]) if rows else None


async def page(
    database: Database, tenant: str, user_id: UUID | None, before: tuple[datetime, str] | None, limit: int
) -> list[KeyResource]:
    """Keys of a user that are older than ``before`` (creation time and id), newest first.

    ``user_id`` None: every key of the tenant.
    """
    where, values = applied(_CONDITIONS, user_id=user_id, before=before)
    rows = await database.run(newest_page(_OF_TENANT, api_keys, where), **values, tenant=tenant, limit=limit)
    return [_resource(row) for row in rows]


async def revoke(database: Database, tenant: str, user_id: UUID | None, id: str, by: Author | None = None) -> bool:
    """Revoke a key for good. ``user_id``: only if it is this user's. False if there is no such key."""
    async with changing(database) as tx:
        rows = await tx.run(_REVOKE, tenant=tenant, user_id=user_id, id=id)
        if rows:
            tx.note_once(by, f"keys/{id}")
        return bool(rows)


async def revoke_all(transaction: Transaction, user_id: UUID) -> None:
    """Revoke every key of a user. The transaction must hold a lock on the user's row."""
    await transaction.run(_REVOKE_ALL, user_id=user_id)


async def note_used(database: Database, moments: Mapping[str, datetime]) -> None:
    """Record when keys were last used, by key id."""
    rows = [{"id": id, "at": moment.isoformat()} for id, moment in moments.items()]
    await database.run(_NOTE_USED, rows=as_json(rows))


async def any_way_in(database: Database) -> bool:
    """Whether any credential can be accepted: a valid key, or an admin's password."""
    return bool((await database.run(_ANY_WAY_IN))[0].found)


async def anybody(database: Database) -> bool:
    """Whether there is any user or any key, valid or not."""
    return bool((await database.run(_ANYBODY))[0].found)


async def any_admin(transaction: Transaction, tenant: str) -> bool:
    """Whether any credential gives admin rights in this tenant: a valid key, or an admin's password."""
    return bool((await transaction.run(_ANY_ADMIN, tenant=tenant))[0].found)


def _resource(row: Any) -> KeyResource:
    return KeyResource.model_validate({name: row[name] for name in KeyResource.model_fields})


def _stored(row: Any) -> StoredKey:
    return StoredKey(_resource(row), row.tenant, bytes(row.secret_hash), row.username, row.role)
