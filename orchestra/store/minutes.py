"""What ended in each minute: counted by one worker every few seconds, read for statistics.

Counting a minute replaces what was counted of it before, so it can be repeated and interrupted at any point. Endings
never change, so a count only grows. Nothing here is on a request's path.
"""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from orchestra.store.database import Database, Transaction

BOUNDS = tuple(
    float(f"{step}e{power}") for power in range(-2, 5) for step in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)
)
"""Upper bounds in seconds of the buckets of both times, 10 ms to 22 h; one more bucket has no bound.

Each is at most 1.28 times the one before, so a bucket's geometric middle is within 14 % of all that it counts.
"""
MAX_GROUPS = 20
"""Maximum number of models in an answer; the others are summed up."""
# A statement takes at most 30 s and a transaction rests at most 5 s: after this time nothing can be added to a minute.
_SETTLED = timedelta(minutes=5)
# Each count repeats this much of the time before the last one, for endings whose transactions were still open then. No
# ordinary transaction is open for longer.
_LATE = timedelta(seconds=15)
# One statement counts the endings of at most this much time.
_STRETCH = timedelta(minutes=5)
# Counting takes at most a tenth of the time, however much ends.
_REST = 10

_DUE = """
SELECT counted_at, settled_at, now() AS now FROM minutes_counted WHERE due_at <= now() FOR UPDATE SKIP LOCKED
"""
_COUNTED = """
UPDATE minutes_counted SET counted_at = now(), settled_at = :settled_at,
    due_at = clock_timestamp() + make_interval(secs => :every) + :rest * (clock_timestamp() - now())
"""
_NEXT_ENDING = "SELECT min(finished_at) AS at FROM requests WHERE finished_at >= :after"

_PLACES = range(len(BOUNDS) + 1)
_BOUNDS = ", ".join(map(str, BOUNDS))
# Where the buckets of rows with 13 of them, which earlier versions wrote, count: at their middles.
_COARSE = (0.025, 0.07, 0.16, 0.35, 0.7, 1.6, 3.5, 7.0, 17.0, 42.0, 134.0, 735.0, 1800.0)


def _buckets(bucket: str) -> str:
    counts = (f"coalesce(sum(requests) FILTER (WHERE {bucket} = {place}), 0)" for place in _PLACES)
    return f"CAST(ARRAY[{', '.join(counts)}] AS bigint[])"


# Grouped twice, so that a request costs the same however many buckets there are.
_COUNT = f"""
INSERT INTO request_minutes AS t (
    minute, tenant, model, outcome, requests, input_tokens, output_tokens, cost, queue_seconds, model_seconds,
    queue_buckets, model_buckets
)
SELECT minute, tenant, model, outcome, sum(requests), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
    coalesce(sum(cost), 0), coalesce(sum(queued), 0), coalesce(sum(ran), 0), {_buckets("queue_bucket")},
    {_buckets("model_bucket")}
FROM (
    SELECT minute, tenant, model, outcome, count(*) AS requests, sum(input_tokens) AS input_tokens,
        sum(output_tokens) AS output_tokens, sum(cost) AS cost, sum(queued) AS queued, sum(ran) AS ran,
        width_bucket(queued, CAST(ARRAY[{_BOUNDS}] AS float8[])) AS queue_bucket,
        width_bucket(ran, CAST(ARRAY[{_BOUNDS}] AS float8[])) AS model_bucket
    FROM (
        SELECT date_trunc('minute', finished_at) AS minute, tenant, model, status AS outcome,
            CAST(usage ->> 'input_tokens' AS bigint) AS input_tokens,
            CAST(usage ->> 'output_tokens' AS bigint) AS output_tokens,
            CAST(usage ->> 'cost' AS float8) AS cost,
            CAST(extract(epoch FROM started_at - greatest(created_at, not_before)) AS float8) AS queued,
            CAST(extract(epoch FROM finished_at - started_at) AS float8) AS ran
        FROM requests WHERE finished_at >= :after AND finished_at < :before
    ) AS ended
    GROUP BY minute, tenant, model, outcome, queue_bucket, model_bucket
) AS measured
GROUP BY minute, tenant, model, outcome
ON CONFLICT (minute, tenant, model, outcome) DO UPDATE SET
    requests = excluded.requests, input_tokens = excluded.input_tokens, output_tokens = excluded.output_tokens,
    cost = excluded.cost, queue_seconds = excluded.queue_seconds, model_seconds = excluded.model_seconds,
    queue_buckets = excluded.queue_buckets, model_buckets = excluded.model_buckets
WHERE t.requests < excluded.requests
"""


def _fine(column: str) -> str:
    """The buckets of a row, in the division of ``BOUNDS``."""
    places = [bisect_right(BOUNDS, middle) for middle in _COARSE]
    counts = (f"{column}[{places.index(place) + 1}]" if place in places else "0" for place in _PLACES)
    coarse = f"CAST(ARRAY[{', '.join(counts)}] AS bigint[])"
    return f"CASE WHEN cardinality({column}) = {len(_COARSE)} THEN {coarse} ELSE {column} END AS {column}"


def _summed(column: str) -> str:
    return f"ARRAY[{', '.join(f'CAST(sum({column}[{place + 1}]) AS bigint)' for place in _PLACES)}]"


_KEYS = {
    None: "CAST(NULL AS text)",
    "model": "CASE WHEN m.model IN (SELECT model FROM top) THEN m.model END",
    "outcome": "m.outcome",
}
# `OFFSET 0`: otherwise the buckets of a row are found again for each place in them.
_READ_BY = """
WITH top AS (
    SELECT model FROM request_minutes
    WHERE {by_model} AND tenant = :tenant AND minute >= :after AND minute < :before
    GROUP BY model ORDER BY sum(requests) DESC, model LIMIT {most}
)
SELECT date_bin(make_interval(secs => :step), m.minute, :after) AS at, {key} AS key,
    CAST(sum(requests) AS bigint) AS requests,
    {outcomes},
    CAST(sum(input_tokens) AS bigint) AS input_tokens, CAST(sum(output_tokens) AS bigint) AS output_tokens,
    sum(cost) AS cost, sum(queue_seconds) AS queue_seconds, sum(model_seconds) AS model_seconds,
    {queue_buckets} AS queue_buckets, {model_buckets} AS model_buckets
FROM (
    SELECT minute, model, outcome, requests, input_tokens, output_tokens, cost, queue_seconds, model_seconds,
        {fine_queue}, {fine_model}
    FROM request_minutes WHERE tenant = :tenant AND minute >= :after AND minute < :before
    OFFSET 0
) AS m
GROUP BY 1, 2 ORDER BY 1, 2 NULLS LAST
"""
_OUTCOMES = ", ".join(
    f"CAST(coalesce(sum(requests) FILTER (WHERE outcome = '{outcome}'), 0) AS bigint) AS {outcome}"
    for outcome in ("completed", "failed", "cancelled", "expired")
)
_READ = {
    by: _READ_BY.format(
        by_model=str(by == "model").lower(), most=MAX_GROUPS, key=key, outcomes=_OUTCOMES,
        queue_buckets=_summed("queue_buckets"), model_buckets=_summed("model_buckets"),
        fine_queue=_fine("queue_buckets"), fine_model=_fine("model_buckets"),
    )
    for by, key in _KEYS.items()
}  # fmt: skip
_NEWEST = f"""
SELECT tenant, minute, {_OUTCOMES}, CAST(sum(input_tokens) AS bigint) AS input_tokens,
    CAST(sum(output_tokens) AS bigint) AS output_tokens, sum(cost) AS cost
FROM request_minutes WHERE minute >= now() - interval '2 minutes' AND tenant = ANY(:tenants)
GROUP BY tenant, minute ORDER BY minute
"""
_COUNTED_AT = "SELECT counted_at FROM minutes_counted"


@dataclass(frozen=True)
class Minute:
    """What ended in a minute of a tenant."""

    minute: datetime
    completed: int
    failed: int
    cancelled: int
    expired: int
    input_tokens: int
    output_tokens: int
    cost: float


@dataclass(frozen=True)
class Ended:
    """The requests that ended in the step from ``at`` on. ``key``: their model or outcome; None: any, or any other.

    Buckets count requests by their time, as ``BOUNDS`` divide it.
    """

    at: datetime
    key: str | None
    requests: int
    completed: int
    failed: int
    cancelled: int
    expired: int
    input_tokens: int
    output_tokens: int
    cost: float
    queue_seconds: float
    model_seconds: float
    queue_buckets: Sequence[int]
    model_buckets: Sequence[int]


async def count(database: Database, every: float) -> bool:
    """Count what has ended, if a count is due; the next is due in at least ``every`` seconds. True if counted."""
    async with database.transaction() as tx:
        due = await tx.run(_DUE)
        if not due:
            return False
        (row,) = due
        after = _minute(max(row.counted_at - _LATE, row.now - _STRETCH))
        await tx.run(_COUNT, after=after, before=row.now + timedelta(minutes=1))
        settled_at = await _settle(tx, row.settled_at, _minute(row.now - _SETTLED))
        await tx.run(_COUNTED, settled_at=settled_at, every=every, rest=_REST)
        return True


async def _settle(tx: Transaction, settled_at: datetime, until: datetime) -> datetime:
    """Count a stretch of minutes to which nothing can be added any more. Returns up to when all are counted now.

    It also counts what ended while no worker ran, and before there were statistics.
    """
    if settled_at >= until:
        return settled_at
    (ending,) = await tx.run(_NEXT_ENDING, after=settled_at)
    if ending.at is None or ending.at >= until:
        return until
    after = _minute(ending.at)
    before = min(after + _STRETCH, until)
    await tx.run(_COUNT, after=after, before=before)
    return before


def _minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


async def counted_at(database: Database) -> datetime:
    """When endings were last counted."""
    moment: datetime = (await database.run(_COUNTED_AT))[0].counted_at
    return moment


async def ended(
    database: Database, tenant: str, after: datetime, before: datetime, step: float, by: str | None = None
) -> list[Ended]:
    """What ended in a tenant from ``after`` until ``before``, both at the start of a minute, oldest first.

    ``step``: seconds of each row, a multiple of 60. ``by``: `model` or `outcome`. A step in which nothing ended has no
    row.
    """
    values: dict[str, Any] = {"tenant": tenant, "after": after, "before": before, "step": step}
    return [Ended(**row) for row in await database.run(_READ[by], **values)]


async def newest(database: Database, tenants: Collection[str]) -> dict[str, list[Minute]]:
    """What ended in the last two minutes of each of these tenants, oldest first."""
    found: dict[str, list[Minute]] = {tenant: [] for tenant in tenants}
    for row in await database.run(_NEWEST, tenants=list(tenants)) if tenants else ():
        fields = dict(row)
        found[fields.pop("tenant")].append(Minute(**fields))
    return found
