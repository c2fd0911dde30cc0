"""What operators have paused, as this worker last read it. Turns of it are not claimed; what runs goes on."""

from collections.abc import Callable
from functools import partial

from orchestra.loops import regularly
from orchestra.store import pauses
from orchestra.store.claims import NOTHING_PAUSED
from orchestra.store.database import Database, DatabaseUnavailableError, DataRefusedError
from workers.timings import TIMINGS, Timings


class Pauses:
    """Reads what is paused, and calls ``wake`` when it has changed. While Postgres is away, the last reading holds."""

    def __init__(self, wake: Callable[[], None] = lambda: None, timings: Timings = TIMINGS) -> None:
        self.now = NOTHING_PAUSED
        self._wake = wake
        self._timings = timings

    async def run(self, database: Database) -> None:
        """Read regularly until cancelled."""
        look = partial(self.look, database)
        expected = (DatabaseUnavailableError, DataRefusedError)
        await regularly(self._timings.look_for_pauses, look, "pauses_unknown", expected=expected)

    async def look(self, database: Database) -> None:
        """Read once. Raises ``DatabaseUnavailableError``."""
        before, self.now = self.now, await pauses.in_force(database)
        if self.now != before:
            self._wake()
