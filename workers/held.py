"""Turns whose model is held back: an event says why they wait; a blocking client that cannot wait gets the error."""

from collections.abc import Callable

import structlog

from orchestra.loops import regularly
from orchestra.store import endings
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from workers.publish import Publisher
from workers.retry import PACES
from workers.throttle import Throttle
from workers.timings import TIMINGS, Timings

MAX_AT_ONCE = 200
# A look also reads the turns that have the reason already. To take at most about a tenth of the time, however many
# there are, it is followed by a pause of this many times its duration.
_REST = 10.0

log = structlog.get_logger()


class HeldBack:
    """Handles turns that are not claimed because this worker holds their model back. It calls no model.

    ``wake`` is called after endings: the next turns of those conversations may run.
    """

    def __init__(
        self,
        database: Database,
        throttle: Throttle,
        publisher: Publisher,
        wake: Callable[[], None],
        timings: Timings = TIMINGS,
    ) -> None:
        self._database = database
        self._throttle = throttle
        self._publisher = publisher
        self._wake = wake
        self._timings = timings

    async def run(self) -> None:
        """Look regularly while models refuse calls, until cancelled."""
        await regularly(
            self._timings.look_at_held,
            self.look,
            "held_back_not_told",
            expected=(DatabaseUnavailableError, DataRefusedError),
            when=self._throttle.refusing,
            rest=_REST,
        )

    async def look(self) -> None:
        """Look once. Raises ``DatabaseUnavailableError``."""
        held = self._throttle.held()
        if not held:
            return
        hopeless = {each.model for each in held if each.seconds > PACES[each.code].patience}
        done = await endings.hold_back(self._database, held, hopeless, MAX_AT_ONCE)
        for turn in done.told:
            self._publisher.restart(turn, turn.code, turn.detail)
        self._publisher.announce(done.announcements)
        if done.refused:
            log.warning("requests_failed", count=done.refused, reason="held_back")
            self._wake()
