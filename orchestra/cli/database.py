"""Work that verbs do directly in the database, and what they say when it cannot be done."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orchestra.cli.environment import environment_of_stack
from orchestra.cli.options import fail
from orchestra.settings import DatabaseSettings, load

if TYPE_CHECKING:
    from orchestra.store.database import Database

_T = TypeVar("_T")


def on_database(data: Path, name: str, work: "Callable[[Database], Awaitable[_T]]") -> _T:
    """What ``work`` returns, on the database of DATABASE_URL, else on that of the stack on this folder.

    ``name``: of its connections. Exits with the reason if there is no such database, or if it cannot be used.
    """
    import structlog

    from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError

    if not os.environ.get("DATABASE_URL"):
        os.environ |= environment_of_stack(data)
    if not os.environ.get("DATABASE_URL"):
        raise fail(f"DATABASE_URL is not set, and no stack runs on {data}")
    settings = load(DatabaseSettings)
    # The verb itself reports what it did.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def run() -> _T:
        database = Database.connect(settings, name)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except DatabaseUnavailableError as error:
        raise fail(f"DATABASE_URL: {error.told}") from None
    except DataRefusedError as error:
        raise fail(f"Postgres refused this (SQLSTATE {error})") from None
