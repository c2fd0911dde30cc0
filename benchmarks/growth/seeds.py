"""Data that exists before a point is measured: conversations with history, tables of ended requests, tenants."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from benchmarks.bench import Bench
from benchmarks.question import MODEL
from orchestra.credentials import new_key
from orchestra.store import keys
from schemas.api.keys import CreateKey

_TABLES = ("conversations", "requests", "messages", "outbox")
# Bytes with indexes, plus the space for writing and indexing.
_BYTES_A_ROW = 3_000
_BYTES_BESIDE = 10 * 1024**3

# Row by row, keys and triggers would take most of an hour for ten million rows.
_INDEXES_OFF = "UPDATE pg_index SET indisready = false WHERE indrelid = $1::regclass"
_BEFORE = ("ALTER SYSTEM SET max_wal_size = '8GB'", "SELECT pg_reload_conf()",
           "SET session_replication_role = replica", "SET maintenance_work_mem = '1GB'")  # fmt: skip
_AFTER = ("ALTER SYSTEM RESET max_wal_size", "SELECT pg_reload_conf()", "CHECKPOINT")

# Turn by turn, as conversations grow: messages of one conversation are far apart.
_HISTORIES = (
    """
    INSERT INTO conversations (id, next_seq)
    SELECT ($1 || '-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $3::bigint
    FROM generate_series(0, $2::bigint - 1) AS n
    """,
    """
    INSERT INTO messages (conversation_id, role, content)
    SELECT ($1 || '-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        CASE WHEN place % 2 = 1 THEN 'user' ELSE 'assistant' END,
        'What was said in this place of the conversation before: as long as a short question, number ' || place
    FROM generate_series(0, $2::bigint - 1) AS n, generate_series(1, $3::bigint) AS place
    ORDER BY place, n
    """,
)

# Over the last four weeks, so that none has expired; ids are ordered by time, like those of gateways.
_PAST = """
CREATE FUNCTION pg_temp.past(rows bigint, model text) RETURNS TABLE (
    n bigint, at timestamptz, noise text, id uuid, conversation_id uuid, model text
) LANGUAGE sql STABLE AS $$
    SELECT n, at, noise, (
        lpad(to_hex((extract(epoch FROM at) * 4000)::bigint), 12, '0') || '8' || left(noise, 3) || '8'
        || substr(noise, 4, 15)
    )::uuid, md5('conversation ' || n)::uuid, $2
    FROM (
        SELECT n, now() - interval '28 days' * (1 - n / $1::float8) AS at, md5('request ' || n) AS noise
        FROM generate_series(1, $1) AS n
    ) AS numbered
$$
"""
_ROWS = (
    """
    INSERT INTO conversations (id, created_at, next_seq)
    SELECT p.conversation_id, p.at, 2 FROM pg_temp.past($1, $2) AS p
    """,
    """
    INSERT INTO requests (
        id, conversation_id, seq, status, model, body, body_hash, traceparent, caller_waits, fence, tries,
        created_at, run_at, deadline_at, started_at, finished_at, usage,
        src_topic, src_partition, src_offset, src_timestamp
    )
    SELECT p.id, p.conversation_id, 1, 'completed', p.model,
        ('{"messages": [{"role": "user", "content": "What do you say to a question that was asked before? '
        || 'It was number ' || p.n || '"}]}')::jsonb,
        p.noise || p.noise, '00-' || p.noise || '-' || left(p.noise, 16) || '-00', true, 1, 1,
        p.at, p.at, p.at + interval '1 hour', p.at, p.at, '{"input_tokens": 20, "output_tokens": 1}',
        'llm.requests', p.n % 32, p.n / 32, (extract(epoch FROM p.at) * 1000)::bigint
    FROM pg_temp.past($1, $2) AS p
    """,
    """
    INSERT INTO messages (conversation_id, request_id, role, content, created_at)
    SELECT p.conversation_id, p.id, said.role, said.content || p.n, p.at
    FROM pg_temp.past($1, $2) AS p CROSS JOIN (VALUES
        ('user', 'What do you say to a question that was asked before? It was number '),
        ('assistant', 'What is said to number ')
    ) AS said(role, content)
    """,
    """
    INSERT INTO outbox (request_id, conversation_id, tenant, value, headers, created_at, published_at)
    SELECT p.id, p.conversation_id, 'default',
        '{"request_id" : "' || p.id || '", "conversation_id" : "' || p.conversation_id || '", "status" : "completed", '
        || '"reply" : "What is said to number ' || p.n || '", "reply_url" : null, "error" : null, '
        || '"usage" : {"input_tokens": 20, "output_tokens": 1}, "attempts" : 1, "model" : "' || p.model || '", '
        || '"source" : {"topic" : "llm.requests", "partition" : 0, "offset" : ' || p.n || '}, '
        || '"finished_at" : "2026-01-01T00:00:00.000000+00:00"}',
        ('{"body_hash": "' || p.noise || p.noise || '"}')::jsonb, p.at, p.at
    FROM pg_temp.past($1, $2) AS p
    """,
)


class NoRoomError(Exception):
    """This machine is too small; the text says why."""


async def add_histories(bench: Bench, tag: str, conversations: int, messages: int) -> None:
    """Create this many conversations, with the ids of ``conversation``, and this many messages in each."""
    async with writing(bench) as connection:
        await connection.execute(_HISTORIES[0], tag, conversations, messages // 2 + 1)
        await connection.execute(_HISTORIES[1], tag, conversations, messages)


async def add_rows(bench: Bench, rows: int) -> None:
    """Create this many ended requests, each in its own conversation, with everything that a request leaves behind.

    Raises ``NoRoomError`` if the disk is too small.
    """
    (place,) = await bench.database.run("SELECT current_setting('data_directory') AS folder")
    free, wanted = shutil.disk_usage(Path(place.folder)).free, rows * _BYTES_A_ROW + _BYTES_BESIDE
    if rows and free < wanted:
        raise NoRoomError(f"it takes {wanted / 1e9:.0f} GB of disk, and {free / 1e9:.0f} are free")
    async with writing(bench) as connection:
        await put_rows(connection, rows)


async def put_rows(connection: asyncpg.Connection, rows: int) -> None:
    """The same in a database of any release."""
    await connection.execute(_PAST)
    for statement in _ROWS:
        await connection.execute(statement, rows, MODEL)


async def add_tenants(bench: Bench, tenants: int) -> list[str]:
    """Create this many tenants; returns the key of each."""
    made = [new_key() for _ in range(tenants)]
    for number, key in enumerate(made):
        await keys.create(bench.database, f"tenant-{number}", key, CreateKey(name="growth"))
    return [key.text for key in made]


@asynccontextmanager
async def writing(bench: Bench, tables: Sequence[str] = _TABLES) -> AsyncIterator[asyncpg.Connection]:
    """As ``loading``, while no worker runs."""
    workers = len(bench.groups()["worker"])
    await bench.stack.scale(0)
    async with loading(bench.stack.status()["database"]["url"], tables) as connection:
        yield connection
    await bench.stack.scale(workers)


@asynccontextmanager
async def loading(url: str, tables: Sequence[str] = _TABLES) -> AsyncIterator[asyncpg.Connection]:
    """A session that bulk-loads these tables; afterwards they look as if grown normally."""
    connection = await asyncpg.connect(url)
    try:
        await _all(connection, *_BEFORE)
        for table in tables:
            await connection.execute(_INDEXES_OFF, table)
        async with connection.transaction():
            yield connection
        await _all(connection, *(f"REINDEX TABLE {table}" for table in tables))
        await _all(connection, *(f"VACUUM (ANALYZE) {table}" for table in tables), *_AFTER)
    finally:
        await connection.close()


async def _all(connection: asyncpg.Connection, *statements: str) -> None:
    for statement in statements:
        await connection.execute(statement)
