"""What operators have paused: the turns of a model, or all turns of a tenant, are not claimed for a while."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestra.store.claims import HELD_BACK_CODES, Paused
from orchestra.store.database import Database, Transaction
from schemas.errors import ErrorCode, OrchestraError

MAX_PAUSES = 100
"""Models that one tenant may have paused at a time: every claim compares turns with them."""


def _model_of(name: str, columns: str) -> str:
    return f"""(
        SELECT {columns} FROM models m WHERE m.name = {name} OR {name} = ANY(m.aliases)
        ORDER BY m.name = {name} DESC, m.name LIMIT 1
    )"""


def _names_of(name: str) -> str:
    """All names of the model that has this name now: models and aliases change while something is paused."""
    return f"(ARRAY[{name}] || coalesce({_model_of(name, 'm.name || m.aliases')}, '{{}}'))"


_GIVEN = "CAST(:model AS text)"
_IN_FORCE = "(p.until IS NULL OR p.until > now())"
_COLUMNS = "p.tenant, nullif(p.model, '') AS model, p.reason, p.paused_by, p.paused_at, p.until"

NAMES = f"""
SELECT p.tenant, n.name FROM pauses p CROSS JOIN LATERAL unnest({_names_of("p.model")}) AS n(name) WHERE {_IN_FORCE}
"""
"""The names that are paused now, as rows of tenant and name. An empty name means every model of the tenant."""

NOT_PAUSED = f"((r.tenant, r.model) NOT IN ({NAMES}) AND (r.tenant, '') NOT IN ({NAMES}))"
"""The condition that the turn ``r`` is not paused."""

COULD_RUN = f"""(
    r.run_at <= now() AND r.deadline_at > now()
    AND (r.error_code IS NULL OR r.error_code NOT IN ({HELD_BACK_CODES})) AND {NOT_PAUSED}
)"""
"""The condition that the pending turn ``r`` waits for nothing but a worker."""

# Two pauses at the same time must not both be the last one that the limit allows.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('pauses ' || :tenant, 0))"

# Those that are over count no longer.
_FORGET = "DELETE FROM pauses p WHERE p.tenant = :tenant AND p.until <= now()"

# A model is paused under its own name, whatever alias was given.
_PAUSE = f"""
INSERT INTO pauses AS p (tenant, model, reason, paused_by, until)
SELECT CAST(:tenant AS text), coalesce({_model_of(_GIVEN, "m.name")}, {_GIVEN}), CAST(:reason AS text),
    CAST(:paused_by AS text), CAST(:until AS timestamptz)
WHERE :model = '' OR (SELECT count(*) FROM pauses o WHERE o.tenant = :tenant AND o.model <> '') < :most
RETURNING {_COLUMNS}
"""

_RESUME = f"""
DELETE FROM pauses p WHERE p.tenant = :tenant AND p.model = ANY({_names_of(_GIVEN)})
RETURNING {_COLUMNS}, {_IN_FORCE} AS held
"""

_OF_TENANT = f"""
SELECT {_COLUMNS} FROM pauses p WHERE p.tenant = :tenant AND {_IN_FORCE} ORDER BY p.model LIMIT :limit
"""

_HOLDING = f"""
SELECT {_COLUMNS} FROM pauses p
WHERE p.tenant = :tenant AND (p.model = '' OR p.model = ANY({_names_of(_GIVEN)})) AND {_IN_FORCE} ORDER BY p.model
"""


@dataclass(frozen=True)
class Pause:
    """A pause in force. ``model`` None: of the whole tenant. ``until`` None: until it is resumed.

    ``paused_by``: the credential, as in the audit.
    """

    tenant: str
    model: str | None
    reason: str
    paused_by: str
    paused_at: datetime
    until: datetime | None


async def pause(
    tx: Transaction, tenant: str, model: str | None, *, reason: str, until: datetime | None, by: str
) -> tuple[Pause, Pause | None]:
    """Pause a model of a tenant, or (``model`` None) all of the tenant. Returns the pause, and the one it replaces.

    Raises ``INVALID_REQUEST`` beyond ``MAX_PAUSES``.
    """
    await tx.run(_LOCK, tenant=tenant)
    await tx.run(_FORGET, tenant=tenant)
    before = await resume(tx, tenant, model)
    rows = await tx.run(
        _PAUSE, tenant=tenant, model=model or "", reason=reason, paused_by=by, until=until, most=MAX_PAUSES
    )
    if not rows:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, f"{MAX_PAUSES} models are paused already; resume one of them")
    return Pause(**rows[0]), before[0] if before else None


async def resume(tx: Transaction, tenant: str, model: str | None) -> list[Pause]:
    """End the pauses of a model under all its names, or (``model`` None) that of the tenant. Returns those in force."""
    rows: list[dict[str, Any]] = [dict(row) for row in await tx.run(_RESUME, tenant=tenant, model=model or "")]
    return [Pause(**row) for row in rows if row.pop("held")]


async def of_tenant(database: Database, tenant: str) -> list[Pause]:
    """The pauses of a tenant that are in force, that of the whole tenant first."""
    return [Pause(**row) for row in await database.run(_OF_TENANT, tenant=tenant, limit=MAX_PAUSES + 1)]


async def holding(database: Database, tenant: str, model: str) -> list[Pause]:
    """The pauses in force that hold a request for this model, which may be an alias: the tenant's, and the model's."""
    return [Pause(**row) for row in await database.run(_HOLDING, tenant=tenant, model=model)]


async def in_force(database: Database) -> Paused:
    """What no worker may claim now, of all tenants."""
    rows: Sequence[Any] = await database.run(NAMES)
    return Paused(
        frozenset(row.tenant for row in rows if not row.name),
        frozenset((row.tenant, row.name) for row in rows if row.name),
    )
