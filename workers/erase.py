"""Deletes what erased owners have, until nothing is found any more. Any worker goes on where another one stopped."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from orchestra.kafka.clients import KAFKA_ERRORS
from orchestra.signing import OwnerHasher
from orchestra.store import erasing, erasures
from orchestra.store.database import Database
from orchestra.store.erasing import Step
from orchestra.store.erasures import StoredErasure, Work, user_id_of
from orchestra.store.turns import Announcement, RequestRef
from schemas.erasures import Erased
from schemas.topics import ERASURES
from workers.timings import TIMINGS, Timings

log = structlog.get_logger()


class Eraser:
    """Works on erasures that are due.

    ``record``: writes records of erasures to Kafka, and returns when Kafka has them. ``announce``: publishes
    replies. ``stop``: ends calls to the model of cancelled requests.
    """

    def __init__(
        self,
        database: Database,
        secrets: list[bytes],
        *,
        record: Callable[[Sequence[Erased]], Awaitable[None]],
        announce: Callable[[Sequence[Announcement]], None],
        stop: Callable[[Sequence[RequestRef]], None],
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._hasher = OwnerHasher(secrets)
        self._record = record
        self._announce = announce
        self._stop = stop
        self._timings = timings

    async def erase(self) -> None:
        """Walk once through everything for each erasure that is due. Raises ``DatabaseUnavailableError``.

        While Kafka does not take its record, an erasure waits, a minute at a time.
        """
        while work := await erasures.take(self._database, self._timings.erasure_settles):
            try:
                await self._work(work)
            except KAFKA_ERRORS as error:
                log.warning("erasure_waits", error=type(error).__name__, topic=ERASURES.name)

    async def _work(self, work: Work) -> None:
        erasure = work.erasure
        if not erasure.recorded:
            # First, so that what is deleted here stays deleted when an older state of Postgres is restored.
            await self._record([erasure.record])
            await erasures.note_recorded(self._database, erasure.id)
        names = await erasing.names_of(self._database, erasure, self._hasher)
        found = 0
        for name in names:
            found += await self._walk(erasure, name)
        # Nothing may have been found because it was written only after the walk had passed.
        if found or not work.settled:
            await erasures.again(self._database, erasure.id, self._timings.erase_again)
        else:
            # The id of a user is not given out twice. Any other name may be used again from now on.
            until = erasure.refuses_until
            if until is None and not (names and all(map(user_id_of, names))):
                until = datetime.now(UTC)
                await self._record([replace(erasure, refuses_until=until).record])
            await erasing.finish(self._database, erasure, names, until)
            log.info("owner_erased", tenant=erasure.tenant, count=sum(erasure.erased.values()))

    async def _walk(self, erasure: StoredErasure, owner: str) -> int:
        """Delete what is found of an owner in one walk; how much that was, and what is still on its way."""
        found = 0
        async for conversations in erasing.conversations(self._database, erasure, owner):
            found += len(conversations)
            while (await self._done(erasing.erase_conversations(self._database, erasure.id, conversations))).left:
                pass
        async for requests in erasing.requests(self._database, erasure, owner):
            found += len(requests)
            while (await self._done(erasing.erase_requests(self._database, erasure.id, requests))).left:
                pass
        found += await erasing.erase_files(self._database, erasure, owner)
        found += await erasing.erase_letters(self._database, erasure, owner)
        found += await erasing.erase_traces(self._database, erasure.tenant, owner)
        return found + await erasing.any_file(self._database, erasure, owner)

    async def _done(self, step: Awaitable[Step]) -> Step:
        done = await step
        if done.cancelled:
            self._announce(done.cancelled.announcements)
            self._stop(done.cancelled.running)
        return done
