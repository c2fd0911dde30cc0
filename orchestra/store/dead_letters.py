"""Records that could not be taken in: the bytes as they came, and why."""

import base64
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.turns import Ref, refs_json
from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode


@dataclass(frozen=True)
class DeadLetter:
    """A record whole, with the reason why it was not taken in."""

    tenant: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: RawHeaders
    request_id: UUID
    reason: ErrorCode = ErrorCode.INTERNAL
    detail: str = ""

    def because(self, reason: ErrorCode, detail: str) -> "DeadLetter":
        """The same record with a reason."""
        return replace(self, reason=reason, detail=detail)


_KEEP = """
INSERT INTO dead_letters (
    tenant, topic, partition, record_offset, record_timestamp, request_id, reason, detail, record_key, value, headers
)
SELECT d.tenant, d.topic, d.partition, d.record_offset, d.record_timestamp, d.request_id, d.reason, d.detail,
    decode(d.record_key, 'base64'), decode(d.value, 'base64'), d.headers
FROM json_to_recordset(CAST(:rows AS json)) AS d(
    tenant text, topic text, partition integer, record_offset bigint, record_timestamp bigint, request_id uuid,
    reason text, detail text, record_key text, value text, headers jsonb
)
ON CONFLICT DO NOTHING
"""

_REASONS = """
SELECT DISTINCT ON (d.tenant, d.request_id) d.tenant, d.request_id AS id, d.reason, d.detail
FROM json_to_recordset(CAST(:refs AS json)) AS k(tenant text, id uuid)
JOIN dead_letters d ON d.tenant = k.tenant AND d.request_id = k.id
-- Of a request that was taken in, a letter tells only what became of another record under its id.
WHERE NOT EXISTS (SELECT 1 FROM requests r WHERE r.tenant = k.tenant AND r.id = k.id)
ORDER BY d.tenant, d.request_id, d.id
"""


async def keep(tx: Transaction, letters: Sequence[DeadLetter]) -> None:
    """Store dead letters; one that is already there is left as it is."""
    rows = [
        {
            "tenant": letter.tenant,
            "topic": letter.topic,
            "partition": letter.partition,
            "record_offset": letter.offset,
            "record_timestamp": letter.timestamp_ms,
            "request_id": letter.request_id,
            "reason": letter.reason,
            "detail": letter.detail,
            "record_key": _base64(letter.key),
            "value": _base64(letter.value),
            # A header name may hold what jsonb refuses; the topic has it as it came.
            "headers": [[_storable(name), _base64(value)] for name, value in letter.headers],
        }
        for letter in letters
    ]
    if rows:
        await tx.run(_KEEP, rows=as_json(rows))


async def reason_of(database: Database, tenant: str, request_id: UUID) -> tuple[ErrorCode, str] | None:
    """Why the record of this request became a dead letter, if it did and none under its id was taken in."""
    return (await reasons_of(database, [(tenant, request_id)])).get((tenant, request_id))


async def reasons_of(database: Database, refs: Collection[Ref]) -> dict[Ref, tuple[ErrorCode, str]]:
    """The same for many requests; those whose record became no dead letter are left out."""
    rows = await database.run(_REASONS, refs=refs_json(refs)) if refs else ()
    return {(row.tenant, row.id): (ErrorCode(row.reason), row.detail) for row in rows}


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
