"""The queue as operators see it: what waits, for how long, and what is next. Reads a bounded number of rows.

Only the partial indexes of open requests are read, each up to a limit, so that a look costs the same however long the
queue is and however many requests have ended.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from orchestra.store.claims import HELD_BACK_CODES
from orchestra.store.database import Database, as_json, lookup_rows
from orchestra.store.pauses import COULD_RUN, NOT_PAUSED

MAX_OF_PRIORITY = 500
"""Maximum number of turns that are read of each priority."""
MAX_RUNNING = 2000
"""Maximum number of turns in flight that are read."""
MAX_WAITING = 1000
"""Maximum number of turns that are read of those that wait behind others of their conversations."""
HEAD = 10
"""Number of turns at the head of the queue that are shown."""
_MAX_DEAD_LETTERS = 1000


@dataclass(frozen=True)
class Group:
    """Pending turns of a tenant with one priority and model.

    ``runnable``: their time has come. ``held``: of these, how many wait because their model refuses calls. ``paused``:
    how many wait because an operator has paused their model or tenant. ``delayed``: those that wait for their
    ``not_before`` or for a back-off. ``oldest_seconds``: for how long the oldest one has waited that a worker could
    take now.
    """

    tenant: str
    priority: int
    model: str
    runnable: int
    held: int
    paused: int
    delayed: int
    oldest_seconds: float | None


@dataclass(frozen=True)
class Next:
    """A turn near the head of the queue."""

    id: UUID
    conversation_id: UUID
    model: str
    priority: int
    owner: str | None
    waited_seconds: float
    error_code: str | None


@dataclass(frozen=True)
class Counted:
    """How many were counted; ``more``: the count stopped at its limit, so there may be more."""

    count: int
    more: bool


@dataclass(frozen=True)
class Depth:
    """The pending turns of all tenants. ``cut``: priorities of which there may be more than were read."""

    groups: Sequence[Group]
    cut: frozenset[int]


@dataclass(frozen=True)
class Totals:
    """All open turns of an owner or tenant, without a limit, as a worker counted them in the last seconds.

    ``oldest_seconds``: for how long the oldest turn has waited that a worker could take now.
    """

    open_turns: int = 0
    parked_turns: int = 0
    oldest_seconds: float | None = None


Whose = tuple[str, str | None]
"""A tenant and an owner in it; None: the whole tenant."""


# In the order of `requests_runnable`, which a range keeps and an equality would not: with that, the index by age alone
# could be chosen, and read to its end for a priority with few turns. The limit is inside, so that no condition makes it
# read on.
_PENDING = """
FROM generate_series(0, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT tenant, id, conversation_id, model, user_name, run_at, deadline_at, error_code FROM requests
    WHERE status = 'pending' AND priority BETWEEN p.priority AND p.priority ORDER BY priority DESC, run_at LIMIT :limit
) AS r
"""
_DEPTH = f"""
SELECT r.tenant, p.priority, r.model,
    count(*) FILTER (WHERE r.run_at <= now()) AS runnable,
    count(*) FILTER (WHERE r.run_at <= now() AND r.error_code IN ({HELD_BACK_CODES})) AS held,
    count(*) FILTER (WHERE r.run_at <= now() AND NOT {NOT_PAUSED}) AS paused,
    count(*) FILTER (WHERE r.run_at > now()) AS delayed,
    CAST(extract(epoch FROM now() - min(r.run_at) FILTER (WHERE {COULD_RUN})) AS float8) AS oldest_seconds
{_PENDING} GROUP BY 1, 2, 3
"""

_NEXT = f"""
SELECT r.id, r.conversation_id, r.model, CAST(p.priority AS integer) AS priority, r.user_name AS owner, r.error_code,
    CAST(extract(epoch FROM now() - r.run_at) AS float8) AS waited_seconds
{_PENDING} WHERE r.tenant = :tenant AND r.run_at <= now() ORDER BY p.priority DESC, r.run_at LIMIT :head
"""

_RUNNING = """
SELECT tenant, count(*) AS turns FROM (
    SELECT tenant FROM requests WHERE status = 'in_progress' ORDER BY worker_id LIMIT :limit
) AS r GROUP BY tenant
"""

_WAITING = """
SELECT count(*) AS turns FROM (
    SELECT FROM requests WHERE tenant = :tenant AND status = 'waiting'
    ORDER BY tenant, conversation_id, seq LIMIT :limit
) AS r
"""

_TOTALS = f"""
SELECT t.tenant, CASE WHEN NOT t.whole THEN t.owner END AS owner, t.open_turns, t.parked_turns,
    CAST(extract(epoch FROM now() - t.runnable_since) AS float8) AS oldest_seconds
FROM {lookup_rows("owners", "tenant text, owner text")} AS k
JOIN owner_totals t ON t.tenant = k.tenant AND t.whole = (k.owner IS NULL) AND t.owner = coalesce(k.owner, '')
"""

# In the order of the index of open letters.
_OPEN_LETTERS = """
SELECT count(*) AS open FROM (
    SELECT FROM dead_letters WHERE {whose}replayed_at IS NULL ORDER BY tenant, created_at, id LIMIT :limit
) AS d
"""
_OF_TENANT, _OF_ALL = _OPEN_LETTERS.format(whose="tenant = :tenant AND "), _OPEN_LETTERS.format(whose="")


async def depth(database: Database) -> Depth:
    """The pending turns by tenant, priority and model: at most ``MAX_OF_PRIORITY`` of each priority."""
    rows = await database.run(_DEPTH, limit=MAX_OF_PRIORITY)
    groups = [Group(**row) for row in rows]
    read = [0] * 10
    for group in groups:
        read[group.priority] += group.runnable + group.delayed
    return Depth(groups, frozenset(priority for priority, count in enumerate(read) if count >= MAX_OF_PRIORITY))


async def head(database: Database, tenant: str) -> list[Next]:
    """The runnable turns of a tenant that come first: highest priority first, then oldest first."""
    return [Next(**row) for row in await database.run(_NEXT, tenant=tenant, limit=5 * HEAD, head=HEAD)]


async def running(database: Database) -> dict[str, Counted]:
    """The turns in flight of each tenant that has any."""
    rows = await database.run(_RUNNING, limit=MAX_RUNNING)
    more = sum(row.turns for row in rows) >= MAX_RUNNING
    return {row.tenant: Counted(row.turns, more) for row in rows}


async def waiting(database: Database, tenant: str) -> Counted:
    """The turns of a tenant that wait behind another one of their conversation."""
    (row,) = await database.run(_WAITING, tenant=tenant, limit=MAX_WAITING)
    return Counted(row.turns, row.turns >= MAX_WAITING)


async def totals(database: Database, owners: Collection[Whose]) -> dict[Whose, Totals]:
    """The totals of these owners; of those that have nothing, none."""
    asked = as_json([{"tenant": tenant, "owner": owner} for tenant, owner in owners])
    rows = await database.run(_TOTALS, owners=asked) if owners else ()
    return {(row.tenant, row.owner): Totals(row.open_turns, row.parked_turns, row.oldest_seconds) for row in rows}


async def open_letters(database: Database, tenant: str | None) -> Counted:
    """The dead letters that were not replayed, up to 1,000; ``tenant`` None: of all tenants."""
    given = {} if tenant is None else {"tenant": tenant}
    statement = _OF_ALL if tenant is None else _OF_TENANT
    (row,) = await database.run(statement, limit=_MAX_DEAD_LETTERS, **given)
    return Counted(row.open, row.open >= _MAX_DEAD_LETTERS)
