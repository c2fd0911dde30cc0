"""Polls Postgres for waits and streams, so that none hangs because an event was lost."""

import asyncio
from contextlib import suppress

import structlog

from gateway.following.events import Hub
from orchestra.store import dead_letters, next_turns, requests
from orchestra.store.database import Database, DatabaseUnavailableError
from orchestra.store.turns import RequestRef
from schemas.errors import ErrorCode

_EVERY_SECONDS = 1.0
_GATHER_SECONDS = 0.02

log = structlog.get_logger()


class Watch:
    """Updates the hub with the rows of the watched requests."""

    def __init__(self, hub: Hub, database: Database) -> None:
        self._hub = hub
        self._database = database

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            await self._until_due()
            self._hub.forget_old()
            try:
                await self.look()
            except DatabaseUnavailableError:
                continue  # The health check reports it.
            except Exception as error:
                log.error("watch_failed", exc_info=error)

    async def look(self) -> None:
        """Look up all requests and conversations that are due, once. Raises ``DatabaseUnavailableError``."""
        due = self._hub.due()
        found = await requests.find(self._database, due)
        for ref, stored in found.items():
            self._hub.learn(ref, stored)
        missing = [ref for ref in due if ref not in found]
        if missing:
            await self._fail_the_hopeless(missing)
        self._hub.looked(due)
        await self._look_for_turns()

    async def _look_for_turns(self) -> None:
        """Look for the next turns of all conversations that are due, once."""
        due = self._hub.turns.due()
        found = await next_turns.next_turns(self._database, [(place.ref, place.after) for place in due])
        for place, following in zip(due, found, strict=True):
            place.learn(following.turns, deleted=following.deleted)

    async def _until_due(self) -> None:
        """Wait a second, or until there is a hint to follow at once, together with those right behind it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EVERY_SECONDS):
                await self._hub.hinted.wait()
                await asyncio.sleep(_GATHER_SECONDS)
        self._hub.hinted.clear()

    async def _fail_the_hopeless(self, missing: list[RequestRef]) -> None:
        """Fail the requests that will never have a row: deleted ones and dead letters."""
        for ref in await requests.deleted_among(self._database, missing):
            self._hub.fail(ref, ErrorCode.CONVERSATION_DELETED, "the conversation is deleted")
        for ref, (code, detail) in (await dead_letters.reasons_of(self._database, missing)).items():
            self._hub.fail(ref, code, detail)
