"""Records that could not become requests: their original bytes, and the reason."""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, cast, func, select, update
from sqlalchemy.dialects.postgresql import JSONB

from orchestra.store.audit import Author, changing
from orchestra.store.compose import composed, matches
from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.pages import Found, SearchedList, applied, conditions, search
from orchestra.store.tables import dead_letters
from orchestra.store.turns import KEYS, RequestRef, refs_json
from schemas.api.dead_letters import DeadLetterFilter, DeadLetterSummary
from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode
from schemas.topics import MAX_RECORD_BYTES


@dataclass(frozen=True)
class DeadLetter:
    """A record that could not become a request, and the reason.

    ``value_bytes``: the length of the value if the value itself is not kept. ``vouched``: a gateway signed the record.
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
        """The same record with this reason."""
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

# Requests with these ids: their own replies say what became of them.
_TAKEN_IN = f"SELECT r.tenant, r.id FROM {KEYS} AS k JOIN requests r ON r.tenant = k.tenant AND r.id = k.id"

_SUMMARY = (
    dead_letters.c.id,
    dead_letters.c.request_id,
    dead_letters.c.reason,
    dead_letters.c.detail,
    dead_letters.c.topic,
    dead_letters.c.partition,
    dead_letters.c.record_offset.label("offset"),
    dead_letters.c.record_timestamp.label("timestamp_ms"),
    func.coalesce(dead_letters.c.value_bytes, func.octet_length(dead_letters.c.value)).label("value_bytes"),
    dead_letters.c.created_at,
    dead_letters.c.edited_at,
    dead_letters.c.replayed_at,
    dead_letters.c.replayed_as,
)
_OF_TENANT = matches(dead_letters.c.tenant)
# Versions before 0.1.0 kept decompressed values whole. A gateway reads no more of one than a record may hold.
_WHOLE = select(
    *_SUMMARY,
    dead_letters.c.tenant,
    dead_letters.c.record_key,
    func.substring(dead_letters.c.value, 1, MAX_RECORD_BYTES + 1).label("value"),
    dead_letters.c.headers,
    dead_letters.c.edited_key,
    dead_letters.c.edited_value,
    dead_letters.c.edited_headers,
).where(_OF_TENANT)
_CONDITIONS = conditions(
    dead_letters,
    reason=matches(dead_letters.c.reason),
    topic=matches(dead_letters.c.topic),
    replayed={True: dead_letters.c.replayed_at.is_not(None), False: dead_letters.c.replayed_at.is_(None)},
    until=dead_letters.c.created_at < bindparam("until"),
)

_LIST = SearchedList(dead_letters, _SUMMARY, _CONDITIONS, indexes=("reason",))

_GET = composed(_WHOLE.where(matches(dead_letters.c.id)))

_EDIT = composed(
    update(dead_letters)
    .values(
        edited_at=func.now(),
        edited_key=func.decode(bindparam("key"), "base64"),
        edited_value=func.decode(bindparam("value"), "base64"),
        edited_headers=cast(bindparam("headers"), JSONB),
    )
    .where(_OF_TENANT, matches(dead_letters.c.id))
)

_NOTE_REPLAYED = """
UPDATE dead_letters d SET replayed_at = now(), replayed_as = k.request_id
FROM json_to_recordset(CAST(:rows AS json)) AS k(id bigint, request_id uuid)
WHERE d.tenant = :tenant AND d.id = k.id
"""

_LAST_REPLAY = composed(
    select(func.max(dead_letters.c.replayed_at).label("at")).where(
        _OF_TENANT, dead_letters.c.replayed_as == bindparam("id")
    )
)

RecordPosition = tuple[datetime, int]
"""The position of a letter in a list: when it was kept, and its id."""


@dataclass(frozen=True)
class RawRecord:
    """The content of a record."""

    key: bytes | None
    value: bytes | None
    headers: RawHeaders


@dataclass(frozen=True)
class KeptLetter:
    """A stored letter. ``came``: the original, its value cut to ``MAX_RECORD_BYTES`` + 1 bytes."""

    tenant: str
    summary: DeadLetterSummary
    came: RawRecord
    edited: RawRecord | None

    @property
    def to_send(self) -> RawRecord:
        """What a replay sends."""
        return self.edited or self.came

    @property
    def place(self) -> RecordPosition:
        """Its position in a list."""
        return self.summary.created_at, self.summary.id


async def keep(tx: Transaction, letters: Sequence[DeadLetter]) -> None:
    """Store dead letters. One that is already stored is left unchanged."""
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
    """The letters among these whose id has no request."""
    if not letters:
        return []
    refs = [RequestRef(letter.tenant, letter.request_id) for letter in letters]
    taken_in = {(row.tenant, row.id) for row in await tx.run(_TAKEN_IN, refs=refs_json(refs))}
    return [letter for letter, ref in zip(letters, refs, strict=True) if ref not in taken_in]


async def reason_of(database: Database, tenant: str, request_id: UUID) -> tuple[ErrorCode, str] | None:
    """Why the record of this request became a dead letter. None if it did not, or if the id has a request."""
    ref = RequestRef(tenant, request_id)
    return (await reasons_of(database, [ref])).get(ref)


async def reasons_of(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, tuple[ErrorCode, str]]:
    """The reasons for many requests, as ``reason_of`` gives one; requests without a reason are left out."""
    rows = await database.run(_REASONS, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): (ErrorCode(row.reason), row.detail) for row in rows}


async def last_replay(database: Database, tenant: str, request_id: UUID) -> datetime | None:
    """When a letter was last replayed under this request id. None if never."""
    moment: datetime | None = (await database.run(_LAST_REPLAY, tenant=tenant, id=request_id))[0].at
    return moment


async def page(
    database: Database,
    tenant: str,
    filter: DeadLetterFilter,
    before: RecordPosition | None,
    limit: int,
    *,
    replayed: bool | None,
) -> Found[DeadLetterSummary]:
    """Letters of a tenant that were kept before this place, newest first.

    ``replayed``: only letters that were replayed, or only those that were not. None: both.
    """
    return await search(database, _LIST, _summary, limit, filter, tenant=tenant, before=before, replayed=replayed)


async def to_replay(
    database: Database, tenant: str, filter: DeadLetterFilter, after: RecordPosition | None, until: datetime, limit: int
) -> list[KeptLetter]:
    """Letters that were never replayed, kept after the place ``after`` and before ``until``, oldest first."""
    where, values = applied(_CONDITIONS, filter, after=after, until=until, replayed=False)
    rows = await database.run_in_order(_oldest_page(where), **values, tenant=tenant, limit=limit)
    return [_kept(row) for row in rows]


@lru_cache
def _oldest_page(where: tuple[ColumnElement[bool], ...]) -> str:
    oldest = _WHOLE.where(*where).order_by(dead_letters.c.created_at, dead_letters.c.id)
    return composed(oldest.limit(bindparam("limit")))


async def get(database: Database, tenant: str, id: int) -> KeptLetter | None:
    """One letter of a tenant, or None if there is no such letter."""
    rows = await database.run(_GET, tenant=tenant, id=id)
    return _kept(rows[0]) if rows else None


async def edit(database: Database, tenant: str, id: int, record: RawRecord, by: Author | None = None) -> None:
    """Set what replays of this letter send. The original is left unchanged."""
    headers = json.dumps(_stored_headers(record.headers))
    async with changing(database) as tx:
        await tx.run(_EDIT, tenant=tenant, id=id, key=_base64(record.key), value=_base64(record.value), headers=headers)
        tx.note(by, f"dead-letters/{id}", after={"bytes": len(record.value or b"")})


async def note_replayed(database: Database, tenant: str, sent: Mapping[int, UUID], by: Author | None = None) -> None:
    """Record that these letters were replayed now. ``sent``: the request id each one was sent under."""
    rows = [{"id": id, "request_id": request_id} for id, request_id in sent.items()]
    if not rows:
        return
    async with changing(database) as tx:
        await tx.run(_NOTE_REPLAYED, tenant=tenant, rows=as_json(rows))
        for id, request_id in sent.items():
            tx.note(by, f"dead-letters/{id}", after={"request_id": str(request_id)})


def _summary(row: Any) -> DeadLetterSummary:
    return DeadLetterSummary.model_validate({name: row[name] for name in DeadLetterSummary.model_fields})


def _kept(row: Any) -> KeptLetter:
    came = RawRecord(row.record_key, row.value, _raw_headers(row.headers))
    headers = row.edited_headers
    edited = None if headers is None else RawRecord(row.edited_key, row.edited_value, _raw_headers(headers))
    return KeptLetter(row.tenant, _summary(row), came, edited)


def _stored_headers(headers: RawHeaders) -> list[list[str | None]]:
    # A header name may hold text that jsonb refuses; the topic keeps the original.
    return [[_storable(name), _base64(value)] for name, value in headers]


def _raw_headers(stored: Sequence[tuple[str, str | None]]) -> RawHeaders:
    return [(name, None if value is None else base64.b64decode(value)) for name, value in stored]


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _storable(name: str) -> str:
    return name.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
