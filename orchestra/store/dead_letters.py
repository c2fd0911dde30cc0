"""Records that could not be taken in: the bytes as they came, and why."""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.turns import KEYS, RequestRef, refs_json
from schemas.api.dead_letters import DeadLetterFilter, DeadLetterSummary
from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode
from schemas.topics import MAX_RECORD_BYTES


@dataclass(frozen=True)
class DeadLetter:
    """A record with the reason why it was not taken in. ``value_bytes``: how long its value was, if it is not kept.

    ``vouched``: a gateway signed it.
    """

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
    value_bytes: int | None = None
    vouched: bool = field(default=False, compare=False)

    def because(self, reason: ErrorCode, detail: str) -> "DeadLetter":
        """The same record with a reason."""
        return replace(self, reason=reason, detail=detail)


_KEEP = """
INSERT INTO dead_letters (
    tenant, topic, partition, record_offset, record_timestamp, request_id, reason, detail, record_key, value,
    value_bytes, headers
)
SELECT d.tenant, d.topic, d.partition, d.record_offset, d.record_timestamp, d.request_id, d.reason, d.detail,
    decode(d.record_key, 'base64'), decode(d.value, 'base64'), d.value_bytes, d.headers
FROM json_to_recordset(CAST(:rows AS json)) AS d(
    tenant text, topic text, partition integer, record_offset bigint, record_timestamp bigint, request_id uuid,
    reason text, detail text, record_key text, value text, value_bytes bigint, headers jsonb
)
ON CONFLICT DO NOTHING
"""

_REASONS = f"""
SELECT DISTINCT ON (d.tenant, d.request_id) d.tenant, d.request_id AS id, d.reason, d.detail
FROM {KEYS} AS k
JOIN dead_letters d ON d.tenant = k.tenant AND d.request_id = k.id
-- What was replayed under its id is on its way again; should it be refused again, that is another letter.
WHERE d.replayed_as IS DISTINCT FROM d.request_id
-- Of a request that was taken in, a letter tells only what became of another record under its id.
AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.tenant = k.tenant AND r.id = k.id)
ORDER BY d.tenant, d.request_id, d.id
"""

# Of those under whose id there is a request, another reply says what became of that.
_TAKEN_IN = f"SELECT r.tenant, r.id FROM {KEYS} AS k JOIN requests r ON r.tenant = k.tenant AND r.id = k.id"

_SUMMARY = """
SELECT d.id, d.request_id, d.reason, d.detail, d.topic, d.partition, d.record_offset AS offset,
    d.record_timestamp AS timestamp_ms, coalesce(d.value_bytes, octet_length(d.value)) AS value_bytes, d.created_at,
    d.edited_at, d.replayed_at, d.replayed_as
"""
# Releases up to 0.1.0 kept values whole, whatever they unpacked to: a gateway holds no more than a record may have.
_WHOLE = f"""
{_SUMMARY}, d.tenant, d.record_key, substring(d.value FROM 1 FOR {MAX_RECORD_BYTES + 1}) AS value, d.headers,
    d.edited_key, d.edited_value, d.edited_headers
"""

_EDIT = """
UPDATE dead_letters SET edited_at = now(), edited_key = decode(:key, 'base64'),
    edited_value = decode(:value, 'base64'), edited_headers = CAST(:headers AS jsonb)
WHERE tenant = :tenant AND id = :id
"""

_NOTE_REPLAYED = """
UPDATE dead_letters d SET replayed_at = now(), replayed_as = k.request_id
FROM json_to_recordset(CAST(:rows AS json)) AS k(id bigint, request_id uuid)
WHERE d.tenant = :tenant AND d.id = k.id
"""

_LAST_REPLAY = "SELECT max(replayed_at) AS at FROM dead_letters WHERE tenant = :tenant AND replayed_as = :id"

_CONDITIONS = {
    "reason": "d.reason = :reason",
    "topic": "d.topic = :topic",
    "created_after": "d.created_at >= :created_after",
    "created_before": "d.created_at < :created_before",
}
Place = tuple[datetime, int]
"""Where a letter stands in a list: when it was kept, and its id."""


@dataclass(frozen=True)
class RawRecord:
    """What a record carries."""

    key: bytes | None
    value: bytes | None
    headers: RawHeaders


@dataclass(frozen=True)
class KeptLetter:
    """A letter as it is kept. ``came``: what came, its value cut where it is longer than any record may be."""

    tenant: str
    summary: DeadLetterSummary
    came: RawRecord
    edited: RawRecord | None

    @property
    def to_send(self) -> RawRecord:
        """What a replay sends."""
        return self.edited or self.came

    @property
    def place(self) -> Place:
        """Where it stands in a list."""
        return self.summary.created_at, self.summary.id


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
            "value_bytes": letter.value_bytes,
            "headers": _stored_headers(letter.headers),
        }
        for letter in letters
    ]
    if rows:
        await tx.run(_KEEP, rows=as_json(rows))


async def without_request(tx: Transaction, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    """Those of these letters under whose id nothing was taken in."""
    if not letters:
        return []
    refs = [RequestRef(letter.tenant, letter.request_id) for letter in letters]
    taken_in = {(row.tenant, row.id) for row in await tx.run(_TAKEN_IN, refs=refs_json(refs))}
    return [letter for letter, ref in zip(letters, refs, strict=True) if ref not in taken_in]


async def reason_of(database: Database, tenant: str, request_id: UUID) -> tuple[ErrorCode, str] | None:
    """Why the record of this request became a dead letter, if it did and none under its id was taken in."""
    ref = RequestRef(tenant, request_id)
    return (await reasons_of(database, [ref])).get(ref)


async def reasons_of(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, tuple[ErrorCode, str]]:
    """The same for many requests; those whose record became no dead letter are left out."""
    rows = await database.run(_REASONS, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): (ErrorCode(row.reason), row.detail) for row in rows}


async def last_replay(database: Database, tenant: str, request_id: UUID) -> datetime | None:
    """When a letter was last replayed under this request id."""
    moment: datetime | None = (await database.run(_LAST_REPLAY, tenant=tenant, id=request_id))[0].at
    return moment


async def page(
    database: Database,
    tenant: str,
    filter: DeadLetterFilter,
    before: Place | None,
    limit: int,
    *,
    replayed: bool | None,
) -> list[DeadLetterSummary]:
    """Letters of a tenant that were kept before this place, newest first. ``replayed`` None: both kinds."""
    where, parameters = _where(tenant, filter)
    if before:
        where += " AND (d.created_at, d.id) < (CAST(:at AS timestamptz), :id)"
        parameters |= {"at": before[0], "id": before[1]}
    if replayed is not None:
        where += f" AND d.replayed_at IS {'NOT' if replayed else ''} NULL"
    sql = f"{_SUMMARY} {where} ORDER BY d.created_at DESC, d.id DESC LIMIT :limit"
    return [_summary(row) for row in await database.run(sql, **parameters, limit=limit)]


async def to_replay(
    database: Database, tenant: str, filter: DeadLetterFilter, after: Place | None, until: datetime, limit: int
) -> list[KeptLetter]:
    """Letters that were never replayed, kept after this place and before ``until``, oldest first."""
    where, parameters = _where(tenant, filter)
    if after:
        where += " AND (d.created_at, d.id) > (CAST(:at AS timestamptz), :id)"
        parameters |= {"at": after[0], "id": after[1]}
    where += " AND d.replayed_at IS NULL AND d.created_at < :until"
    sql = f"{_WHOLE} {where} ORDER BY d.created_at, d.id LIMIT :limit"
    return [_kept(row) for row in await database.run(sql, **parameters, until=until, limit=limit)]


async def get(database: Database, tenant: str, id: int) -> KeptLetter | None:
    """One letter of a tenant."""
    where, parameters = _where(tenant, DeadLetterFilter())
    rows = await database.run(f"{_WHOLE} {where} AND d.id = :id", **parameters, id=id)
    return _kept(rows[0]) if rows else None


async def edit(database: Database, tenant: str, id: int, record: RawRecord) -> None:
    """Let replays of this letter send this; what came is left as it is."""
    headers = json.dumps(_stored_headers(record.headers))
    await database.run(
        _EDIT, tenant=tenant, id=id, key=_base64(record.key), value=_base64(record.value), headers=headers
    )


async def note_replayed(database: Database, tenant: str, sent: Mapping[int, UUID]) -> None:
    """Keep that these letters were replayed now, and under which request ids."""
    rows = [{"id": id, "request_id": request_id} for id, request_id in sent.items()]
    if rows:
        await database.run(_NOTE_REPLAYED, tenant=tenant, rows=as_json(rows))


def _where(tenant: str, filter: DeadLetterFilter) -> tuple[str, dict[str, Any]]:
    given = {name: value for name in _CONDITIONS if (value := getattr(filter, name)) is not None}
    where = "".join(f" AND {_CONDITIONS[name]}" for name in given)
    return f"FROM dead_letters d WHERE d.tenant = :tenant{where}", {"tenant": tenant, **given}


def _summary(row: Any) -> DeadLetterSummary:
    return DeadLetterSummary.model_validate({name: row[name] for name in DeadLetterSummary.model_fields})


def _kept(row: Any) -> KeptLetter:
    came = RawRecord(row.record_key, row.value, _raw_headers(row.headers))
    headers = row.edited_headers
    edited = None if headers is None else RawRecord(row.edited_key, row.edited_value, _raw_headers(headers))
    return KeptLetter(row.tenant, _summary(row), came, edited)


def _stored_headers(headers: RawHeaders) -> list[list[str | None]]:
    # A header name may hold what jsonb refuses; the topic has it as it came.
    return [[_storable(name), _base64(value)] for name, value in headers]


def _raw_headers(stored: Sequence[tuple[str, str | None]]) -> RawHeaders:
    return [(name, None if value is None else base64.b64decode(value)) for name, value in stored]


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
