"""③ Which turns may run now, and which worker holds them: claims and fences."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from orchestra.store.bodies import from_store
from orchestra.store.database import Database, Transaction, as_json, read_json
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.errors import ErrorCode

# Errors for which a worker holds back the whole model. Turns that wait because of them are not waiting for a slot.
_HELD_BACK = (
    ErrorCode.AUTH,
    ErrorCode.QUOTA_EXHAUSTED,
    ErrorCode.RATE_LIMITED,
    ErrorCode.OVERLOADED,
    ErrorCode.UNAVAILABLE,
)
HELD_BACK_CODES = ", ".join(f"'{code}'" for code in sorted(_HELD_BACK))
"""``_HELD_BACK`` as an SQL list."""
# How long a caller holds a connection open for the answer: the gateway's default wait.
CALLER_SECONDS = 60
# One claim in AGE_SHARE goes by age alone, so that no priority starves behind a higher one.
AGE_SHARE = 8
# While an owner's share is full, a claim looks at _MORE_OWNERS more owners than it has room for turns, and at
# _FROM_EACH turns of each of their priorities. Where there are few owners it looks at more turns of each.
_MORE_OWNERS = 32
_FROM_EACH = 16

Owner = tuple[str, str]
"""Tenant and owner of a turn; the owner is empty for the tenant's own."""


@dataclass(frozen=True)
class Without:
    """A claim of up to ``limit`` turns that skips these owners and tenants, without reading their turns.

    It starts with the owner after ``after``, so that the owners it does not reach come first next time.
    """

    limit: int
    owners: frozenset[Owner] = frozenset()
    tenants: frozenset[str] = frozenset()
    after: Owner = ("", "")


@dataclass(frozen=True)
class Paused:
    """What is paused: whole ``tenants``, and ``models`` of tenants, each as tenant and name or alias."""

    tenants: frozenset[str] = frozenset()
    models: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.tenants or self.models)


NOTHING_PAUSED = Paused()


@dataclass(frozen=True)
class ModelLimit:
    """How many more turns of this model may be claimed, however many slots are free.

    ``shares`` divide this room as those of a ``ClaimOrder`` divide the slots.
    """

    model: str
    room: int
    shares: tuple[Without, ...] = ()


@dataclass(frozen=True)
class ClaimOrder:
    """The worker that claims, how many turns it has room for, and the models with less room.

    ``shares``: the claims to make in order while an owner's share of the slots is nearly full. Empty: one claim, in
    which every owner may take ``limit`` turns. The first claim is for the owners with room for all of it. The others
    share a count: what one of them takes counts towards the limit of each.
    ``paused``: models of tenants, by name, whose turns are not claimed at all. Paused tenants are in ``shares``.
    ``only_after_promotion``: with endings, claim only if they make a turn runnable, because nothing else is.
    """

    worker_id: UUID
    limit: int
    models: tuple[ModelLimit, ...] = ()
    shares: tuple[Without, ...] = ()
    only_after_promotion: bool = False
    paused: frozenset[tuple[str, str]] = frozenset()

    @property
    def plain(self) -> bool:
        """Whether it is one claim, which a function of the database can make at the end of another move."""
        return not self.models and not self.shares and not self.paused


@dataclass(frozen=True)
class Claimed:
    """A turn that this worker may run. ``fence`` is also the number of the attempt.

    ``caller_seconds``: how long a caller will still hold a connection open for the answer. ``seconds_left``: until the
    deadline. ``seconds_queued``: since it could first run. ``has_history``: its conversation has messages.
    ``last_error``: why the previous attempt failed.
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
    has_history: bool
    last_error: str | None = None

    @property
    def ref(self) -> RequestRef:
        """Tenant and id."""
        return RequestRef(self.tenant, self.id)

    @property
    def conversation(self) -> ConversationRef:
        """The conversation it belongs to."""
        return ConversationRef(self.tenant, self.conversation_id)

    @property
    def may_have_history(self) -> bool:
        """Whether there may be earlier messages: its conversation has some, or may be a branch, which begins at 2."""
        return self.has_history or self.seq > 1

    @property
    def owner(self) -> Owner:
        """Tenant and owner."""
        return self.tenant, self.user or ""

    @property
    def caller_waits(self) -> bool:
        """Whether a caller still holds a connection open for the answer."""
        return self.caller_seconds > 0


_CLAIM = "SELECT CAST(claim_v1(:worker_id, :by_age, :by_priority, :models, :only_these) AS text) AS turns"

_NOT_PAUSED = """AND (r.tenant, r.model) NOT IN (
    SELECT j.tenant, j.model FROM json_to_recordset(CAST(:paused AS json)) AS j(tenant text, model text)
)"""
# As `claim_v1`, which has no parameter for pauses.
_CLAIM_NOT_PAUSED = f"""
WITH alive AS (
    SELECT id FROM workers WHERE id = :worker_id FOR KEY SHARE SKIP LOCKED
), oldest AS (
    SELECT r.tenant, r.id FROM requests r
    WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now()
        AND (r.model = ANY(:models)) = :only_these {_NOT_PAUSED}
    ORDER BY r.run_at
    LIMIT :by_age
    FOR UPDATE SKIP LOCKED
), urgent AS (
    SELECT r.tenant, r.id FROM requests r
    WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now()
        AND (r.model = ANY(:models)) = :only_these {_NOT_PAUSED}
        AND (r.tenant, r.id) NOT IN (SELECT o.tenant, o.id FROM oldest o)
    ORDER BY r.priority DESC, r.run_at
    LIMIT :by_priority
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE requests r SET status = 'in_progress', fence = r.fence + 1, tries = r.tries + 1, worker_id = w.id,
        started_at = coalesce(r.started_at, now())
    FROM (SELECT * FROM oldest UNION ALL SELECT * FROM urgent) AS p, alive w
    WHERE r.tenant = p.tenant AND r.id = p.id
    RETURNING claimed_v1(r) AS turn
)
SELECT CAST(coalesce(json_agg(turn), '[]') AS text) AS turns FROM taken
"""

# Exactly the indexed expression. Both are compared with "C", in which no name sorts after the last code point.
_OWNER = """coalesce(r.user_name, '') COLLATE "C\""""
_LAST = "U&'\\+10FFFF'"
# Walk the index from owner to owner, one row each, wrapping from the last to the first. Then take the front turns of
# each owner by priority: more than are picked, because other workers may hold locks on some of them.
_CLAIM_WITHOUT = """
WITH RECURSIVE alive AS (
    -- As in `claim_v1`.
    SELECT id FROM workers WHERE id = :worker_id FOR KEY SHARE SKIP LOCKED
), walk AS (
    SELECT CAST(:after_tenant AS text) AS tenant, CAST(:after_owner AS text) COLLATE "C" AS owner, 0 AS place,
        false AS round
    UNION ALL
    SELECT n.tenant, n.owner, w.place + 1, n.round
    FROM walk w CROSS JOIN LATERAL (
        (
            SELECT r.tenant, {owner} AS owner, w.round AS round FROM requests r
            WHERE r.status = 'pending' AND (r.tenant, {owner}) > (
                w.tenant, CASE WHEN w.tenant = ANY(:tenants) THEN {last} ELSE w.owner END
            )
            ORDER BY r.tenant, {owner} LIMIT 1
        ) UNION ALL (
            SELECT r.tenant, {owner}, true FROM requests r
            WHERE r.status = 'pending' AND NOT w.round
            ORDER BY r.tenant, {owner} LIMIT 1
        ) LIMIT 1
    ) AS n
    WHERE w.place < :max_owners
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
        WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now()
            AND (r.model = ANY(:models)) = :only_these {not_paused}
            AND r.tenant = o.tenant AND {owner} = o.owner AND r.priority = p.priority
        ORDER BY r.run_at
        LIMIT (SELECT greatest({from_each}, 2 * CAST(:turns AS bigint) / greatest(count(*), 1)) FROM others)
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
    LIMIT :by_priority
), picked AS (
    SELECT tenant, id FROM oldest UNION ALL SELECT tenant, id FROM urgent
), taken AS (
    UPDATE requests r SET status = 'in_progress', fence = r.fence + 1, tries = r.tries + 1, worker_id = w.id,
        started_at = coalesce(r.started_at, now())
    FROM picked p, alive w
    WHERE r.tenant = p.tenant AND r.id = p.id
    RETURNING claimed_v1(r) AS turn
)
SELECT CAST(coalesce(json_agg(turn), '[]') AS text) AS turns FROM taken
"""


def _without(not_paused: str = "") -> str:
    return _CLAIM_WITHOUT.format(owner=_OWNER, last=_LAST, from_each=_FROM_EACH, not_paused=not_paused)


_CLAIMS = {
    # By whether owners or tenants are left out, and whether models are paused.
    (False, False): _CLAIM,
    (False, True): _CLAIM_NOT_PAUSED,
    (True, False): _without(),
    (True, True): _without(_NOT_PAUSED),
}

_MINE = """
SELECT CAST(coalesce(json_agg(claimed_v1(r)), '[]') AS text) AS turns
FROM requests r WHERE r.worker_id = :worker_id AND r.status = 'in_progress'
"""

# The fence may already have this number: an earlier run of this statement may have been committed.
_NEXT_ATTEMPT = """
UPDATE requests SET fence = :next
WHERE tenant = :tenant AND id = :id AND status = 'in_progress' AND worker_id = :worker_id
    AND fence IN (:next - 1, :next)
RETURNING fence
"""


class _Pool:
    """The free slots of a worker or the room of a model, to be filled by the claims of ``shares``."""

    def __init__(self, limit: int, shares: tuple[Without, ...]) -> None:
        self.shares = shares or (Without(limit),)
        self._left = limit
        self._taken = [0, 0]  # By the first claim, and by the others.

    def room(self, number: int) -> int:
        """How many turns claim ``number`` may still take."""
        return min(self._left, self.shares[number].limit - self._taken[number > 0])

    def take(self, number: int, count: int) -> None:
        """Note that claim ``number`` has taken ``count`` turns."""
        self._left -= count
        self._taken[number > 0] += count


async def claim_in(tx: Transaction | Database, order: ClaimOrder) -> list[Claimed]:
    """Claim within a transaction. Claims nothing if this worker has lost its lease."""
    slots = _Pool(order.limit, order.shares)
    models = {each.model: _Pool(each.room, each.shares) for each in order.models}
    claimed: list[Claimed] = []
    for number, share in enumerate(slots.shares):
        found = await _claim(tx, order, slots.room(number), list(models), share, only_these=False)
        slots.take(number, len(found))
        claimed += found
        for model, rooms in models.items():
            for at, of_model in enumerate(rooms.shares):
                room = min(slots.room(number), rooms.room(at))
                after = of_model.after if of_model.owners or of_model.tenants else share.after
                both = Without(room, share.owners | of_model.owners, share.tenants | of_model.tenants, after)
                found = await _claim(tx, order, room, [model], both, only_these=True)
                slots.take(number, len(found))
                rooms.take(at, len(found))
                claimed += found
    return claimed


async def _claim(
    tx: Transaction | Database, order: ClaimOrder, limit: int, models: list[str], without: Without, *, only_these: bool
) -> list[Claimed]:
    if limit <= 0:
        return []
    parameters = {"worker_id": order.worker_id, **split(limit), "models": models, "only_these": only_these}
    walks = bool(without.owners or without.tenants)
    if walks:
        parameters |= {
            "owners": as_json([{"tenant": tenant, "owner": owner} for tenant, owner in without.owners]),
            "tenants": list(without.tenants),
            "after_tenant": without.after[0],
            "after_owner": without.after[1],
            "max_owners": limit + _MORE_OWNERS,
            "turns": limit,
        }
    if order.paused:
        parameters["paused"] = as_json([{"tenant": tenant, "model": model} for tenant, model in order.paused])
    rows = await tx.run(_CLAIMS[walks, bool(order.paused)], **parameters)
    return read_claimed(read_json(rows[0].turns))


def split(limit: int) -> dict[str, int]:
    """How many of ``limit`` turns to claim by age and by priority, as parameters of a claim."""
    # One in AGE_SHARE on average, even if there is room for fewer than AGE_SHARE turns.
    by_age = int(limit / AGE_SHARE + random.random()) if limit else 0
    return {"by_age": by_age, "by_priority": limit - by_age}


def read_claimed(turns: Sequence[dict[str, Any]]) -> list[Claimed]:
    """Build claimed turns from what ``claimed_v1`` returns."""
    for turn in turns:
        caller_waits, since = turn.pop("caller_waits"), turn.pop("seconds_since")
        turn["body"] = from_store(turn["body"])
        turn["caller_seconds"] = max(0.0, CALLER_SECONDS - since) if caller_waits else 0.0
        for name in ("id", "conversation_id", "worker_id"):
            turn[name] = UUID(turn[name])
    return [Claimed(**turn) for turn in turns]


async def claim(database: Database, order: ClaimOrder) -> list[Claimed]:
    """Claim up to ``order.limit`` turns: one in ``AGE_SHARE`` by age, the others by priority and then age."""
    if order.plain:
        return await claim_in(database, order)
    async with database.transaction() as tx:
        return await claim_in(tx, order)


async def held(database: Database, worker_id: UUID) -> list[Claimed]:
    """The turns this worker holds now: for a worker that does not know whether its last claim was committed."""
    rows = await database.run(_MINE, worker_id=worker_id)
    return read_claimed(read_json(rows[0].turns))


async def next_attempt(database: Database, turn: Claimed) -> Claimed | None:
    """Give a turn that this worker runs the next attempt's number, without using up a try. None if it lost the turn.

    After ``DatabaseUnavailableError`` the change may or may not be committed, and repeating it is safe.
    """
    again = replace(turn, fence=turn.fence + 1)
    rows = await database.run(_NEXT_ATTEMPT, tenant=turn.tenant, id=turn.id, worker_id=turn.worker_id, next=again.fence)
    return again if rows else None
