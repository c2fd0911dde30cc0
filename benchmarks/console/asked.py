"""What a call asks of Postgres: its statements, what they take by themselves, and how many rows they read."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.console.call import Call
from benchmarks.console.rows import rows_read
from gateway.app import create_app
from gateway.settings import GatewaySettings
from orchestra.devstack.ports import HOST
from orchestra.store.database import IN_ORDER, Database, Row, Transaction, numbered, server_settings


@dataclass(frozen=True)
class Statement:
    """SQL with named parameters. ``in_order``: see ``Database.run_in_order``."""

    sql: str
    values: Mapping[str, Any]
    in_order: bool = False


class _Noted(Database):
    """Notes every statement before it runs."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.statements: list[Statement] = []

    async def run(self, sql: str, **parameters: Any) -> Sequence[Row]:
        self.statements.append(Statement(sql, parameters))
        return await super().run(sql, **parameters)

    async def run_in_order(self, sql: str, **parameters: Any) -> Sequence[Row]:
        self.statements.append(Statement(sql, parameters, in_order=True))
        return await super().run_in_order(sql, **parameters)


class Asked:
    """A gateway in this process that does nothing but answer calls, and connections of their own for its statements."""

    def __init__(
        self, database: _Noted, client: httpx.AsyncClient, keys: Mapping[str, str],
        any_order: asyncpg.Connection, in_order: asyncpg.Connection,
    ) -> None:  # fmt: skip
        self._database = database
        self._client = client
        self._keys = keys
        self._connections = {False: any_order, True: in_order}

    async def statements(self, call: Call) -> list[Statement]:
        """The statements of a call. Raises ``httpx.HTTPStatusError``."""
        self._database.statements = []
        if call.of_postgres:
            response = await self._client.get(call.path, params=call.query, headers=call.headers(self._keys))
            response.raise_for_status()
        return self._database.statements

    async def run(self, statements: Sequence[Statement]) -> None:
        """Run the statements, one after another."""
        for each in statements:
            await Transaction(self._connections[each.in_order]).run(each.sql, **each.values)

    async def rows(self, statements: Sequence[Statement]) -> int:
        """How many rows of tables and indexes the statements read, by the worse of the plans that Postgres may keep."""
        return round(sum([await self._rows(each) for each in statements]))

    async def _rows(self, statement: Statement) -> float:
        connection, read = self._connections[statement.in_order], []
        sql, names = numbered(statement.sql)
        given = ", ".join(_literal(statement.values[name]) for name in names)
        await connection.execute(f"PREPARE asked AS {sql}")
        for mode in ("force_custom_plan", "force_generic_plan"):
            await connection.execute(f"SET plan_cache_mode = {mode}")
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked{given and f'({given})'}")
            read.append(rows_read(json.loads(plan)[0]["Plan"]))
        await connection.execute("DEALLOCATE asked; RESET plan_cache_mode")
        return max(read)


@asynccontextmanager
async def asking(url: str, keys: Mapping[str, str]) -> AsyncIterator[Asked]:
    """Ask this database as a gateway in open mode would. ``keys``: those of users, by their names."""
    settings = GatewaySettings.model_validate({"database_url": url, "orchestra_secret": "s" * 32})
    database = _Noted.connect(settings, "benchmarks")
    app = create_app(settings, database=database)
    transport = httpx.ASGITransport(app)
    try:
        async with AsyncExitStack() as undo:
            client = await undo.enter_async_context(httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}"))
            connections = []
            for off in ((), IN_ORDER):
                session = server_settings("benchmarks", takes_first=False) | dict.fromkeys(off, "off")
                connections.append(await asyncpg.connect(url, server_settings=session))
                undo.push_async_callback(connections[-1].close)
            yield Asked(database, client, keys, *connections)
    finally:
        await database.close()


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case list():
            return f"'{{{','.join(map(str, value))}}}'"
    return "'" + str(value).replace("'", "''") + "'"
