"""The audit: what people and keys have changed. Written in the transaction of the change, and logged once after it.

This is the only place that writes entries and logs changes.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import structlog

from orchestra.store.compose import matches
from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.pages import Found, SearchedList, conditions, search
from orchestra.store.tables import audit
from schemas.api.audit import Action, AuditEntry, AuditFilter
from schemas.changes import Change, Fields
from schemas.ids import change_id
from schemas.status import Status

_WRITE = """
INSERT INTO audit (event_id, tenant, actor, action, target, before, after, trace_id, created_at)
SELECT k.id, k.tenant, k.actor, k.action, k.target, nullif(k.before, 'null'), nullif(k.after, 'null'), k.trace_id,
    least(coalesce(k.at, now()), now())
FROM json_to_recordset(CAST(:rows AS json)) AS k(
    id uuid, tenant text, actor text, action text, target text, before jsonb, after jsonb, trace_id text, at timestamptz
)
ON CONFLICT (event_id) DO NOTHING
RETURNING event_id
"""

_ENTRY = (
    audit.c.id, audit.c.created_at, audit.c.actor, audit.c.action, audit.c.target, audit.c.before, audit.c.after,
    audit.c.trace_id,
)  # fmt: skip
_CONDITIONS = conditions(
    audit, actor=matches(audit.c.actor), action=matches(audit.c.action), target=matches(audit.c.target)
)
_LIST = SearchedList(audit, _ENTRY, _CONDITIONS, indexes=("target", "actor", "action"))

log = structlog.get_logger()


@dataclass(frozen=True)
class Author:
    """The credential that makes a change, its tenant, and the kind of change. ``trace_id``: that of the call."""

    tenant: str
    actor: str
    action: Action
    trace_id: str | None = None

    def change(
        self, target: str, before: Fields | None = None, after: Fields | None = None, id: UUID | None = None
    ) -> Change:
        """The change of this target, a path below ``/v1``. ``id``: the same if it is written again."""
        return Change(
            id=id or uuid4(), tenant=self.tenant, actor=self.actor, action=self.action, target=target, before=before,
            after=after, trace_id=self.trace_id,
        )  # fmt: skip

    def once(self, target: str, before: Fields | None = None, after: Fields | None = None) -> Change:
        """A change that can be made only once, such as a deletion: the first one that is written counts.

        Repeats and calls at the same time have the same id, by any caller.
        """
        return self.change(target, before, after, change_id(self.tenant, self.action, target))

    def cancel(self, request_id: UUID, status: Status) -> Change:
        """The cancel of a request that had this status."""
        return self.once(f"requests/{request_id}", {"status": status.value}, {"cancel_requested": True})


class Changing(Transaction):
    """A transaction that also writes the changes that are noted in it."""

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx.connection)
        self.changes: list[Change] = []

    def note(self, by: Author | None, target: str, before: Fields | None = None, after: Fields | None = None) -> None:
        """Note a change of this target. ``by`` None: the system's own, which is not audited."""
        if by:
            self.changes.append(by.change(target, before, after))

    def note_once(self, by: Author | None, target: str) -> None:
        """Note a change that can be made only once, as ``Author.once``."""
        if by:
            self.changes.append(by.once(target))


@asynccontextmanager
async def changing(database: Database) -> AsyncIterator[Changing]:
    """A transaction, as ``Database.transaction``, for changes that are audited. They are logged once committed."""
    async with database.transaction() as tx:
        noted = Changing(tx)
        yield noted
        written = await write(tx, noted.changes)
    log_changes(written)


async def write(tx: Transaction, changes: Sequence[Change]) -> list[Change]:
    """Write changes. Returns those that were not written before."""
    if not changes:
        return []
    rows = await tx.run(_WRITE, rows=as_json([change.model_dump() for change in changes]))
    new = {row.event_id for row in rows}
    return [change for change in changes if change.id in new]


def log_changes(changes: Sequence[Change]) -> None:
    """Log changes, after their commit."""
    for each in changes:
        log.info(
            "changed", tenant=each.tenant, actor=each.actor, action=each.action, target=each.target,
            trace_id=each.trace_id,
        )  # fmt: skip


async def page(
    database: Database, tenant: str, filter: AuditFilter, before: tuple[datetime, int] | None, limit: int
) -> Found[AuditEntry]:
    """Entries of a tenant older than ``before`` (time and number), newest first."""
    return await search(database, _LIST, _entry, limit, filter, tenant=tenant, before=before)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry.model_validate(dict(row))
