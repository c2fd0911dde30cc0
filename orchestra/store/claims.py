"""③ Which turns may run now, and who holds them: claims and fences."""

import random
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from orchestra.store.database import Database, Transaction, as_json
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.errors import ErrorCode

# The errors for which a worker holds back the whole model: turns that wait because of them wait for no slot.
HELD_BACK = frozenset(
    {
        ErrorCode.AUTH,
        ErrorCode.QUOTA_EXHAUSTED,
        ErrorCode.RATE_LIMITED,
        ErrorCode.OVERLOADED,
        ErrorCode.UNAVAILABLE,
    }
)
# So long a caller holds a connection open for the answer: what a gateway waits unless it is told otherwise.
CALLER_SECONDS = 60
# One claim in so many goes by age alone, so that no priority starves behind a higher one.
AGE_SHARE = 8
# Where somebody's share is full, a claim looks at so many owners more than it has room for turns, and at so many turns
# of each priority of each of them; of more where there are few owners.
_MORE_OWNERS = 32
_FROM_EACH = 16

Owner = tuple[str, str]
"""Tenant and owner of a turn; the owner is empty for the tenant's own."""


@dataclass(frozen=True)
class Without:
    """A claim of up to ``limit`` turns that passes over those of these owners and tenants, without reading them.

    It looks at the owners behind ``after`` first, so that those whom it does not get to have their turn next time.
    """

    limit: int
    owners: frozenset[Owner] = frozenset()
    tenants: frozenset[str] = frozenset()
    after: Owner = ("", "")


@dataclass(frozen=True)
class ModelLimit:
    """How many more turns of this model may be claimed, however many slots are free.

    ``shares`` divide its places as those of a ``ClaimOrder`` divide the slots.
    """

    model: str
    room: int
    shares: tuple[Without, ...] = ()


@dataclass(frozen=True)
class ClaimOrder:
    """Who claims, how many turns it has room for, and of which models fewer.

    ``shares``: the claims to make one after the other where somebody's share of the slots is nearly full; empty: one
    claim, in which everybody has room for ``limit``. The first is for those who have room for all of it; what the
    others take counts towards the limit of each of them.
    """

    worker_id: UUID
    limit: int
    models: tuple[ModelLimit, ...] = ()
    shares: tuple[Without, ...] = ()


@dataclass(frozen=True)
class Claimed:
    """A turn that this worker may run. ``fence`` is also the number of the attempt; times are seconds from now.

    ``caller_seconds``: how long a caller still holds a connection open for the answer. ``last_error``: why the attempt
    before this one failed.
    """

    tenant: str
    id: UUID
    conversation_id: UUID
    seq: int
    body: dict[str, Any]
    body_hash: str
    worker_id: UUID
    model: str
    user: str | None
    traceparent: str | None
    fence: int
    tries: int
    max_tries: int
    caller_seconds: float
    seconds_left: float
    seconds_queued: float
    cancelled: bool
    last_error: str | None = None

    @property
    def ref(self) -> RequestRef:
        """Tenant and id."""
        return RequestRef(self.tenant, self.id)

    @property
    def conversation(self) -> ConversationRef:
        """Its conversation."""
        return ConversationRef(self.tenant, self.conversation_id)

    @property
    def owner(self) -> Owner:
        """Whose it is."""
        return self.tenant, self.user or ""

    @property
    def caller_waits(self) -> bool:
        """True while somebody holds a connection open for the answer."""
        return self.caller_seconds > 0


_CLAIMED = f"""r.tenant, r.id, r.conversation_id, r.seq, r.body, r.body_hash, r.worker_id, r.model,
    r.user_name AS "user", r.traceparent, r.fence, r.tries, r.max_tries,
    CASE WHEN r.caller_waits
        THEN greatest(0, {CALLER_SECONDS} - CAST(extract(epoch FROM now() - r.created_at) AS float8))
        ELSE 0 END AS caller_seconds,
    CAST(extract(epoch FROM r.deadline_at - now()) AS float8) AS seconds_left,
    CAST(extract(epoch FROM now() - r.run_at) AS float8) AS seconds_queued,
    r.cancel_requested_at IS NOT NULL AS cancelled, r.error_code AS last_error
"""

# Held until the commit, so that nobody takes the lease away in between.
_ALIVE = "SELECT id FROM workers WHERE id = :worker_id FOR KEY SHARE"
_RUNNABLE = (
    """status = 'pending' AND run_at <= now() AND deadline_at > now() AND (model = ANY(:models)) = :only_these"""
)
_TAKE = f"""
UPDATE requests r SET status = 'in_progress', fence = r.fence + 1, tries = r.tries + 1, worker_id = w.id,
    started_at = coalesce(r.started_at, now())
FROM picked p, alive w
WHERE r.tenant = p.tenant AND r.id = p.id
RETURNING {_CLAIMED}
"""

_CLAIM = f"""
WITH alive AS (
    {_ALIVE}
), oldest AS (
    SELECT tenant, id FROM requests
    WHERE {_RUNNABLE}
    ORDER BY run_at
    LIMIT :by_age
    FOR UPDATE SKIP LOCKED
), urgent AS (
    SELECT tenant, id FROM requests
    WHERE {_RUNNABLE}
        AND (tenant, id) NOT IN (SELECT tenant, id FROM oldest)
    ORDER BY priority DESC, run_at
    LIMIT :urgent
    FOR UPDATE SKIP LOCKED
), picked AS (
    SELECT tenant, id FROM oldest UNION ALL SELECT tenant, id FROM urgent
)
{_TAKE}
"""

# As the index has it. Both are compared with "C", so that no name comes behind the last character that there is.
_OWNER = """coalesce(r.user_name, '') COLLATE "C\""""
_LAST = "U&'\\+10FFFF'"
# From owner to owner by the index, one row each, round from the last to the first; then of each the turns in front, by
# priority. More than are picked, since other workers may hold some of them at this moment.
_CLAIM_WITHOUT = f"""
WITH RECURSIVE alive AS (
    {_ALIVE}
), walk AS (
    SELECT CAST(:after_tenant AS text) AS tenant, CAST(:after_owner AS text) COLLATE "C" AS owner, 0 AS place,
        false AS round
    UNION ALL
    SELECT n.tenant, n.owner, w.place + 1, n.round
    FROM walk w CROSS JOIN LATERAL (
        (
            SELECT r.tenant, {_OWNER} AS owner, w.round AS round FROM requests r
            WHERE r.status = 'pending' AND (r.tenant, {_OWNER}) > (
                w.tenant, CASE WHEN w.tenant = ANY(:tenants) THEN {_LAST} ELSE w.owner END
            )
            ORDER BY r.tenant, {_OWNER} LIMIT 1
        ) UNION ALL (
            SELECT r.tenant, {_OWNER}, true FROM requests r
            WHERE r.status = 'pending' AND NOT w.round
            ORDER BY r.tenant, {_OWNER} LIMIT 1
        ) LIMIT 1
    ) AS n
    WHERE w.place < :most_owners
        AND NOT (n.round AND (n.tenant, n.owner) > (:after_tenant, CAST(:after_owner AS text) COLLATE "C"))
), others AS (
    SELECT w.tenant, w.owner FROM walk w
    WHERE w.place > 0 AND NOT w.tenant = ANY(:tenants) AND NOT EXISTS (
        SELECT FROM json_to_recordset(CAST(:owners AS json)) AS j(tenant text, owner text)
        WHERE j.tenant = w.tenant AND j.owner = w.owner
    )
), front AS (
    SELECT f.tenant, f.id, f.priority, f.run_at
    FROM others o CROSS JOIN generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
        SELECT r.tenant, r.id, r.priority, r.run_at FROM requests r
        WHERE {_RUNNABLE} AND r.tenant = o.tenant AND {_OWNER} = o.owner AND r.priority = p.priority
        ORDER BY r.run_at
        LIMIT (SELECT greatest({_FROM_EACH}, 2 * CAST(:turns AS bigint) / greatest(count(*), 1)) FROM others)
    ) AS f
), oldest AS (
    SELECT r.tenant, r.id FROM (SELECT tenant, id FROM front ORDER BY run_at) AS f CROSS JOIN LATERAL (
        SELECT r.tenant, r.id FROM requests r
        WHERE r.tenant = f.tenant AND r.id = f.id AND r.status || '' = 'pending'
        FOR UPDATE SKIP LOCKED
    ) AS r
    LIMIT :by_age
), urgent AS (
    SELECT r.tenant, r.id FROM (SELECT tenant, id FROM front ORDER BY priority DESC, run_at) AS f CROSS JOIN LATERAL (
        SELECT r.tenant, r.id FROM requests r
        WHERE r.tenant = f.tenant AND r.id = f.id AND r.status || '' = 'pending'
            AND (r.tenant, r.id) NOT IN (SELECT tenant, id FROM oldest)
        FOR UPDATE SKIP LOCKED
    ) AS r
    LIMIT :urgent
), picked AS (
    SELECT tenant, id FROM oldest UNION ALL SELECT tenant, id FROM urgent
)
{_TAKE}
"""

_MINE = f"SELECT {_CLAIMED} FROM requests r WHERE r.worker_id = :worker_id AND r.status = 'in_progress'"

# The number may be there already, when it is not known whether the same statement was committed before.
_NEXT_ATTEMPT = """
UPDATE requests SET fence = :next
WHERE tenant = :tenant AND id = :id AND status = 'in_progress' AND worker_id = :worker_id
    AND fence IN (:next - 1, :next)
RETURNING fence
"""


class _Pool:
    """Slots, or a model's places, to be filled by the claims of ``shares``."""

    def __init__(self, limit: int, shares: tuple[Without, ...]) -> None:
        self.shares = shares or (Without(limit),)
        self._left = limit
        self._taken = [0, 0]  # By the first claim, and by the others.

    def room(self, number: int) -> int:
        """How many turns the claim of this number may still take."""
        return min(self._left, self.shares[number].limit - self._taken[number > 0])

    def take(self, number: int, count: int) -> None:
        """It has taken so many."""
        self._left -= count
        self._taken[number > 0] += count


async def claim_in(tx: Transaction, order: ClaimOrder) -> list[Claimed]:
    """Claim within a transaction; nothing when this worker's lease was taken away."""
    slots = _Pool(order.limit, order.shares)
    models = {each.model: _Pool(each.room, each.shares) for each in order.models}
    claimed: list[Claimed] = []
    for number, share in enumerate(slots.shares):
        found = await _claim(tx, order.worker_id, slots.room(number), list(models), share, only_these=False)
        slots.take(number, len(found))
        claimed += found
        for model, places in models.items():
            for place, of_model in enumerate(places.shares):
                room = min(slots.room(number), places.room(place))
                after = of_model.after if of_model.owners or of_model.tenants else share.after
                both = Without(room, share.owners | of_model.owners, share.tenants | of_model.tenants, after)
                found = await _claim(tx, order.worker_id, room, [model], both, only_these=True)
                slots.take(number, len(found))
                places.take(place, len(found))
                claimed += found
    return claimed


async def _claim(
    tx: Transaction, worker_id: UUID, limit: int, models: list[str], without: Without, *, only_these: bool
) -> list[Claimed]:
    if limit <= 0:
        return []
    # One in AGE_SHARE, also where there is room for fewer than that at a time.
    by_age = int(limit / AGE_SHARE + random.random())
    # Plain numbers, for which the planner takes the index; were there fewer oldest, there would be no urgent ones.
    parameters = {"worker_id": worker_id, "by_age": by_age, "urgent": limit - by_age, "models": models}
    if not without.owners and not without.tenants:
        rows = await tx.run(_CLAIM, **parameters, only_these=only_these)
    else:
        owners = as_json([{"tenant": tenant, "owner": owner} for tenant, owner in without.owners])
        rows = await tx.run(
            _CLAIM_WITHOUT,
            **parameters,
            only_these=only_these,
            owners=owners,
            tenants=list(without.tenants),
            after_tenant=without.after[0],
            after_owner=without.after[1],
            most_owners=limit + _MORE_OWNERS,
            turns=limit,
        )
    return [Claimed(**row) for row in rows]


async def claim(database: Database, order: ClaimOrder) -> list[Claimed]:
    """Claim up to ``order.limit`` turns: one in ``AGE_SHARE`` by age, the others by urgency and then age."""
    async with database.transaction() as tx:
        return await claim_in(tx, order)


async def held(database: Database, worker_id: UUID) -> list[Claimed]:
    """What this worker holds by now: for one that does not know whether a claim of its was committed."""
    return [Claimed(**row) for row in await database.run(_MINE, worker_id=worker_id)]


async def next_attempt(database: Database, turn: Claimed) -> Claimed | None:
    """Give a turn that this worker runs the next attempt's number, at the cost of no try; None when it was lost.

    After ``DatabaseUnavailableError`` it may or may not be done, and doing it again is safe.
    """
    again = replace(turn, fence=turn.fence + 1)
    rows = await database.run(_NEXT_ATTEMPT, tenant=turn.tenant, id=turn.id, worker_id=turn.worker_id, next=again.fence)
    return again if rows else None
