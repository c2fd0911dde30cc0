"""The connection pool, transactions, and the two kinds of failure: unavailable and refused.

SQLAlchemy pools the connections. Statements go straight to asyncpg, for a fifth of the CPU (docs/decisions/0015).
"""

import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, Self

import asyncpg
import orjson
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from orchestra.certificates import is_for_another_host
from orchestra.settings import DatabaseSettings
from orchestra.store import pooler

# SQLSTATE classes for bad data: 22 data exception, 23 integrity, 54 program limit exceeded.
_DATA_CLASSES = ("22", "23", "54")
# SQLSTATE of a missing table, column or function: migrations of this version have not been applied.
_NOT_THERE = ("42P01", "42703", "42883")
_MIGRATE = "the database lacks what this version needs: run `orchestra migrate`"
SLOW = "Postgres does not answer in time"
# SQLSTATE of a statement that Postgres ended at its time limit, and the name of the errors at a limit of the client.
_TOO_LATE = ("57014", TimeoutError.__name__)
READ_ONLY = "Postgres is read-only: it is a standby, or its provider made it so because its disk is nearly full"
# SQLSTATEs, and their classes, of a Postgres that cannot do its part now, whatever the data.
_LACKS = {
    "53300": "Postgres has no connection left: see max_connections, and the limit of its user",
    "53100": "the disk of Postgres is full",
    "53200": "Postgres is out of memory",
    "53": "Postgres has reached a limit of its configuration",
    "58": "Postgres cannot read or write its files",
    "25006": READ_ONLY,
}
_TABLES = """
SELECT string_agg(quote_ident(tablename), ', ') AS names FROM pg_tables
WHERE schemaname = current_schema() AND has_table_privilege(format('%I.%I', schemaname, tablename), 'UPDATE')
"""
IN_ORDER = ("enable_bitmapscan", "enable_sort", "enable_incremental_sort")
"""What is off for a statement that is run in order."""
_SET_IN_ORDER = "SELECT " + ", ".join(f"set_config('{name}', 'off', true)" for name in IN_ORDER)
# Postgres ends the session with these.
_FATAL = ("FATAL", "PANIC")
# Errors raised by the client. `OSError` includes timeouts; `InternalClientError` is a session killed between two
# statements.
_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)


class DatabaseUnavailableError(Exception):
    """Postgres cannot be reached, is restarting, or has no connection left. Trying again may help."""

    @property
    def told(self) -> str:
        """What to show to operators and callers. Has no secrets."""
        return SLOW if str(self) in _TOO_LATE else "Postgres cannot be reached"


class DatabaseUnsuitableError(DatabaseUnavailableError):
    """Postgres can be reached, but lacks something, whatever the statement. The text says what and has no secrets.

    It may lack tables of this version, room on its disk, a free connection, or permission to write.
    """

    @property
    def told(self) -> str:
        """What is wrong, and what to do."""
        return str(self)


class PoolerError(DatabaseUnsuitableError):
    """A pooler such as PgBouncer does not pass on what this process needs.

    Its text is ``reason`` and ``fix``.
    """

    def __init__(self, obstacle: pooler.Obstacle) -> None:
        super().__init__(f"{obstacle.reason}: {obstacle.fix}")
        self.reason = obstacle.reason
        self.fix = obstacle.fix


class DataRefusedError(Exception):
    """Postgres refuses the data of this statement. The same data will be refused again."""


class Row(asyncpg.Record):
    """A row with its columns as attributes; `dict(row)` has all of them."""

    def __getattr__(self, name: str) -> Any:
        """A column's value. Raises ``AttributeError`` if there is no such column."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Transaction:
    """An open transaction. Statements take named parameters; rows go in as one JSON parameter."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row]:
        """Run one statement. Returns its rows."""
        statement, names = numbered(sql)
        found: list[Row] = await self.connection.fetch(
            statement, *[parameters[name] for name in names], record_class=Row
        )
        return found


class Database:
    """The connection pool of one process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def connect(cls, settings: DatabaseSettings, application: str, *, takes_first: bool = False) -> Self:
        """A pool that connects on first use. ``application`` is the name shown in pg_stat_activity.

        ``takes_first``: turn off bitmap scans, for statements that take only the first rows of an index, as a worker's
        do. Other statements of a gateway need those scans: they collect every match of several indexes.
        """
        engine = create_async_engine(
            settings.driver_url,
            pool_size=settings.database_pool_size,
            max_overflow=0,
            pool_timeout=5,
            pool_recycle=1800,
            pool_use_lifo=True,
            json_serializer=json.dumps,
            connect_args={
                "dsn": settings.tls_files,
                "async_creator_fn": _open,
                "timeout": 5,
                "command_timeout": 30,
                "server_settings": server_settings(application, takes_first=takes_first),
            },
        )
        return cls(engine)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the body in one transaction, committed when the body ends and rolled back if it raises.

        Raises ``DatabaseUnavailableError`` (it may or may not be committed) or ``DataRefusedError``.
        """
        with _translated():
            async with self._connection() as connection:
                await connection.execute("BEGIN")
                try:
                    yield Transaction(connection)
                    await connection.execute("COMMIT")
                except Exception:
                    with suppress(Exception):
                        await connection.execute("ROLLBACK")
                    raise

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row]:
        """Run one statement as its own transaction. Returns its rows. Raises as ``transaction`` does."""
        with _translated():
            async with self._connection() as connection:
                return await Transaction(connection).run(sql, **parameters)

    async def run_in_order(self, sql: str, **parameters: Any) -> Sequence[Row]:
        """Run one statement, as ``run`` does, that takes only the first rows in the order of an index.

        Where statistics expect few rows, the planner would read all of them by any index and sort them, such as those
        of all tenants by their time.
        """
        async with self.transaction() as tx:
            await tx.run(_SET_IN_ORDER)
            return await tx.run(sql, **parameters)

    async def is_well(self) -> bool:
        """Whether every table can be written now: Postgres answers, and no other session holds one of them."""
        try:
            async with self.transaction() as tx:
                await tx.run("SET LOCAL lock_timeout = '1s'")
                (found,) = await tx.run(_TABLES)
                await tx.run(f"LOCK TABLE {found.names} IN ROW EXCLUSIVE MODE")
        except (DatabaseUnavailableError, DataRefusedError):
            return False
        return True

    async def shares_sessions(self) -> bool:
        """Whether a pooler lends the sessions of Postgres to one client after another. Takes two connections.

        Raises ``DatabaseUnavailableError``.
        """
        with _translated():
            async with self._connection() as one, self._connection() as other:
                return await pooler.share_sessions(one, other)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection from the pool. It goes back only if it is certainly clean, and is closed otherwise."""
        pooled = await self._from_pool()
        while pooled.driver_connection.is_closed():  # Postgres has restarted since.
            pooled.invalidate()
            pooled = await self._from_pool()
        connection: asyncpg.Connection = pooled.driver_connection
        # Unknown until the body ends: the last statement may still run, or its cancel may hit the next statement.
        sound = False
        try:
            yield connection
            sound = True
        except Exception as error:
            sound = not isinstance(error, _BROKEN) and getattr(error, "severity_en", None) not in _FATAL
            raise
        finally:
            if sound and not connection.is_closed() and not connection.is_in_transaction():
                pooled.close()
            else:
                pooled.invalidate()

    async def _from_pool(self) -> Any:
        assert self._engine.dialect.dbapi
        try:
            return await self._engine.raw_connection()
        except self._engine.dialect.dbapi.Error as error:  # Postgres refuses the connection.
            state = getattr(error, "sqlstate", None) or ""
            if lack := _lack(state):
                raise DatabaseUnsuitableError(lack) from error
            raise DatabaseUnavailableError(state or type(error).__name__) from error


def server_settings(application: str, *, takes_first: bool) -> dict[str, str]:
    """The settings of a connection's session in Postgres; durations in milliseconds. See ``Database.connect``."""
    return {
        "application_name": application,
        "statement_timeout": "30000",
        # A process that freezes in a transaction must not hold its locks longer than its lease.
        "idle_in_transaction_session_timeout": "5000",
        "jit": "off",
        # Plans are cached: one made while a table was small would keep scanning the table as it grows.
        "enable_seqscan": "off",
        # Statistics from an idle moment say that the index of open turns is empty. The planner would then read all of
        # it for one turn, including entries of turns that ended long ago.
        "enable_bitmapscan": "off" if takes_first else "on",
        "timezone": "UTC",
    }


async def _open(*address: Any, server_settings: Mapping[str, str], **options: Any) -> asyncpg.Connection:
    """Connect. Raises ``PoolerError`` instead of returning a connection that loses settings or statements."""
    open_one = partial(asyncpg.connect, *address, server_settings=server_settings, **options)
    try:
        opened = await open_one()
    except asyncpg.PostgresError as error:
        if obstacle := pooler.refusal(error, server_settings):
            raise PoolerError(obstacle) from error
        if wrong := _WRONG_URL.get(error.sqlstate or ""):
            raise DatabaseUnsuitableError(f"DATABASE_URL: {wrong}") from error
        raise
    except ssl.SSLCertVerificationError as error:
        raise DatabaseUnsuitableError(_wrong_certificate(error)) from error
    except asyncpg.ClientConfigurationError as error:
        raise DatabaseUnsuitableError(f"DATABASE_URL: {_WRONG_TLS}") from error
    except socket.gaierror as error:
        raise DatabaseUnavailableError("DATABASE_URL: its host has no address") from error
    except ConnectionError as error:
        if str(error).endswith("rejected SSL upgrade"):
            raise DatabaseUnsuitableError(f"DATABASE_URL: {_NO_TLS}") from error
        raise
    try:
        if obstacle := await pooler.find_obstacle(opened, server_settings, open_one):
            raise PoolerError(obstacle)
    except BaseException:
        opened.terminate()
        raise
    return opened


# SQLSTATEs by which Postgres refuses a connection: what is wrong with the URL.
_WRONG_URL = {
    "28P01": "Postgres refuses its user or password",
    "28000": "Postgres refuses its user: pg_hba.conf has no entry for it, or only one with TLS",
    "3D000": "Postgres does not have its database",
    "42501": "its user may not connect to its database",
}
_WRONG_TLS = "its parameters of TLS (or PGSSLMODE, PGSSLROOTCERT) do not fit together"
_NO_TLS = "Postgres offers no TLS, which its sslmode (or PGSSLMODE) asks for"


def _wrong_certificate(error: ssl.SSLCertVerificationError) -> str:
    if is_for_another_host(error):
        return "DATABASE_URL: the certificate of Postgres is for another host name"
    return f"sslrootcert (or PGSSLROOTCERT) does not verify the certificate of Postgres ({error.verify_message})"


_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@lru_cache(maxsize=256)
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """The statement with numbered parameters, and their names in order."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql), names


def _lack(state: str) -> str | None:
    return _LACKS.get(state) or _LACKS.get(state[:2])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(_DATA_CLASSES):
            raise DataRefusedError(state) from error
        if state in _NOT_THERE:
            raise DatabaseUnsuitableError(_MIGRATE) from error
        if lack := _lack(state):
            raise DatabaseUnsuitableError(lack) from error
        if state.startswith("42"):  # A bug in our SQL, not bad data or an outage.
            raise
        raise DatabaseUnavailableError(state or type(error).__name__) from error
    except (*_BROKEN, PoolTimeoutError) as error:
        raise DatabaseUnavailableError(type(error).__name__) from error


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the one JSON parameter that a statement unpacks with ``json_to_recordset``."""
    try:
        return orjson.dumps(rows, default=str).decode()
    except TypeError:  # A lone surrogate or a number beyond 64 bits: let Postgres report what is wrong.
        return json.dumps(rows, default=str)


def read_json(text: str) -> Any:
    """A JSON value that a function of the database has built, with whatever numbers and texts its columns can hold."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:  # A number beyond 64 bits and beyond all floats: valid in JSON and in ``jsonb``.
        return json.loads(text)


def lookup_rows(parameter: str, columns: str) -> str:
    """The rows of a JSON parameter, as a subquery to join; ``columns`` must include the tenant.

    The planner estimates 100 rows, and would then scan a whole index that it believes to be small. The condition is
    always true and brings the estimate down to one row.
    """
    return f"(SELECT * FROM json_to_recordset(CAST(:{parameter} AS json)) AS j({columns}) WHERE tenant || '' = tenant)"
