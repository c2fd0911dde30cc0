"""Requests to act on: which ones are selected, and changes of those that no worker runs yet.

A selection by filter reads a bounded number of rows, however many there are: open requests in the order of their
conversations, ended ones by age, up to ``WINDOW`` of them, and returns those among them that match.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement

from orchestra.store.audit import Author, changing
from orchestra.store.compose import composed
from orchestra.store.database import Database
from orchestra.store.pages import applied
from orchestra.store.requests import CONDITIONS
from orchestra.store.turns import KEYS, ConversationRef, RequestRef, lock_conversations, refs_json, shown_status
from schemas.api.requests import RequestFilter
from schemas.api.steering import ChangeRequest, SkipCode
from schemas.requests import DEFAULT_PRIORITY
from schemas.status import Status

WINDOW = 10_000
"""Maximum number of rows that a selection by filter reads."""

Place = tuple[datetime, UUID, int]
"""The place of a request in a selection: its creation, its conversation, its number there."""
FIRST: Place = (datetime.fromisoformat("1970-01-01T00:00:00Z"), UUID(int=0), 0)


class Kind(Enum):
    """The requests that a call applies to: by filter it selects no others."""

    OPEN = "open"
    NOT_STARTED = "not started"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class Target:
    """A request to act on. ``kept``: its body is still there. ``parked``: it waits for its ``not_before``.

    ``is_retry``: it is the retry of another one.
    """

    id: UUID
    conversation_id: UUID
    seq: int
    created_at: datetime
    status: Status
    owner: str | None
    task_type: str | None
    cancelling: bool
    kept: bool
    parked: bool
    is_retry: bool

    @property
    def place(self) -> Place:
        """Its place in a selection."""
        return self.created_at, self.conversation_id, self.seq


class Selected(NamedTuple):
    """Requests in the order of their places. ``until``: the selection has none that are newer.

    ``next``: where the rest begins; None if there are no more.
    """

    targets: list[Target]
    until: datetime
    next: Place | None


# Look-ups by key for each row of ``s``: the planner may take a join for cheaper that reads a whole index.
_FOUND = """
SELECT requests.id, requests.conversation_id, requests.seq, requests.created_at, requests.status,
    requests.user_name AS owner, requests.task_type, requests.cancel_requested_at IS NOT NULL AS cancelling,
    requests.body IS NOT NULL AS kept, coalesce(requests.not_before > now(), false) AS parked,
    requests.retry_of IS NOT NULL AS is_retry
FROM s
CROSS JOIN LATERAL (SELECT * FROM requests WHERE tenant = :tenant AND id = s.id OFFSET 0) AS requests
CROSS JOIN LATERAL (
    SELECT deleted_at FROM conversations WHERE tenant = :tenant AND id = requests.conversation_id OFFSET 0
) AS conversations
WHERE requests.deleted_at IS NULL AND conversations.deleted_at IS NULL
"""
# The order of a scan, and where it goes on.
_BY_PLACE = ("created_at, conversation_id, seq", ":after, :after_conversation, :after_seq")
_BY_CONVERSATION = ("conversation_id, seq", ":after_conversation, :after_seq")


def _parts(kind: Kind, *, in_one: bool) -> list[tuple[str, str]]:
    """The conditions and the order of all parts of a scan. ``in_one``: only requests of one conversation.

    Each part reads one partial index, in its own order. A conversation has one head, so its seq decides nothing.
    """
    if kind is Kind.UNANSWERED:
        wanted = "status = '{0}' AND deleted_at IS NULL AND '{0}' = ANY(CAST(:statuses AS text[]))"
        return [(wanted.format(status), _BY_PLACE[0]) for status in ("failed", "cancelled", "expired")]
    heads = "status = 'pending'" if kind is Kind.NOT_STARTED else "status IN ('pending', 'in_progress')"
    more = " AND conversation_id = CAST(:conversation_id AS uuid)" if in_one else ""
    return [(heads + more, "conversation_id"), (f"status = 'waiting'{more}", _BY_CONVERSATION[0])]


@lru_cache
def _page(kind: Kind, where: tuple[ColumnElement[bool], ...], *, in_one: bool) -> str:
    order, after = _BY_PLACE if kind is Kind.UNANSWERED else _BY_CONVERSATION
    scans = " UNION ALL ".join(
        f"""(
            SELECT id, conversation_id, seq, created_at FROM requests
            WHERE tenant = :tenant AND {condition} AND ({order}) > ({after})
                AND created_at <= coalesce(CAST(:until AS timestamptz), now())
            ORDER BY {own_order} LIMIT :window
        )"""
        for condition, own_order in _parts(kind, in_one=in_one)
    )
    open_ = "" if kind is Kind.UNANSWERED else "AND requests.cancel_requested_at IS NULL"
    return f"""
WITH s AS MATERIALIZED (SELECT * FROM ({scans}) AS every ORDER BY {order} LIMIT :window), hit AS (
    {_found(where)} {open_} ORDER BY {_of("requests", order)} LIMIT :limit
)
SELECT hit.*, e.created_at AS last_created_at, e.conversation_id AS last_conversation_id, e.seq AS last_seq,
    (SELECT count(*) FROM s) AS scanned, coalesce(CAST(:until AS timestamptz), now()) AS until
FROM (SELECT true) AS one
LEFT JOIN (SELECT * FROM s ORDER BY {order.replace(",", " DESC,")} DESC LIMIT 1) AS e ON true
LEFT JOIN hit ON true
ORDER BY {_of("hit", order)}
"""


def _found(where: tuple[ColumnElement[bool], ...]) -> str:
    # In brackets: a condition may be an OR, such as that of pending requests.
    return " AND ".join((_FOUND, *(f"({composed(each)})" for each in where)))


def _of(rows: str, columns: str) -> str:
    return ", ".join(f"{rows}.{name}" for name in columns.split(", "))


@lru_cache
def _named(where: tuple[ColumnElement[bool], ...]) -> str:
    return f"WITH s AS (SELECT unnest(CAST(:ids AS uuid[])) AS id) {_found(where)}"


async def select_named(database: Database, tenant: str, only: str | None, ids: Collection[UUID]) -> list[Target]:
    """The requests among these that have a row, in the order of their places. ``only``: those of this owner."""
    where, values = applied(CONDITIONS, only=only)
    rows = await database.run(_named(where), **values, tenant=tenant, ids=list(ids))
    return sorted((_target(row) for row in rows), key=lambda target: target.place)


async def select_matching(
    database: Database,
    tenant: str,
    only: str | None,
    kind: Kind,
    filter: RequestFilter,
    after: tuple[datetime, Place] | None,
    limit: int,
) -> Selected:
    """Up to ``limit`` requests of this kind that match, among the next ``WINDOW``; there may be none, and yet more.

    ``only``: those of this owner. ``after``: ``until`` and ``next`` of the page before. Requests that are being
    cancelled are not open any more.
    """
    where, values = applied(CONDITIONS, filter, only=only)
    until, place = after or (None, _first(kind, filter))
    wanted = [filter.status] if filter.status else ["failed", "cancelled", "expired"]
    rows = await database.run(
        _page(kind, where, in_one=filter.conversation_id is not None and kind is not Kind.UNANSWERED),
        **values,
        tenant=tenant,
        statuses=[str(status) for status in wanted],
        until=until,
        after=place[0],
        after_conversation=place[1],
        after_seq=place[2],
        window=WINDOW,
        limit=limit + 1,
    )
    found = [_target(row) for row in rows if row.id is not None]
    if len(found) > limit:
        return Selected(found[:limit], rows[0].until, found[limit - 1].place)
    end = rows[0]
    cut = end.scanned >= WINDOW
    return Selected(found, end.until, (end.last_created_at, end.last_conversation_id, end.last_seq) if cut else None)


def _first(kind: Kind, filter: RequestFilter) -> Place:
    """Where a selection begins."""
    if kind is Kind.UNANSWERED and filter.created_after:
        return filter.created_after, UUID(int=0), -1
    return FIRST


def _target(row: Any) -> Target:
    fields = {name: row[name] for name in Target.__dataclass_fields__}
    return Target(**{**fields, "status": shown_status(row.status)})


# What a request has after the change. A deadline that is not named is an hour after the request may run, as in
# `take_in_v1`.
_NOT_BEFORE = "CASE WHEN :with_not_before THEN CAST(:not_before AS timestamptz) ELSE r.not_before END"
_PRIORITY = "CASE WHEN :with_priority THEN CAST(:priority AS smallint) ELSE r.priority END"
_DEADLINE = f"""CASE WHEN :with_deadline THEN least(
    coalesce(CAST(:deadline AS timestamptz), greatest({_NOT_BEFORE}, now()) + interval '1 hour'),
    now() + interval '7 days'
) ELSE r.deadline_at END"""
_IN_TIME = f"coalesce(({_NOT_BEFORE}) < ({_DEADLINE}), true)"
# Only a head has a time to run at; one that waits gets it when it becomes the head. A head that could run already keeps
# its age, and one that backs off after an error still does.
_RUN_AT = """CASE WHEN :with_not_before AND r.status = 'pending' THEN greatest(
    CAST(:not_before AS timestamptz),
    CASE WHEN r.run_at > now() AND r.run_at = r.not_before THEN now() ELSE r.run_at END
) ELSE r.run_at END"""

# A worker may claim the row at this moment. Then this waits for the claim, sees what it wrote, and changes nothing.
_CHANGE = f"""
UPDATE requests r SET
    priority = {_PRIORITY}, not_before = {_NOT_BEFORE}, deadline_at = {_DEADLINE}, run_at = {_RUN_AT}
FROM {KEYS} AS k JOIN requests o ON o.tenant = k.tenant AND o.id = k.id
WHERE r.tenant = k.tenant AND r.id = k.id
    AND r.status IN ('waiting', 'pending') AND r.cancel_requested_at IS NULL AND r.deleted_at IS NULL
    AND {_IN_TIME}
    AND (r.priority, r.not_before, r.deadline_at) IS DISTINCT FROM ({_PRIORITY}, {_NOT_BEFORE}, {_DEADLINE})
RETURNING r.id, r.priority, r.not_before, r.deadline_at AS deadline,
    o.priority AS old_priority, o.not_before AS old_not_before, o.deadline_at AS old_deadline
"""

_WHY_NOT = f"""
SELECT r.tenant, r.id, r.status, r.cancel_requested_at IS NOT NULL AS cancelling, {_IN_TIME} AS in_time
FROM {KEYS} AS k JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
WHERE r.deleted_at IS NULL
"""


class _NotMeantError(Exception):
    """Undoes a change that was only tried."""


async def change(
    database: Database,
    tenant: str,
    targets: Sequence[Target],
    wanted: ChangeRequest,
    by: Author | None = None,
    *,
    dry_run: bool = False,
) -> dict[UUID, SkipCode | None]:
    """Change requests that no worker runs yet, in one transaction: for each why it stays as it is, or None.

    What the change does not name stays. A worker that claims at the same time has the request before or after it.
    ``dry_run``: the change is undone.
    """
    values = {name: getattr(wanted, name) for name in ("priority", "not_before", "deadline")}
    values |= {f"with_{name}": name in wanted.model_fields_set for name in ("priority", "not_before", "deadline")}
    if values["priority"] is None:
        values["priority"] = DEFAULT_PRIORITY
    outcomes: dict[UUID, SkipCode | None] = dict.fromkeys((each.id for each in targets), SkipCode.NOT_FOUND)
    conversations = {each.id: ConversationRef(tenant, each.conversation_id) for each in targets}
    with suppress(_NotMeantError):
        async with changing(database) as tx:
            deleted = await lock_conversations(tx, conversations.values())
            refs = [RequestRef(tenant, id) for id, conversation in conversations.items() if conversation not in deleted]
            for row in await tx.run(_CHANGE, refs=refs_json(refs), **values):
                outcomes[row.id] = None
                tx.note(by, f"requests/{row.id}", _named_in(wanted, row, "old_"), _named_in(wanted, row))
            others = [ref for ref in refs if outcomes[ref.id] is not None]
            if others:
                outcomes |= {row.id: _why(row) for row in await tx.run(_WHY_NOT, refs=refs_json(others), **values)}
            if dry_run:
                raise _NotMeantError
    return outcomes


def _named_in(wanted: ChangeRequest, row: Any, prefix: str = "") -> dict[str, Any]:
    """The fields that a change names, as they are in a row."""
    values = {name: row[f"{prefix}{name}"] for name in sorted(wanted.model_fields_set)}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _why(row: Any) -> SkipCode:
    status = shown_status(row.status)
    if status.terminal:
        return SkipCode.ENDED
    if row.cancelling:
        return SkipCode.CANCELLING
    if status is Status.IN_PROGRESS:
        return SkipCode.IN_PROGRESS
    return SkipCode.UNCHANGED if row.in_time else SkipCode.NOT_BEFORE_DEADLINE
