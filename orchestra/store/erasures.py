"""The ledger of erasures: whose data are deleted, and what is left to do. `orchestra/store/erasing.py` does it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.store import users
from orchestra.store.audit import Author, changing
from orchestra.store.database import Database, Transaction
from schemas.erasures import Erased

# A gateway knows a credential for as long after it was revoked. No statement lasts longer, either.
SETTLES_SECONDS = 120

_COLUMNS = (
    "id, tenant, owner_hash, owner, requested_at, refuses_until, recorded, CAST(erased AS text) AS erased, finished_at"
)

# Numbers must grow with each commit: with two at once, a worker might know the higher one and miss the lower.
_LOCK = "LOCK TABLE erasures IN SHARE ROW EXCLUSIVE MODE"
_RUNNING = f"SELECT {_COLUMNS} FROM erasures WHERE tenant = :tenant AND owner = :owner AND finished_at IS NULL"
_NOTE = f"""
INSERT INTO erasures (id, tenant, owner_hash, owner) VALUES (:id, :tenant, :owner_hash, :owner)
RETURNING {_COLUMNS}
"""
_REVOKE_PROGRAMS = """
UPDATE api_keys SET revoked_at = now()
WHERE tenant = :tenant AND user_id IS NULL AND 'key:' || name = :owner AND revoked_at IS NULL
    AND (CAST(:until AS timestamptz) IS NULL OR created_at <= :until)
"""

_PAGE = f"""
SELECT {_COLUMNS} FROM erasures
WHERE tenant = :tenant
    AND (CAST(:before AS timestamptz) IS NULL OR (requested_at, id) < (CAST(:before AS timestamptz), CAST(:id AS uuid)))
ORDER BY requested_at DESC, id DESC LIMIT :limit
"""
_FIND = f"SELECT {_COLUMNS} FROM erasures WHERE tenant = :tenant AND id = :id"
_REFUSED = "SELECT tenant, owner_hash FROM erasures WHERE finished_at IS NULL AND refuses_until IS NULL"
_LEDGER = f"SELECT number, {_COLUMNS} FROM erasures ORDER BY number"
_IS_KNOWN = "coalesce((SELECT max(number) FROM erasures), 0) <= CAST(:ledger AS bigint)"
IS_CURRENT = f"(CAST(:ledger AS bigint) IS NULL OR {_IS_KNOWN})"
"""The condition that no erasure was noted after the one with the number ``ledger``; true for none."""

# One worker at a time; should it die, another one goes on after a minute.
_TAKE = f"""
UPDATE erasures SET due_at = now() + interval '1 minute' WHERE id = (
    SELECT id FROM erasures WHERE finished_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING {_COLUMNS}, now() > noted_at + make_interval(secs => :settles) AS settled
"""
_RECORDED = "UPDATE erasures SET recorded = true WHERE id = :id"
_ADD = """
UPDATE erasures SET due_at = now() + interval '1 minute', erased = (
    SELECT coalesce(jsonb_object_agg(s.key, s.n), '{}') FROM (
        SELECT key, sum(CAST(value AS bigint)) AS n
        FROM (SELECT * FROM jsonb_each_text(erased) UNION ALL SELECT * FROM jsonb_each_text(CAST(:found AS jsonb))) AS e
        GROUP BY key
    ) AS s
)
WHERE id = :id
"""
_AGAIN = "UPDATE erasures SET due_at = now() + make_interval(secs => :seconds) WHERE id = :id"
# With a new number, so that every worker learns until when the owner's records are refused.
_FINISH = """
UPDATE erasures SET owner = NULL, finished_at = now(), refuses_until = :until, number = nextval('erasures_number_seq')
WHERE id = :id AND finished_at IS NULL
"""

_READ_BACK = """
INSERT INTO erasures AS e (id, tenant, owner_hash, requested_at, refuses_until, recorded)
VALUES (:id, :tenant, :owner_hash, :requested_at, :refuses_until, true)
ON CONFLICT (id) DO UPDATE SET recorded = true, refuses_until = coalesce(e.refuses_until, excluded.refuses_until)
RETURNING xmax = 0 AS added
"""


class LedgerOutdatedError(Exception):
    """An erasure was noted since the ledger was read: what is written now may belong to an erased owner."""


@dataclass(frozen=True)
class StoredErasure:
    """One erasure. ``owner`` None: forgotten, or not known in this database. ``erased``: rows by kind, so far.

    ``refuses_until`` None: what the owner sends is refused, whenever it comes.
    """

    id: UUID
    tenant: str
    owner_hash: str
    owner: str | None
    requested_at: datetime
    refuses_until: datetime | None
    recorded: bool
    erased: Mapping[str, int]
    finished_at: datetime | None

    @property
    def record(self) -> Erased:
        """As the topic of erasures has it."""
        return Erased(
            id=self.id, tenant=self.tenant, owner_hash=self.owner_hash, requested_at=self.requested_at,
            refuses_until=self.refuses_until,
        )  # fmt: skip


@dataclass(frozen=True)
class Work:
    """An erasure that this worker is to work on. ``settled``: no one can add data of the owner any more."""

    erasure: StoredErasure
    settled: bool


@dataclass(frozen=True)
class Ledger:
    """Every erasure, as read at one time. ``number``: of the last one; 0: there is none."""

    number: int = 0
    erasures: Sequence[StoredErasure] = ()


async def note(
    database: Database, tenant: str, owner: str, owner_hash: str, id: UUID, by: Author, *, leave_admin: bool
) -> StoredErasure:
    """Note that the data of this owner are to be deleted, and take away the owner's access.

    If that is under way already, returns what was noted then. ``leave_admin``: raise ``FORBIDDEN`` if no credential
    would give admin rights any more.
    """
    async with changing(database) as tx:
        await tx.run(_LOCK)
        if found := await tx.run(_RUNNING, tenant=tenant, owner=owner):
            return _stored(found[0])
        await end_access(tx, tenant, owner, leave_admin=leave_admin)
        rows = await tx.run(_NOTE, id=id, tenant=tenant, owner_hash=owner_hash, owner=owner)
        tx.note(by, f"erasures/{id}")
    return _stored(rows[0])


async def end_access(
    tx: Transaction, tenant: str, owner: str, *, until: datetime | None = None, leave_admin: bool = False
) -> None:
    """Take away a user's password, role, sessions and keys, or revoke a program's keys.

    ``until``: leave the program's keys that are newer, if its name may be used again since then.
    ``leave_admin``: raise ``FORBIDDEN`` if no credential would give admin rights any more.
    """
    if user_id := user_id_of(owner):
        await users.lock_out(tx, tenant, user_id, leave_admin=leave_admin)
    await tx.run(_REVOKE_PROGRAMS, tenant=tenant, owner=owner, until=until)


async def find(database: Database, tenant: str, id: UUID) -> StoredErasure | None:
    """One erasure of a tenant; None if there is no such erasure."""
    rows = await database.run(_FIND, tenant=tenant, id=id)
    return _stored(rows[0]) if rows else None


async def page(
    database: Database, tenant: str, before: tuple[datetime, UUID] | None, limit: int
) -> list[StoredErasure]:
    """At most ``limit`` erasures of a tenant, newest first. ``before``: time and id of the one before them."""
    moment, id = before or (None, None)
    return [_stored(row) for row in await database.run(_PAGE, tenant=tenant, before=moment, id=id, limit=limit)]


async def running(database: Database) -> frozenset[tuple[str, str]]:
    """The owners that are being erased, as tenant and hash, but those whose names may be used again already."""
    return frozenset((row.tenant, row.owner_hash) for row in await database.run(_REFUSED))


async def ledger(database: Database) -> Ledger:
    """All erasures of all tenants, in their order."""
    rows = await database.run(_LEDGER)
    return Ledger(rows[-1].number if rows else 0, [_stored(row) for row in rows])


async def check_current(tx: Transaction, ledger: int | None) -> None:
    """Raise ``LedgerOutdatedError`` if there are erasures beyond this number. None: do not look."""
    if ledger is not None and not (await tx.run(f"SELECT {_IS_KNOWN} AS current", ledger=ledger))[0].current:
        raise LedgerOutdatedError


async def take(database: Database, settles: float = SETTLES_SECONDS) -> Work | None:
    """An erasure that is due, for a minute after its last step. None: there is nothing to do.

    ``settles``: seconds after which no one can add data of the owner any more.
    """
    rows = await database.run(_TAKE, settles=settles)
    return Work(_stored(rows[0]), rows[0].settled) if rows else None


async def note_recorded(database: Database, id: UUID) -> None:
    """Note that Kafka has the record of an erasure."""
    await database.run(_RECORDED, id=id)


async def add(run: Database | Transaction, id: UUID, found: Mapping[str, int]) -> None:
    """Add to what was erased, and keep the erasure for another minute."""
    await run.run(_ADD, id=id, found=json.dumps({kind: count for kind, count in found.items() if count}))


async def again(database: Database, id: UUID, seconds: float) -> None:
    """Have an erasure taken again after ``seconds``."""
    await database.run(_AGAIN, id=id, seconds=seconds)


async def finish(tx: Transaction, id: UUID, until: datetime | None) -> None:
    """End an erasure, and forget its owner. ``until``: the owner's records up to then are refused; None: all."""
    await tx.run(_LOCK)
    await tx.run(_FINISH, id=id, until=until)


async def read_back(database: Database, records: Sequence[Erased]) -> int:
    """Note erasures that Kafka has and this database lacks: they were made after its dump. Returns how many."""
    added = 0
    for record in records:
        async with database.transaction() as tx:
            await tx.run(_LOCK)
            added += sum(row.added for row in await tx.run(_READ_BACK, **record.model_dump()))
    return added


def user_id_of(owner: str) -> UUID | None:
    """The user with this owner's name; None for programs and other names."""
    try:
        id = UUID(owner)
    except ValueError:
        return None
    return id if str(id) == owner else None


def _stored(row: Any) -> StoredErasure:
    fields = {name: row[name] for name in StoredErasure.__dataclass_fields__}
    return StoredErasure(**{**fields, "erased": json.loads(row.erased)})
