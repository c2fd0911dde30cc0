"""Removes blobs of files: those of deleted and expired files, and those that no row names."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog

from orchestra.files import marker
from orchestra.files.home import FileHome, FilesUnavailableError
from orchestra.store import files
from orchestra.store.database import Database

MAX_AT_ONCE = 500
# An upload takes less, so a blob of this age gets no row any more.
_ORPHANED_AFTER = timedelta(hours=24)

log = structlog.get_logger()


class FileSweep:
    """Sweeps a home of files. While it is away, nothing is lost: the rows stay, and the next sweep tries again."""

    def __init__(self, database: Database, home: FileHome, secrets: Sequence[bytes], every: float) -> None:
        """``every``: seconds between two walks through all blobs, by whichever worker comes first."""
        self._database = database
        self._home = home
        self._secrets = secrets
        self._every = every
        self._away = False

    async def remove_gone(self) -> None:
        """Remove deleted and expired files."""
        await files.renew(self._database)
        async with self._unless_away():
            while blobs := await files.gone(self._database, MAX_AT_ONCE):
                await self._home.delete(blobs)
                await files.forget(self._database, blobs)

    async def remove_orphans(self) -> None:
        """Remove blobs without a row that are older than 24 hours, if a walk is due."""
        async with self._unless_away():
            if not await files.take_walk(self._database, self._every):
                return
            await self._home.check()
            # In another deployment's home every blob would be an orphan.
            if not await marker.belongs(self._home, self._secrets):
                log.warning("files_not_swept", reason="FILES_URL has the marker of another deployment")
                return
            async for batch in self._home.blobs():
                old = [blob.key for blob in batch if datetime.now(UTC) - blob.changed_at > _ORPHANED_AFTER]
                for first in range(0, len(old), MAX_AT_ONCE):
                    await self._remove_unknown(old[first : first + MAX_AT_ONCE])

    async def _remove_unknown(self, keys: Sequence[str]) -> None:
        if orphans := await files.unknown(self._database, keys):
            await self._home.delete(orphans)
            log.info("orphaned_blobs_removed", count=len(orphans))

    @asynccontextmanager
    async def _unless_away(self) -> AsyncIterator[None]:
        try:
            yield
        except FilesUnavailableError as error:
            if not self._away:
                log.warning("files_unavailable", reason=str(error))
            self._away = True
        else:
            if self._away:
                log.info("files_available")
            self._away = False
