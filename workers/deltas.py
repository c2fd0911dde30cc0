"""Batches the pieces of one answer into events: the first piece at once, later ones with those of all other answers.

If a client waits for the whole answer, an attempt publishes nothing for its first two seconds.
"""

import asyncio

from orchestra.store.claims import Claimed
from workers.metrics import Metrics
from workers.publish import Publisher
from workers.timings import TIMINGS, Timings

# Per event. Fits into a record even if JSON needs six bytes for each character.
MAX_CHARACTERS = 64 * 1024


class Deltas:
    """The text of one attempt and the part of it that is not published yet. Also publishes the attempt's start."""

    def __init__(self, turn: Claimed, publisher: Publisher, metrics: Metrics, timings: Timings = TIMINGS) -> None:
        self._turn = turn
        self._publisher = publisher
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._pieces: list[str] = []
        self._waiting: list[str] = []
        self._sent = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gathered = False
        self._told = False
        self.length = 0
        """Length of the text so far, in code points."""
        if turn.caller_seconds:
            # A blocking client never reads deltas, and each one costs every gateway. Others may watch a long answer.
            self._timer = self._loop.call_later(timings.quiet, self._tell)
        else:
            self._gather()

    def add(self, piece: str) -> None:
        """Add a piece of text; an empty one is ignored."""
        if not piece:
            return
        if not self._pieces:
            self._metrics.first_delta_seconds.observe(self._loop.time() - self._began)
        self._pieces.append(piece)
        self._waiting.append(piece)
        self.length += len(piece)
        if self._timer is None:
            if not self._gathered:
                self._gather()
            if not self._sent:
                self._publisher.hand_over(self._turn)

    def close(self) -> None:
        """End the attempt. Its waiting text goes with the next round, unless its start was never published."""
        self._stop_timer()

    def drop(self) -> None:
        """Discard the waiting text, because another attempt replaces this one."""
        self._waiting.clear()
        self._stop_timer()
        self._publisher.hand_over(self._turn)

    def text(self) -> str:
        """The whole text so far."""
        return "".join(self._pieces)

    def _tell(self) -> None:
        """Begin to publish the attempt of a client that waits."""
        self._timer = None
        self._gather()
        self._publisher.hand_over(self._turn)

    def _gather(self) -> None:
        self._gathered = True
        self._publisher.gather(self._turn, self._flush)

    def _flush(self) -> None:
        """Publish the attempt's start, if that was not done yet, and the text that is waiting."""
        self._gathered = False
        if not self._told:
            self._told = True
            self._publisher.started(self._turn)
        if self._waiting:
            text = "".join(self._waiting)
            for start in range(0, len(text), MAX_CHARACTERS):
                self._publisher.delta(self._turn, self._sent + start, text[start : start + MAX_CHARACTERS])
            self._sent += len(text)
            self._waiting.clear()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
