"""Gathers the pieces of one answer into events: the first at once, then what came within 15 ms as one."""

import asyncio

from orchestra.store.claims import Claimed
from workers.metrics import Metrics
from workers.publish import Publisher

GATHER_SECONDS = 0.015
# In one event: fits a record, even where JSON needs six bytes for each.
MOST_CHARACTERS = 64 * 1024


class Deltas:
    """The text of one attempt so far, and what of it is still to be passed on."""

    def __init__(self, turn: Claimed, publisher: Publisher, metrics: Metrics) -> None:
        self._turn = turn
        self._publisher = publisher
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._pieces: list[str] = []
        self._waiting: list[str] = []
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self.length = 0
        """Code points so far."""

    def add(self, piece: str) -> None:
        """Take in a piece."""
        if not piece:
            return
        if not self._pieces:
            self._metrics.first_delta_seconds.observe(self._loop.time() - self._began)
        self._pieces.append(piece)
        self._waiting.append(piece)
        self.length += len(piece)
        if self._sent == 0:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Pass on what is waiting."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            text = "".join(self._waiting)
            for start in range(0, len(text), MOST_CHARACTERS):
                self._publisher.delta(self._turn, self._sent + start, text[start : start + MOST_CHARACTERS])
            self._sent += len(text)
            self._waiting.clear()

    def drop(self) -> None:
        """Forget what is waiting: another attempt takes the place of this one."""
        self._waiting.clear()
        self.flush()

    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._pieces)
