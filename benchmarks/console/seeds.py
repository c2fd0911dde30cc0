"""The table that the calls are measured against: a million requests of many tenants, and more of them every second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg

from benchmarks.bench import Bench
from benchmarks.growth.seeds import writing
from orchestra.credentials import new_key
from orchestra.store import keys
from orchestra.store.minutes import BOUNDS
from schemas.api.keys import CreateKey, Scope

LONG_TALK, WORKER, UNKNOWN = UUID(int=1), UUID(int=2), UUID(int=9)
"""A conversation with many thousand turns, the worker that holds the turns in flight, and an id of nothing."""
PAUSED = "paused"
"""The model of most pending turns. It is paused, so that the worker leaves them where they are."""
OLDEST = "only-the-oldest"
"""A value that only the oldest rows have."""
USERS = ("none", OLDEST, "user-0")
"""Names of keys. They own nothing, the oldest requests, and very many."""
_OLDEST_ROWS = 20
_LETTERS, _ENTRIES, _PEOPLE = 100_000, 100_000, 1_000
_WRITES_A_SECOND, _WRITES_AT_ONCE = 200, 20
_TABLES = (
    "conversations", "requests", "messages", "attempt_errors", "request_minutes", "dead_letters", "audit", "users",
    "api_keys", "workers",
)  # fmt: skip

# Turns of a conversation follow each other. The newest conversations are open: a head, and what waits behind it.
_PAST = (
    "SELECT setseed(0.5)",
    f"""
    CREATE TEMP TABLE talks AS
    SELECT t, CASE WHEN t = 0 THEN '{LONG_TALK}' ELSE md5('conversation ' || t)::uuid END AS id,
        CASE WHEN t = 0 OR random() < 0.7 THEN 'default' ELSE 'tenant-' || floor(20 * random()) END AS tenant,
        CASE WHEN t * 4 <= {_OLDEST_ROWS} THEN 'key:{OLDEST}'
            WHEN random() < 0.8 THEN 'key:user-' || floor(1000 * power(random(), 3)) END AS owner,
        t * 4 > $1::bigint * 0.98 AS open
    FROM generate_series(0, $1::bigint / 4) AS t
    """,
    f"""
    CREATE TEMP TABLE past AS
    SELECT r.*, row_number() OVER (PARTITION BY r.talk ORDER BY r.n) AS seq, t.tenant, t.owner, t.open,
        (lpad(to_hex((extract(epoch FROM r.at) * 4000)::bigint), 12, '0') || '7' || left(r.noise, 3) || '8'
            || substr(r.noise, 4, 15))::uuid AS id,
        CASE WHEN r.n <= {_OLDEST_ROWS} THEN '{OLDEST}' WHEN t.open AND r.n % 2 = 0 THEN '{PAUSED}'
            WHEN r.dice[1] < 0.6 THEN 'large' WHEN r.dice[1] < 0.9 THEN 'small'
            ELSE 'model-' || floor(r.dice[1] * 1000) END AS model,
        CASE WHEN r.n <= {_OLDEST_ROWS} THEN 'failed' WHEN r.dice[2] < 0.94 THEN 'completed'
            WHEN r.dice[2] < 0.97 THEN 'failed' WHEN r.dice[2] < 0.99 THEN 'cancelled' ELSE 'expired' END AS ending
    FROM (
        SELECT n, now() - interval '28 days' * (1 - n / $1::float8) AS at, md5('request ' || n) AS noise,
            ARRAY[random(), random(), random()] AS dice,
            CASE WHEN n % 100 = 0 AND n < $1 * 0.97 THEN 0 ELSE n / 4 END AS talk
        FROM generate_series(1, $1::bigint) AS n
    ) AS r JOIN talks t ON t.t = r.talk
    """,
)
_ROWS = (
    """
    INSERT INTO conversations (tenant, id, owner, created_at, next_seq)
    SELECT t.tenant, t.id, t.owner, min(p.at), max(p.seq) + 1
    FROM talks t JOIN past p ON p.talk = t.t GROUP BY t.tenant, t.id, t.owner
    """,
    f"""
    INSERT INTO requests (
        tenant, id, conversation_id, seq, status, priority, model, task_type, door, body, body_hash, user_name,
        traceparent, fence, tries, worker_id, created_at, run_at, not_before, deadline_at, started_at, finished_at,
        usage, error_code, error_detail, src_topic, src_partition, src_offset, src_timestamp
    )
    SELECT p.tenant, p.id, t.id, p.seq, s.status, CASE WHEN p.n <= {_OLDEST_ROWS} THEN 9 ELSE 3 + p.n % 3 END, p.model,
        CASE WHEN p.n <= {_OLDEST_ROWS} THEN '{OLDEST}' WHEN p.n % 20 = 7 THEN 'analyst' END,
        CASE WHEN p.n <= {_OLDEST_ROWS} THEN 'responses' WHEN p.n % 100 = 3 THEN 'chat' END,
        '{{"messages": [{{"role": "user", "content": "What do you say to a question that was asked before?"}}]}}',
        p.noise || p.noise, p.owner, '00-' || p.noise || '-' || left(p.noise, 16) || '-00',
        CASE WHEN p.n <= {_OLDEST_ROWS} THEN 7 WHEN p.open THEN 0 ELSE 1 END, 1,
        CASE WHEN s.status = 'in_progress' THEN '{WORKER}'::uuid END, p.at,
        CASE WHEN p.open AND p.model <> '{PAUSED}' THEN now() + interval '1 day' ELSE p.at END,
        CASE WHEN p.open AND p.model <> '{PAUSED}' THEN now() + interval '1 day' END,
        now() + interval '7 days', CASE WHEN NOT p.open THEN p.at + p.waited END,
        CASE WHEN NOT p.open THEN p.at + p.waited + interval '2 seconds' END,
        CASE WHEN s.status = 'completed' THEN '{{"input_tokens": 20, "output_tokens": 9}}'::jsonb END,
        CASE WHEN s.status = 'failed' THEN
            CASE WHEN p.n <= {_OLDEST_ROWS} THEN 'content_filter' WHEN p.n % 3 = 0 THEN 'unavailable' ELSE 'timeout' END
        END,
        CASE WHEN s.status = 'failed' THEN 'the model did not answer in time' END,
        'llm.requests', p.n % 32, p.n / 32, (extract(epoch FROM p.at) * 1000)::bigint
    FROM (
        SELECT *, CASE WHEN n <= {_OLDEST_ROWS} THEN interval '1 hour' ELSE interval '3 seconds' * dice[3] END AS waited
        FROM past
    ) AS p JOIN talks t ON t.t = p.talk
    CROSS JOIN LATERAL (
        SELECT CASE WHEN NOT p.open THEN p.ending WHEN p.seq > 1 THEN 'waiting' WHEN p.talk % 10 = 0 THEN 'in_progress'
            ELSE 'pending' END AS status
    ) AS s
    """,
    """
    INSERT INTO messages (tenant, conversation_id, request_id, role, content, created_at)
    SELECT p.tenant, t.id, p.id, said.role, said.content || p.n, p.at
    FROM past p JOIN talks t ON t.t = p.talk CROSS JOIN (VALUES
        ('user', 'What do you say to a question that was asked before? It was number '),
        ('assistant', 'What is said to number ')
    ) AS said(role, content)
    WHERE NOT p.open AND (said.role = 'user' OR p.ending = 'completed')
    """,
    """
    INSERT INTO attempt_errors (tenant, request_id, attempt, code, detail, created_at)
    SELECT tenant, id, 1, 'timeout', 'the model did not answer in time', at FROM past
    WHERE NOT open AND ending = 'failed'
    """,
    """
    INSERT INTO request_minutes
    SELECT date_trunc('minute', finished_at), tenant, model, status, count(*), 20 * count(*), 9 * count(*), 0,
        sum(extract(epoch FROM started_at - created_at)), 2 * count(*), b.buckets, b.buckets
    FROM requests, (SELECT array_fill(1::bigint, ARRAY[$1::integer]) AS buckets) AS b
    WHERE finished_at IS NOT NULL GROUP BY 1, 2, 3, 4, b.buckets
    """,
    "UPDATE minutes_counted SET counted_at = now(), settled_at = now()",
    f"INSERT INTO workers (id, lease_until) VALUES ('{WORKER}', now() + interval '1 day')",
    f"""
    INSERT INTO pauses (tenant, model, reason, paused_by)
    SELECT DISTINCT tenant, '{PAUSED}', 'measured', 'command:benchmarks' FROM talks
    """,
)
# What was refused was replayed, but for the oldest; and each person does their own kind of change.
_BESIDE = (
    f"""
    INSERT INTO dead_letters (
        tenant, topic, partition, record_offset, record_timestamp, request_id, reason, detail, value, headers,
        created_at, replayed_at, replayed_as
    )
    SELECT 'default', CASE WHEN n <= {_OLDEST_ROWS} THEN '{OLDEST}' ELSE 'llm.requests' END, n % 32, -n, 0,
        md5('letter ' || n)::uuid, CASE WHEN n <= {_OLDEST_ROWS} THEN 'bad_header' ELSE 'not_json' END,
        'The body is not JSON', 'Hello', '[]', now() - interval '28 days' * (1 - n / {_LETTERS}::float8),
        CASE WHEN n > {_OLDEST_ROWS} THEN now() END, CASE WHEN n > {_OLDEST_ROWS} THEN md5('letter ' || n)::uuid END
    FROM generate_series(1, {_LETTERS}) AS n
    """,
    f"""
    INSERT INTO audit (event_id, created_at, tenant, actor, action, target)
    SELECT md5('entry ' || n)::uuid, now() - interval '28 days' * (1 - n / {_ENTRIES}::float8), 'default',
        'user:' || n % 2, CASE n % 2 WHEN 0 THEN 'request.cancel' ELSE 'request.retry' END, 'requests/' || n % 2
    FROM generate_series(1, {_ENTRIES}) AS n
    """,
    f"""
    INSERT INTO users (username, password_hash, role) SELECT 'user-' || n, '-', 'user'
    FROM generate_series(1, {_PEOPLE}) AS n
    """,
)

_WRITE = """
WITH new AS MATERIALIZED (SELECT gen_random_uuid() AS id, 'key:user-' || n AS owner FROM generate_series(1, $1) AS n),
talk AS (INSERT INTO conversations (id, owner, next_seq) SELECT id, owner, 2 FROM new),
row AS (
    INSERT INTO requests (
        id, conversation_id, seq, status, model, body, body_hash, user_name, fence, tries, deadline_at, started_at,
        finished_at, usage, src_topic, src_partition, src_offset, src_timestamp
    )
    SELECT id, id, 1, 'completed', 'large', '{}', '-', owner, 1, 1, now() + interval '1 day', now(), now(),
        '{"input_tokens": 20, "output_tokens": 9}', 'written', 0, $2::bigint + row_number() OVER (), 0 FROM new
)
INSERT INTO messages (conversation_id, request_id, role, content)
SELECT id, id, role, 'What is said' FROM new CROSS JOIN (VALUES ('user'), ('assistant')) AS said(role)
"""


async def fill(bench: Bench, rows: int) -> dict[str, str]:
    """Fill the tables: ``rows`` requests of the last four weeks, with all that the console shows beside them.

    Returns the keys of ``USERS``, by name.
    """
    async with writing(bench, _TABLES) as connection:
        for statement in _PAST:
            await connection.execute(statement, *([rows] if "$1" in statement else []))
        for statement in _ROWS:
            await connection.execute(statement, *([len(BOUNDS) + 1] if "$1" in statement else []))
        for statement in _BESIDE:
            await connection.execute(statement)
    made = {name: new_key() for name in USERS}
    for name, key in made.items():
        await keys.create(bench.database, "default", key, CreateKey(name=name, scopes=[Scope.READ]))
    return {name: key.text for name, key in made.items()}


@asynccontextmanager
async def written(url: str) -> AsyncIterator[None]:
    """Write 200 answered requests a second while the body runs."""
    connection = await asyncpg.connect(url)
    writer = asyncio.create_task(_write(connection))
    try:
        yield
        if writer.done():
            writer.result()
    finally:
        writer.cancel()
        await asyncio.wait([writer])
        await connection.close()


async def _write(connection: asyncpg.Connection) -> None:
    loop, offset = asyncio.get_running_loop(), 0
    due = loop.time()
    while True:
        await connection.execute(_WRITE, _WRITES_AT_ONCE, offset)
        offset += _WRITES_AT_ONCE
        due += _WRITES_AT_ONCE / _WRITES_A_SECOND
        await asyncio.sleep(max(0, due - loop.time()))
