"""Promises of orchestra/store/tables.py: it describes the tables that the migrations make, and no others."""

from typing import Any

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import create_async_engine

from orchestra.settings import DatabaseSettings
from orchestra.store.tables import METADATA
from tests.support.stack import Stack

_POSTGRES = postgresql.dialect()  # type: ignore[no-untyped-call]
_OF_DBMATE = "schema_migrations"


def described(tables: MetaData) -> dict[str, dict[str, Any]]:
    """Of each table its columns, primary key and foreign keys, in words that compare."""
    return {table.name: _described(table) for table in tables.sorted_tables if table.name != _OF_DBMATE}


def _described(table: Table) -> dict[str, Any]:
    return {
        "columns": {
            column.name: f"{column.type.compile(_POSTGRES)}{'' if column.nullable else ' NOT NULL'}"
            for column in table.columns
        },
        "primary key": [column.name for column in table.primary_key.columns],
        "foreign keys": sorted(
            (key.column_keys, [each.target_fullname for each in key.elements], key.ondelete)
            for key in table.foreign_key_constraints
        ),
    }


async def migrated(stack: Stack) -> MetaData:
    """The tables of a new database with all migrations, as Postgres describes them."""
    settings = DatabaseSettings.model_validate({"database_url": await stack.fresh_database()})
    engine = create_async_engine(settings.driver_url)
    found = MetaData()
    async with engine.connect() as connection:
        await connection.run_sync(found.reflect)
    await engine.dispose()
    return found


async def test_the_tables_are_those_of_the_migrations(stack: Stack) -> None:
    """Each table of either is one of the other, with the same columns, types, nullability and keys."""
    assert described(await migrated(stack)) == described(METADATA)
