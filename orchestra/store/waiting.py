"""What decides when one request is claimed: its row, who comes first, and how fast others were claimed lately.

Each look reads a bounded number of rows of the indexes of open and of ended requests, however long the queue is.
The order is that of claims (docs/decisions/0009): by priority and then ``run_at``, one in eight by ``run_at`` alone.
Rows with the same ``run_at`` lie in their index in the order of ``ctid``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orchestra.store.claims import Owner
from orchestra.store.database import Database, Row
from orchestra.store.queue import MAX_RUNNING
from orchestra.store.turns import RequestRef

MAX_OLDER = 8000
"""Maximum number of turns that are read of those that have waited longer."""
MAX_URGENT = 1000
"""Maximum number of turns that are read of each higher priority."""
MAX_BEHIND = 1000
"""Maximum number of turns that are counted before one in its conversation."""
MAX_ENDED = 2000
"""The pace is measured over at most this many of the requests that ended last."""
WINDOW_SECONDS = 60
"""The window over which the pace is measured. It is shorter if ``MAX_ENDED`` requests ended in less time."""
RECENT_SECONDS = 30
"""The newer part of the window."""


@dataclass(frozen=True)
class Place:
    """Where a request stands. ``head``: the turn that runs or may run before it in its conversation.

    ``behind``: how many turns come before it there, up to ``MAX_BEHIND``. ``row``: where its row lies now.
    """

    status: str
    priority: int
    model: str
    owner: str | None
    now: datetime
    run_at: datetime
    not_before: datetime | None
    error_code: str | None
    error_detail: str | None
    cancelling: bool
    head: UUID | None
    behind: int
    row: str


@dataclass(frozen=True)
class Group:
    """Runnable turns of one tenant, owner, model and priority.

    ``arrived``: how many of them could first run in the window of the pace; ``recent``: in its newer part.
    """

    tenant: str
    owner: str
    model: str
    priority: int
    turns: int
    arrived: int
    recent: int


@dataclass(frozen=True)
class Line:
    """What may be claimed before a turn. ``older``: what has waited longer; ``urgent``: what has a higher priority.

    Turns of a higher priority that have waited longer are in both. ``more``: a limit was reached, so there may be more.
    ``scale``: how many times as many older ones there probably are as were read.
    """

    older: Sequence[Group]
    urgent: Sequence[Group]
    more: bool
    scale: float


@dataclass(frozen=True)
class Claims:
    """Requests of one tenant, owner, model and priority that were first claimed in the window.

    ``ended``: those that ended in it. ``arrived``: those that could first run in it. ``recent_...``: in its newer part.
    """

    tenant: str
    owner: str
    model: str
    priority: int
    claimed: int
    ended: int
    arrived: int
    recent_claimed: int
    recent_ended: int
    recent_arrived: int


@dataclass(frozen=True)
class Pace:
    """What was claimed in the last ``seconds``, and in the last ``recent`` seconds of them."""

    seconds: float
    recent: float
    claims: Sequence[Claims]


@dataclass(frozen=True)
class Running:
    """Turns in flight of one owner at one worker."""

    worker: UUID
    owner: Owner
    turns: int


_PLACE = """
SELECT r.status, r.priority, r.model, r.user_name AS owner, now() AS now, r.run_at, r.not_before, r.error_code,
    r.error_detail, r.cancel_requested_at IS NOT NULL AS cancelling, h.id AS head, CAST(r.ctid AS text) AS row,
    CASE WHEN h.id IS NULL THEN 0 ELSE 1 END + (
        SELECT count(*) FROM (
            SELECT FROM requests w
            WHERE w.status = 'waiting' AND w.tenant = r.tenant AND w.conversation_id = r.conversation_id
                AND w.seq < r.seq
            ORDER BY w.tenant, w.conversation_id, w.seq LIMIT :max_behind
        ) AS before WHERE r.status = 'waiting'
    ) AS behind
FROM requests r LEFT JOIN LATERAL (
    SELECT h.id FROM requests h
    WHERE h.tenant = r.tenant AND h.conversation_id = r.conversation_id AND h.status IN ('pending', 'in_progress')
    LIMIT 1
) AS h ON r.status = 'waiting'
WHERE r.tenant = :tenant AND r.id = :id
"""

_GROUPED = """
coalesce(r.user_name, '') AS owner, r.model, count(*) AS turns,
    count(*) FILTER (WHERE r.run_at > now() - make_interval(secs => :window)) AS arrived,
    count(*) FILTER (WHERE r.run_at > now() - make_interval(secs => :newer)) AS recent
"""
# The limits are inside, so that no condition makes a scan read on. What is due later comes last in its priority.
_OLDER = f"""
SELECT r.tenant, r.priority, min(r.run_at) AS first, max(r.run_at) AS last, {_GROUPED}
FROM (
    SELECT tenant, user_name, model, priority, run_at, ctid AS row FROM requests
    WHERE status = 'pending' AND run_at <= :run_at ORDER BY run_at LIMIT :limit
) AS r
WHERE (r.run_at, r.row) < (:run_at, CAST(CAST(:row AS text) AS tid)) GROUP BY r.tenant, r.priority, r.user_name, r.model
"""
_URGENT = f"""
SELECT r.tenant, CAST(p.priority AS integer) AS priority, {_GROUPED}
FROM generate_series(CAST(:priority AS integer) + 1, 9) AS p(priority) CROSS JOIN LATERAL (
    SELECT tenant, user_name, model, run_at FROM requests
    WHERE status = 'pending' AND priority BETWEEN p.priority AND p.priority ORDER BY priority DESC, run_at LIMIT :limit
) AS r
WHERE r.run_at <= now() GROUP BY r.tenant, p.priority, r.user_name, r.model
"""
# At most this many turns may run now, as a worker counted them in the last seconds.
_DUE = "SELECT CAST(coalesce(sum(open_turns - parked_turns), 0) AS bigint) AS turns FROM owner_totals WHERE whole"

_PACE = """
WITH ended AS MATERIALIZED (
    SELECT tenant, user_name, model, priority, started_at, finished_at, run_at FROM requests
    WHERE finished_at > now() - make_interval(secs => :window) ORDER BY finished_at DESC LIMIT :max_ended
), span AS (
    SELECT since, greatest(since, now() - make_interval(secs => :newer)) AS newer FROM (
        SELECT CASE WHEN count(*) < :max_ended THEN now() - make_interval(secs => :window)
            ELSE min(finished_at) END AS since FROM ended
    ) AS s
), taken AS (
    SELECT * FROM ended WHERE started_at IS NOT NULL
    UNION ALL (
        SELECT tenant, user_name, model, priority, started_at, NULL, run_at FROM requests
        WHERE status = 'in_progress' ORDER BY worker_id LIMIT :max_running
    )
)
SELECT CAST(extract(epoch FROM now() - s.since) AS float8) AS seconds,
    CAST(extract(epoch FROM now() - s.newer) AS float8) AS recent,
    t.tenant, coalesce(t.user_name, '') AS owner, t.model, t.priority,
    count(*) FILTER (WHERE t.started_at > s.since) AS claimed,
    count(*) FILTER (WHERE t.finished_at > s.since) AS ended,
    count(*) FILTER (WHERE t.run_at > s.since) AS arrived,
    count(*) FILTER (WHERE t.started_at > s.newer) AS recent_claimed,
    count(*) FILTER (WHERE t.finished_at > s.newer) AS recent_ended,
    count(*) FILTER (WHERE t.run_at > s.newer) AS recent_arrived
FROM span s LEFT JOIN taken t ON true GROUP BY 1, 2, 3, 4, 5, 6
"""

_RUNNING = """
SELECT worker_id AS worker, tenant, coalesce(user_name, '') AS owner, count(*) AS turns FROM (
    SELECT worker_id, tenant, user_name FROM requests
    WHERE status = 'in_progress' ORDER BY worker_id LIMIT :max_running
) AS r GROUP BY 1, 2, 3
"""


async def place(database: Database, ref: RequestRef) -> Place | None:
    """Where the request stands now; None if it has no row."""
    rows = await database.run(_PLACE, tenant=ref.tenant, id=ref.id, max_behind=MAX_BEHIND)
    return Place(**rows[0]) if rows else None


async def line(database: Database, turn: Place) -> Line:
    """What may be claimed before this pending turn, of all tenants."""
    spans = {"window": WINDOW_SECONDS, "newer": RECENT_SECONDS}
    older = await database.run(_OLDER, run_at=turn.run_at, row=turn.row, limit=MAX_OLDER, **spans)
    urgent = await database.run(_URGENT, priority=turn.priority, limit=MAX_URGENT, **spans)
    cut = sum(row.turns for row in older) >= MAX_OLDER
    of_priority = Counter[int]()
    for row in urgent:
        of_priority[row.priority] += row.turns
    return Line(
        [_group(row) for row in older],
        [_group(row) for row in urgent],
        more=cut or any(turns >= MAX_URGENT for turns in of_priority.values()),
        scale=await _scale(database, turn, min(row.first for row in older), max(row.last for row in older))
        if cut
        else 1,
    )


async def _scale(database: Database, turn: Place, first: datetime, last: datetime) -> float:
    """The factor from the older turns that were read to all of them, at least 1.

    It assumes the same number of turns in each second, and no more turns than are due.
    """
    (due,) = await database.run(_DUE)
    read, whole = (last - first).total_seconds(), (turn.run_at - first).total_seconds()
    most: float = due.turns / MAX_OLDER
    return max(1.0, min(whole / read if read else math.inf, most))


def _group(row: Row) -> Group:
    return Group(row.tenant, row.owner, row.model, row.priority, row.turns, row.arrived, row.recent)


async def pace(database: Database) -> Pace:
    """How fast requests were claimed lately."""
    limits = {"max_ended": MAX_ENDED, "max_running": MAX_RUNNING}
    rows = await database.run(_PACE, window=WINDOW_SECONDS, newer=RECENT_SECONDS, **limits)
    found = []
    for row in rows:
        fields = dict(row)
        seconds, recent = fields.pop("seconds"), fields.pop("recent")
        if row.tenant is not None:
            found.append(Claims(**fields))
    return Pace(seconds, recent, found)


async def running(database: Database) -> list[Running]:
    """The turns in flight, by worker and owner."""
    rows = await database.run(_RUNNING, max_running=MAX_RUNNING)
    return [Running(row.worker, (row.tenant, row.owner), row.turns) for row in rows]
