"""One look into Postgres a second for all waits and streams, so that nothing hangs on a lost event."""

import asyncio

import structlog

from gateway.events import Hub
from orchestra.store import dead_letters, requests
from orchestra.store.database import Database, DatabaseUnavailableError
from schemas.errors import ErrorCode

_EVERY_SECONDS = 1.0
_OLDER_THAN_SECONDS = 1.0

log = structlog.get_logger()


class Watch:
    """Tells the hub what Postgres says of the requests that are watched."""

    def __init__(self, hub: Hub, database: Database) -> None:
        self._hub = hub
        self._database = database

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            self._hub.forget_old()
            try:
                await self.look()
            except DatabaseUnavailableError:
                continue  # The health check says so.
            except Exception as error:
                log.error("watch_failed", exc_info=error)

    async def look(self, older_than: float = _OLDER_THAN_SECONDS) -> None:
        """Look once. Raises ``DatabaseUnavailableError``."""
        watched = self._hub.watched(older_than)
        found = await requests.find(self._database, watched)
        for ref, stored in found.items():
            self._hub.learn(ref, stored)
        missing = [ref for ref in watched if ref not in found]
        if not missing:
            return
        for ref in await requests.deleted_among(self._database, missing):
            self._hub.fail(ref, ErrorCode.CONVERSATION_DELETED, "the conversation is deleted")
        for ref, (code, detail) in (await dead_letters.reasons_of(self._database, missing)).items():
            self._hub.fail(ref, code, detail)
