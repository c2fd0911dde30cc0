"""The pool of connections, transactions, and the two ways in which Postgres can say no."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from orchestra.settings import DatabaseSettings

# Classes of SQLSTATE that blame the data: 22 data exception, 23 integrity, 54 program limit exceeded.
_DATA_CLASSES = ("22", "23", "54")


class DatabaseUnavailableError(Exception):
    """Postgres cannot be reached, is restarting, or has no connection left. Trying again may help."""


class DataRefusedError(Exception):
    """Postgres refuses the data of this statement. Trying the same again does not help."""


class Transaction:
    """An open transaction; statements take named parameters, rows go in as one JSON parameter."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Run one statement; the rows that it returns."""
        result = await self._connection.execute(_statement(sql), parameters)
        return result.fetchall() if result.returns_rows else ()


class Database:
    """One process's pool."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    def connect(cls, settings: DatabaseSettings, application: str) -> "Database":
        """A pool that connects when it is first used. ``application`` is the name shown in pg_stat_activity."""
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
            async with self._engine.begin() as connection:
                yield Transaction(connection)

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row[Any]]:
        """One statement in a transaction of its own."""
        async with self.transaction() as tx:
            return await tx.run(sql, **parameters)

    async def close(self) -> None:
        """Close every connection."""
        await self._engine.dispose()


@lru_cache(maxsize=256)
def _statement(sql: str) -> TextClause:
    return text(sql)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(_DATA_CLASSES):
            raise DataRefusedError(state) from error
        if state.startswith("42"):  # A mistake in our own SQL: neither the data nor the weather.
            raise
        raise DatabaseUnavailableError(state or type(error.orig).__name__) from error
    except (PoolTimeoutError, OSError, TimeoutError) as error:
        raise DatabaseUnavailableError(type(error).__name__) from error


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as the one JSON parameter that a statement unpacks with ``json_to_recordset``."""
    return json.dumps(rows, default=str)
