"""Requests as a gateway reads them: state and answer, by id."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orchestra.store.claims import HELD_BACK
from orchestra.store.database import Database
from orchestra.store.turns import KEYS, PAGE_BYTES, ConversationRef, RequestRef, refs_json
from schemas.api.requests import RequestFilter, RequestResource
from schemas.status import Status

_RESOURCE = """
SELECT r.id, CASE WHEN r.status = 'waiting' THEN 'pending' ELSE r.status END AS status, r.conversation_id,
    r.model, r.task_type, r.created_at, r.started_at, r.finished_at, r.fence AS attempts, m.content AS reply, r.usage,
    CASE WHEN r.status = 'failed'
        THEN json_build_object('code', r.error_code, 'detail', r.error_detail) END AS error,
    r.cancel_requested_at IS NOT NULL AS cancel_requested, r.retry_of, m.finish_reason,
    CASE WHEN r.error_code IS NOT NULL AND r.status IN ('waiting', 'pending', 'in_progress', 'expired')
        THEN json_build_object('code', r.error_code, 'detail', r.error_detail) END AS last_error,
    r.body -> 'metadata' AS metadata
"""

_FIND = f"""
{_RESOURCE}, r.tenant, r.body_hash, r.user_name AS owner
FROM {KEYS} AS k
JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id
LEFT JOIN messages m ON m.tenant = r.tenant AND m.request_id = r.id AND m.role = 'assistant'
WHERE r.deleted_at IS NULL AND c.deleted_at IS NULL
"""

_THERE = """
SELECT r.* FROM requests r
JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id AND c.deleted_at IS NULL
WHERE r.tenant = :tenant AND r.deleted_at IS NULL
"""
# Only the conditions that are asked for, so that each kind of list has a plan with the index that fits it.
_CONDITIONS = {
    "only": "r.user_name = :only",
    "status": "r.status = :status",
    "model": "r.model = :model",
    "conversation_id": "r.conversation_id = :conversation_id",
    "task_type": "r.task_type = :task_type",
    "created_after": "r.created_at >= :created_after",
    "created_before": "r.created_at < :created_before",
    "before": "(r.created_at, r.id) < (CAST(:before AS timestamptz), CAST(:before_id AS uuid))",
}
# Word for word as the indexes of open and of unanswered requests have it: a parameter would not show that they fit.
_OF_STATUS = {status: f"r.status = '{status}'" for status in Status}
_OF_STATUS[Status.PENDING] = "(r.status = 'pending' OR r.status = 'waiting')"

_HASHES = f"""
SELECT r.tenant, r.id, r.body_hash FROM {KEYS} AS k
JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
"""

_OWNED = "SELECT id FROM requests WHERE tenant = :tenant AND id = :id AND user_name IS NOT NULL"

_DELETED = f"""
SELECT r.tenant, r.id FROM {KEYS} AS k
JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
JOIN conversations c ON c.tenant = r.tenant AND c.id = r.conversation_id
WHERE r.deleted_at IS NOT NULL OR c.deleted_at IS NOT NULL
"""

# A turn's age counts from when it could have run; what waits for a model that is held back says nothing of the queue.
# One look into the index for each priority.
_OLDEST_RUNNABLE = f"""
SELECT coalesce(max(extract(epoch FROM now() - oldest.run_at)), 0) AS age
FROM generate_series(0, 9) AS p(priority)
CROSS JOIN LATERAL (
    SELECT run_at FROM requests
    WHERE status = 'pending' AND priority = p.priority AND run_at <= now()
        AND (error_code IS NULL OR error_code NOT IN ({", ".join(f"'{code}'" for code in sorted(HELD_BACK))}))
    ORDER BY run_at LIMIT 1
) AS oldest
"""

# seq counts turns, so that the distance to the head bounds what is open without counting it.
_FULL = """
SELECT h.tenant, h.conversation_id, coalesce(c.owner, c.user_id::text) AS owner FROM requests h
JOIN conversations c ON c.tenant = h.tenant AND c.id = h.conversation_id
WHERE h.status IN ('pending', 'in_progress') AND c.next_seq - h.seq > :most
    AND (SELECT count(*) FROM requests w
         WHERE w.tenant = h.tenant AND w.conversation_id = h.conversation_id AND w.status = 'waiting') >= :most
"""


_ESTIMATED_OPEN = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0) AS estimate FROM pg_class
WHERE oid IN (to_regclass('requests_one_head'), to_regclass('requests_waiting'))
"""


@dataclass(frozen=True)
class StoredRequest:
    """A request's row. ``body_hash`` tells whether it is the one that was asked for, ``owner`` whose it is."""

    resource: RequestResource
    body_hash: str
    owner: str | None = None


async def find(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, StoredRequest]:
    """The requests that have a row; deleted ones have none."""
    if not refs:
        return {}
    rows = await database.run(_FIND, refs=refs_json(refs))
    return {RequestRef(row.tenant, row.id): _stored(row) for row in rows}


async def page(
    database: Database,
    tenant: str,
    only: str | None,
    filter: RequestFilter,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> tuple[list[RequestResource], bool]:
    """Up to ``limit`` requests older than ``before`` (creation time and id), newest first; True when there are more.

    ``only``: the owner whose requests there are, and no others; None: everybody's. Long replies make a page shorter,
    but never empty.
    """
    sql, parameters = page_statement(tenant, only, filter, before)
    rows = await database.run(sql, **parameters, limit=limit + 1)
    found = [RequestResource.model_validate(dict(row)) for row in rows[:limit]]
    return found, bool(rows) and rows[0].found > min(len(rows), limit)


def page_statement(
    tenant: str, only: str | None, filter: RequestFilter, before: tuple[datetime, UUID] | None
) -> tuple[str, dict[str, Any]]:
    """The statement of a page and its parameters, without ``limit``."""
    named = {"only": only, **{name: getattr(filter, name) for name in RequestFilter.model_fields}}
    given = {name: value for name, value in named.items() if value is not None}
    if before:
        given |= {"before": before[0], "before_id": before[1]}
    conditions = [_CONDITIONS[name] for name in given if name not in ("status", "before_id")]
    if filter.status:
        conditions.append(_OF_STATUS[given.pop("status")])
    newest = " AND ".join([_THERE, *conditions]) + " ORDER BY r.created_at DESC, r.id DESC LIMIT :limit"
    sql = f"""
    {_RESOURCE}, r.found FROM (
        SELECT n.*, count(*) OVER () AS found, row_number() OVER w AS place,
            sum(coalesce(octet_length(a.content), 0)) OVER w AS so_far
        FROM ({newest}) AS n
        LEFT JOIN messages a ON a.tenant = n.tenant AND a.request_id = n.id AND a.role = 'assistant'
        WINDOW w AS (ORDER BY n.created_at DESC, n.id DESC)
    ) AS r
    LEFT JOIN messages m ON m.tenant = r.tenant AND m.request_id = r.id AND m.role = 'assistant'
    WHERE r.place = 1 OR r.so_far <= {PAGE_BYTES}
    ORDER BY r.created_at DESC, r.id DESC
    """
    return sql, {"tenant": tenant, **given}


async def body_hashes(database: Database, refs: Collection[RequestRef]) -> dict[RequestRef, str]:
    """The hashes of the bodies under these ids; of those that are deleted too."""
    rows = await database.run(_HASHES, refs=refs_json(refs)) if refs else ()
    return {RequestRef(row.tenant, row.id): row.body_hash for row in rows}


async def is_owned(database: Database, ref: RequestRef) -> bool:
    """True for a request of somebody's that has a row, deleted or not."""
    return bool(await database.run(_OWNED, tenant=ref[0], id=ref[1]))


async def deleted_among(database: Database, refs: Collection[RequestRef]) -> set[RequestRef]:
    """Those of these requests that are deleted, by themselves or with their conversation."""
    if not refs:
        return set()
    return {RequestRef(row.tenant, row.id) for row in await database.run(_DELETED, refs=refs_json(refs))}


async def oldest_runnable_age(database: Database) -> float:
    """Seconds that the oldest runnable turn has been waiting for a worker."""
    return float((await database.run(_OLDEST_RUNNABLE))[0].age)


async def full_conversations(database: Database, most: int) -> dict[ConversationRef, str | None]:
    """Conversations with more than ``most`` open turns, and whose they are."""
    return {ConversationRef(row.tenant, row.conversation_id): row.owner for row in await database.run(_FULL, most=most)}


def _stored(row: Any) -> StoredRequest:
    fields = dict(row)
    body_hash, owner = fields.pop("body_hash"), fields.pop("owner")
    fields.pop("tenant")
    return StoredRequest(RequestResource.model_validate(fields), body_hash, owner)


async def estimated_open(database: Database) -> int:
    """About how many requests are open, from the statistics of their indexes: counting millions would be dear."""
    rows = await database.run(_ESTIMATED_OPEN)
    return int(rows[0].estimate)
