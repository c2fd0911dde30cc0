"""A Postgres for the guard, running while it measures."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from faults.cluster import free_ports
from orchestra.cli.migrate import dbmate
from orchestra.devstack.child import Child
from orchestra.devstack.postgres import postgres_part


@asynccontextmanager
async def own_postgres() -> AsyncIterator[str]:
    """The URL of an empty database with all migrations. Raises ``PartFailedError``."""
    with tempfile.TemporaryDirectory(prefix="orchestra-guard-") as made:
        folder = Path(made)
        folder.chmod(0o711)  # noqa: ASYNC240  one local call: as root, Postgres is another user
        part, url = await postgres_part(folder / "postgres", free_ports(1)[0], lambda _: None)
        postgres = Child(part, folder / "postgres.log")
        await postgres.start()
        try:
            migrated = await asyncio.to_thread(dbmate, "up", url=url)
            assert migrated.returncode == 0, migrated.stdout + migrated.stderr
            yield url
        finally:
            await postgres.stop()
