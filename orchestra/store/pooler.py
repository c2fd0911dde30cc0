"""Connections through a pooler such as PgBouncer: what it has to pass on, and what to do if it does not.

In its transaction mode a pooler lends each transaction any of its connections to Postgres. Start-up settings are lost
on the way. A prepared statement may be missing on that connection, or its name may belong to a statement of another
process (docs/decisions/0031).
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import asyncpg

# PgBouncer waits for Postgres on behalf of its clients, longer than a process should take to find that out.
_SECONDS = 5
# How often to compare sessions before concluding that they are not shared.
_LOOKS = 10
# PgBouncer keeps these for each of its clients.
_KEPT = frozenset(("application_name", "timezone"))
_SETTINGS = "SELECT lower(name) AS name, setting FROM pg_settings WHERE lower(name) = ANY($1)"
# `untracked`: Postgres knows this statement by the name that we gave it. A pooler that tracks statements renames them.
_PREFIX = "orchestra_"
_SESSION = f"""
SELECT pg_backend_pid() AS pid, EXISTS (SELECT FROM pg_prepared_statements WHERE name = '{_PREFIX}' || $1) AS untracked
"""


@dataclass(frozen=True)
class Obstacle:
    """Why a pooler cannot be used as it is, and how to change that."""

    reason: str
    fix: str


_FIX = "use PgBouncer 1.21 or newer with `pool_mode = transaction` and `max_prepared_statements = 200`, or no pooler"
_NO_STATEMENTS = Obstacle("the pooler at this address does not track prepared statements", _FIX)
_NO_TRANSACTIONS = Obstacle("the pooler at this address allows no transactions", _FIX)


def refusal(error: asyncpg.PostgresError, settings: Mapping[str, str]) -> Obstacle | None:
    """The obstacle if ``error`` is a pooler's refusal of start-up ``settings``, else None."""
    if "unsupported startup parameter" not in str(error):
        return None
    lost = {name: value for name, value in settings.items() if name not in _KEPT}
    fix = f"add `{', '.join(lost)}` to ignore_startup_parameters in pgbouncer.ini, and {_connect_query(lost)}"
    return Obstacle("the pooler at this address refuses start-up settings", fix)


async def find_obstacle(
    connection: asyncpg.Connection,
    settings: Mapping[str, str],
    open_another: Callable[[], Awaitable[asyncpg.Connection]],
) -> Obstacle | None:
    """What keeps a new connection from being used, None if nothing does. ``settings`` were sent at start-up."""
    if await _is_direct(connection):
        return None
    try:
        session = await _session(connection)
    except asyncpg.PostgresConnectionError as error:
        if "transaction blocks not allowed" in str(error):
            return _NO_TRANSACTIONS
        raise
    if session["untracked"]:
        another = await open_another()
        try:
            if await share_sessions(connection, another):
                return _NO_STATEMENTS
        finally:
            another.terminate()
    expected = {name: value for name, value in settings.items() if name != "application_name"}
    rows = await connection.fetch(_SETTINGS, list(expected), timeout=_SECONDS)
    found = {row["name"]: row["setting"] for row in rows}
    lost = {name: value for name, value in expected.items() if found.get(name) != value}
    return Obstacle(_difference(lost, found), _connect_query(lost)) if lost else None


async def share_sessions(one: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Whether a pooler lends the same sessions of Postgres to both connections."""
    if await _is_direct(one):
        return False
    pid = (await _session(one))["pid"]
    for _ in range(_LOOKS):
        # An idle pooler lends out the session that it got back last. In a busy one, another client takes it.
        if await _has_session(other, pid) or not await _has_session(one, pid):
            return True
    return False


async def _session(connection: asyncpg.Connection) -> asyncpg.Record:
    """The session of Postgres that executed one transaction: ``pid`` and ``untracked``."""
    random = secrets.token_hex(8)  # Another process may use each of asyncpg's names.
    # Preparing and executing are two steps, which only a transaction keeps in one session.
    async with connection.transaction():
        statement = await connection.prepare(_SESSION, name=_PREFIX + random, timeout=_SECONDS)
        (session,) = await statement.fetch(random, timeout=_SECONDS)
        return session


async def _is_direct(connection: asyncpg.Connection) -> bool:
    # A pooler tells its clients an invented process id.
    return await _has_session(connection, connection.get_server_pid())


async def _has_session(connection: asyncpg.Connection, pid: int) -> bool:
    """Whether this process of Postgres executes the connection's next statement. One round trip."""
    done = await connection.execute(f"SELECT WHERE pg_backend_pid() = {pid}", timeout=_SECONDS)
    return bool(done == "SELECT 1")


def _difference(lost: Mapping[str, str], found: Mapping[str, str]) -> str:
    each = ", ".join(f"{name} is {found.get(name)} instead of {value}" for name, value in lost.items())
    return f"the pooler at this address loses settings: {each}"


def _connect_query(settings: Mapping[str, str]) -> str:
    statements = "; ".join(f"SET {name} = {value}" for name, value in settings.items())
    return f"put `{statements}` into the connect_query of this database"
