"""API keys: made, found with the user whose they are, listed, revoked. Of a secret there is only its hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.credentials import NewKey
from orchestra.store.database import Database, Transaction, as_json
from schemas.api.keys import CreateKey, KeyResource
from schemas.api.users import Role
from schemas.errors import ErrorCode, OrchestraError


@dataclass(frozen=True)
class StoredKey:
    """A key's row with its user's name and role as they are now; None for a program's own key."""

    resource: KeyResource
    tenant: str
    secret_hash: bytes = field(repr=False)
    username: str | None
    role: Role | None


_COLUMNS = """
k.id, k.name, k.user_id, k.scopes, k.created_at, k.expires_at, k.last_used_at, k.revoked_at
"""

# The lock is for those who set another password meanwhile: they revoke the key too, or there is none.
_CREATE = f"""
WITH session AS (
    SELECT id FROM users
    WHERE id = CAST(:maker AS uuid) AND password_set_at = CAST(:password_set_at AS timestamptz) FOR SHARE
)
INSERT INTO api_keys AS k (id, tenant, name, user_id, scopes, secret_hash, expires_at)
SELECT :id, :tenant, :name, CAST(:user_id AS uuid), CAST(:scopes AS text[]), :secret_hash,
    CAST(:expires_at AS timestamptz)
WHERE CAST(:maker AS uuid) IS NULL OR EXISTS (SELECT FROM session)
RETURNING {_COLUMNS}
"""

_FIND = f"""
SELECT {_COLUMNS}, k.tenant, k.secret_hash, u.username, u.role
FROM api_keys k LEFT JOIN users u ON u.id = k.user_id WHERE k.id = :id
"""

_PAGE = f"""
SELECT {_COLUMNS} FROM api_keys k
WHERE k.tenant = :tenant AND (CAST(:user_id AS uuid) IS NULL OR k.user_id = CAST(:user_id AS uuid))
    AND (CAST(:before AS timestamptz) IS NULL
        OR (k.created_at, k.id) < (CAST(:before AS timestamptz), CAST(:id AS text)))
ORDER BY k.created_at DESC, k.id DESC LIMIT :limit
"""

_REVOKE = """
UPDATE api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE tenant = :tenant AND id = :id AND (CAST(:user_id AS uuid) IS NULL OR user_id = CAST(:user_id AS uuid))
RETURNING id
"""

_REVOKE_ALL = "UPDATE api_keys SET revoked_at = now() WHERE user_id = :user_id AND revoked_at IS NULL"

# Locked in one order, so that two gateways that note the same keys do not stop each other.
_NOTE_USED = """
WITH used AS (
    SELECT k.id, n.at FROM json_to_recordset(CAST(:rows AS json)) AS n(id text, at timestamptz)
    JOIN api_keys k ON k.id = n.id ORDER BY k.id FOR UPDATE OF k
)
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at) FROM used WHERE k.id = used.id
"""

_ANY_WAY_IN = """
SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()))
    OR EXISTS (SELECT FROM users WHERE role = 'admin') AS found
"""

_ANYBODY = "SELECT EXISTS (SELECT FROM api_keys) OR EXISTS (SELECT FROM users) AS found"


# By a key of an admin's role or of a program, or with a password.
_ANY_ADMIN = """
SELECT EXISTS (
    SELECT FROM api_keys k LEFT JOIN users u ON u.id = k.user_id
    WHERE k.tenant = :tenant AND 'admin' = ANY (k.scopes) AND (k.user_id IS NULL OR u.role = 'admin')
        AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
) OR EXISTS (SELECT FROM users WHERE tenant = :tenant AND role = 'admin') AS found
"""


@dataclass(frozen=True)
class Session:
    """Somebody who signed in with the password that was set at this moment."""

    user_id: UUID
    password_set_at: datetime


async def create(
    database: Database,
    tenant: str,
    key: NewKey,
    wanted: CreateKey,
    user_id: UUID | None = None,
    maker: Session | None = None,
) -> KeyResource:
    """Keep a key of this user of the tenant; without one it is a program's own.

    Raises ``UNAUTHORIZED`` when the maker has another password since, or is gone.
    """
    rows = await database.run(
        _CREATE,
        id=key.id,
        tenant=tenant,
        name=wanted.name,
        user_id=user_id,
        scopes=sorted({scope.value for scope in wanted.scopes}),
        secret_hash=key.secret_hash,
        expires_at=wanted.expires_at,
        maker=maker and maker.user_id,
        password_set_at=maker and maker.password_set_at,
    )
    if not rows:
        raise OrchestraError(ErrorCode.UNAUTHORIZED)
    return _resource(rows[0])


async def find(database: Database, id: str) -> StoredKey | None:
    """A key of any tenant, revoked and expired ones too."""
    rows = await database.run(_FIND, id=id)
    return _stored(rows[0]) if rows else None


async def page(
    database: Database, tenant: str, user_id: UUID | None, before: tuple[datetime, str] | None, limit: int
) -> list[KeyResource]:
    """Keys of a user, or of everybody, that are older than ``before`` (creation time and id), newest first."""
    moment, id = before or (None, None)
    rows = await database.run(_PAGE, tenant=tenant, user_id=user_id, before=moment, id=id, limit=limit)
    return [_resource(row) for row in rows]


async def revoke(database: Database, tenant: str, user_id: UUID | None, id: str) -> bool:
    """Revoke a key of a user, or of anybody; False when there is none. Once revoked it stays so."""
    return bool(await database.run(_REVOKE, tenant=tenant, user_id=user_id, id=id))


async def revoke_all(transaction: Transaction, user_id: UUID) -> None:
    """Revoke every key of a user, whose row the transaction holds."""
    await transaction.run(_REVOKE_ALL, user_id=user_id)


async def note_used(database: Database, moments: Mapping[str, datetime]) -> None:
    """Keep when keys were last used, by their id."""
    rows = [{"id": id, "at": moment.isoformat()} for id, moment in moments.items()]
    await database.run(_NOTE_USED, rows=as_json(rows))


async def any_way_in(database: Database) -> bool:
    """True when somebody could come in: by a key that is good, or as an admin with a password."""
    return bool((await database.run(_ANY_WAY_IN))[0].found)


async def anybody(database: Database) -> bool:
    """True when somebody has credentials, or had: a key or a user."""
    return bool((await database.run(_ANYBODY))[0].found)


async def any_admin(transaction: Transaction, tenant: str) -> bool:
    """True when somebody could come in as an admin of this tenant: by a key that is good, or with a password."""
    return bool((await transaction.run(_ANY_ADMIN, tenant=tenant))[0].found)


def _resource(row: Any) -> KeyResource:
    return KeyResource.model_validate({name: row[name] for name in KeyResource.model_fields})


def _stored(row: Any) -> StoredKey:
    return StoredKey(_resource(row), row.tenant, bytes(row.secret_hash), row.username, row.role)
