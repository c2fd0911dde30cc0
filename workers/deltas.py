"""Gathers the pieces of one answer into events: the first at once, then what came within 15 ms as one.

While somebody waits for the whole answer, an attempt says nothing of itself for its first two seconds.
"""

import asyncio

from orchestra.store.claims import Claimed
from workers.metrics import Metrics
from workers.publish import Publisher
from workers.timings import TIMINGS, Timings

# In one event: fits a record, even where JSON needs six bytes for each.
MOST_CHARACTERS = 64 * 1024


class Deltas:
    """The text of one attempt so far, and what of it is still to be passed on; it also says that the attempt began."""

    def __init__(self, turn: Claimed, publisher: Publisher, metrics: Metrics, timings: Timings = TIMINGS) -> None:
        self._turn = turn
        self._publisher = publisher
        self._metrics = metrics
        self._gather = timings.gather
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._pieces: list[str] = []
        self._waiting: list[str] = []
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._told = False
        self.length = 0
        """Code points so far."""
        if turn.caller_seconds:
            # A client that waits reads no pieces, and events cost every gateway; but others may watch a long answer.
            self._timer = self._loop.call_later(timings.quiet, self.flush)
        else:
            self.flush()

    def add(self, piece: str) -> None:
        """Take in a piece."""
        if not piece:
            return
        if not self._pieces:
            self._metrics.first_delta_seconds.observe(self._loop.time() - self._began)
        self._pieces.append(piece)
        self._waiting.append(piece)
        self.length += len(piece)
        if self._told and self._sent == 0:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._gather, self.flush)

    def flush(self) -> None:
        """Pass on what is waiting."""
        self._stop_timer()
        if not self._told:
            self._told = True
            self._publisher.started(self._turn)
        if self._waiting:
            text = "".join(self._waiting)
            for start in range(0, len(text), MOST_CHARACTERS):
                self._publisher.delta(self._turn, self._sent + start, text[start : start + MOST_CHARACTERS])
            self._sent += len(text)
            self._waiting.clear()

    def close(self) -> None:
        """The attempt is over: pass on what is waiting, unless nobody heard of it so far."""
        if self._told:
            self.flush()
        else:
            self._stop_timer()

    def drop(self) -> None:
        """Forget what is waiting: another attempt takes the place of this one."""
        self._waiting.clear()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._pieces)
