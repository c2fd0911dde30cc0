"""The pool of connections, transactions, and the two ways in which Postgres can say no.

SQLAlchemy keeps the connections; statements go to asyncpg itself, which takes a fifth of the CPU (docs/decisions/0015).
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import Any

import asyncpg
import orjson
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from orchestra.settings import DatabaseSettings

# Classes of SQLSTATE that blame the data: 22 data exception, 23 integrity, 54 program limit exceeded.
_DATA_CLASSES = ("22", "23", "54")
# Postgres ends the session with these.
_FATAL = ("FATAL", "PANIC")
# Of the client's own: the last is what a session that was ended between two statements looks like. Time limits are
# among the first.
_BROKEN = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.InternalClientError)


class DatabaseUnavailableError(Exception):
    """Postgres cannot be reached, is restarting, or has no connection left. Trying again may help."""


class DataRefusedError(Exception):
    """Postgres refuses the data of this statement. Trying the same again does not help."""


class Row(asyncpg.Record):
    """A row: its columns are attributes, and `dict(row)` has them all."""

    def __getattr__(self, name: str) -> Any:
        """A column. Raises ``AttributeError`` when there is none of this name."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Transaction:
    """An open transaction; statements take named parameters, rows go in as one JSON parameter."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row]:
        """Run one statement; the rows that it returns."""
        statement, names = _statement(sql)
        found: list[Row] = await self._connection.fetch(
            statement, *[parameters[name] for name in names], record_class=Row
        )
        return found


class Database:
    """One process's pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def connect(cls, settings: DatabaseSettings, application: str, *, takes_first: bool = False) -> "Database":
        """A pool that connects when it is first used. ``application`` is the name shown in pg_stat_activity.

        ``takes_first``: its statements take the first rows of an index and never all of them, as a worker's do. Without
        it Postgres may collect every match of several indexes first (a bitmap scan), which lists need.
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
                "timeout": 5,
                "command_timeout": 30,
                "server_settings": {
                    "application_name": application,
                    "statement_timeout": "30000",
                    # A process that freezes in a transaction must not hold its locks longer than its lease.
                    "idle_in_transaction_session_timeout": "5000",
                    "jit": "off",
                    # Plans are kept, and tables grow: one made while a table was small would read all of it for ever.
                    "enable_seqscan": "off",
                    # Statistics of a quiet moment say that an index of what is open is empty; then the planner would
                    # read the whole of it for one turn, also the entries of turns that have long ended.
                    "enable_bitmapscan": "off" if takes_first else "on",
                    "timezone": "UTC",
                },
            },
        )
        return cls(engine)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One transaction, committed at its edge.

        Raises ``DatabaseUnavailableError`` (whether it was committed may then be unknown) or ``DataRefusedError``.
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
        """One statement, which is a transaction of its own."""
        with _translated():
            async with self._connection() as connection:
                return await Transaction(connection).run(sql, **parameters)

    async def is_well(self) -> bool:
        """Whether a transaction that asks for nothing succeeds now."""
        try:
            async with self.transaction() as tx:
                await tx.run("SELECT 1")
        except (DatabaseUnavailableError, DataRefusedError):
            return False
        return True

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection out of the pool. One that is not surely as good as new does not go back."""
        pooled = await self._from_pool()
        while pooled.driver_connection.is_closed():  # Postgres was started again since.
            pooled.invalidate()
            pooled = await self._from_pool()
        connection: asyncpg.Connection = pooled.driver_connection
        # Until it is known: what was asked last may be under way still, or be stopped just when the next one asks.
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
        except self._engine.dialect.dbapi.Error as error:  # Postgres turns us away.
            raise DatabaseUnavailableError(getattr(error, "sqlstate", None) or type(error).__name__) from error


_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")


@lru_cache(maxsize=256)
def _statement(sql: str) -> tuple[str, tuple[str, ...]]:
    """The statement with numbered parameters, and their names in order."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql), names


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state.startswith(_DATA_CLASSES):
            raise DataRefusedError(state) from error
        if state.startswith("42"):  # A mistake in our own SQL: neither the data nor the weather.
            raise
        raise DatabaseUnavailableError(state or type(error).__name__) from error
    except (*_BROKEN, PoolTimeoutError) as error:
        raise DatabaseUnavailableError(type(error).__name__) from error


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the one JSON parameter that a statement unpacks with ``json_to_recordset``."""
    try:
        return orjson.dumps(rows, default=str).decode()
    except TypeError:  # Half a surrogate pair, or a number beyond 64 bits: Postgres says what is wrong with it.
        return json.dumps(rows, default=str)


def few(parameter: str, columns: str) -> str:
    """The rows of a JSON parameter, to look something up by each; one of their ``columns`` is the tenant.

    The planner guesses a hundred, and would read a whole index instead whenever it takes that for small. The condition
    always holds and has it guess one.
    """
    return f"(SELECT * FROM json_to_recordset(CAST(:{parameter} AS json)) AS j({columns}) WHERE tenant || '' = tenant)"
