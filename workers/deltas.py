"""Batches the pieces of one answer into events: the first piece at once, later ones with those of all other answers.

If a client waits for the whole answer without reading it, an attempt publishes nothing for its first two seconds.
"""

import asyncio
from dataclasses import replace
from typing import Any

from orchestra.store.claims import Claimed
from orchestra.transcript import Piece, as_piece, items_of, joined
from workers.metrics import Metrics
from workers.publish import Publisher
from workers.timings import TIMINGS, Timings

# Per event. Fits into a record even if JSON needs six bytes for each character.
MAX_CHARACTERS = 64 * 1024


class Deltas:
    """The answer of one attempt and the part of it that is not published yet. Also publishes the attempt's start.

    Most answers are only text: their pieces are joined without a look at each.
    """

    def __init__(self, turn: Claimed, publisher: Publisher, metrics: Metrics, timings: Timings = TIMINGS) -> None:
        self._turn = turn
        self._publisher = publisher
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        # A text as a ``str``, anything else as a ``Piece``.
        self._pieces: list[Any] = []
        self._waiting: list[Any] = []
        # Counts of units: published, published and not text, not text.
        self._sent = self._sent_others = self._others = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gathered = False
        self._told = False
        self.length = 0
        """Length of the answer so far, in units."""
        if turn.caller_seconds and not turn.body.get("stream"):
            # A blocking client never reads deltas, and each one costs every gateway. Others may watch a long answer.
            self._timer = self._loop.call_later(timings.quiet, self._tell)
        else:
            self._gather()

    @property
    def text_length(self) -> int:
        """Length of the text so far, in code points."""
        return self.length - self._others

    def add(self, piece: str | Piece) -> None:
        """Add a piece; a ``str`` is text. An empty one is ignored."""
        if isinstance(piece, str):
            length = len(piece)
        else:
            length = piece.units
            self._others += length
        if not length:
            return
        if not self._pieces:
            self._metrics.first_delta_seconds.observe(self._loop.time() - self._began)
        self._pieces.append(piece)
        self._waiting.append(piece)
        self.length += length
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
        pieces = [piece for piece in self._pieces if isinstance(piece, str)] if self._others else self._pieces
        return "".join(pieces)

    def output(self) -> list[dict[str, Any]] | None:
        """The items of the answer so far; None if it is one text."""
        return items_of(map(as_piece, self._pieces)) if self._others else None

    def _tell(self) -> None:
        """Begin to publish the attempt of a client that waits."""
        self._timer = None
        self._gather()
        self._publisher.hand_over(self._turn)

    def _gather(self) -> None:
        self._gathered = True
        self._publisher.gather(self._turn, self._flush)

    def _flush(self) -> None:
        """Publish the attempt's start, if that was not done yet, and the pieces that are waiting."""
        self._gathered = False
        if not self._told:
            self._told = True
            self._publisher.started(self._turn)
        if self._waiting:
            if self._others:
                self._publish_pieces()
            else:
                text = "".join(self._waiting)
                for start in range(0, len(text), MAX_CHARACTERS):
                    self._publisher.delta(self._turn, self._sent + start, text[start : start + MAX_CHARACTERS])
                self._sent += len(text)
            self._waiting.clear()

    def _publish_pieces(self) -> None:
        for piece in joined(map(as_piece, self._waiting)):
            for part in _parts(piece):
                if part.kind == "text":
                    position = self._sent if self._sent_others else None
                    self._publisher.delta(self._turn, self._sent - self._sent_others, part.text, position)
                else:
                    self._publisher.piece(self._turn, self._sent, part)
                    self._sent_others += part.units
                self._sent += part.units

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None


def _parts(piece: Piece) -> list[Piece]:
    """The piece in parts that fit into an event."""
    if piece.kind == "tool_call":
        return [piece]
    starts = range(0, len(piece.text), MAX_CHARACTERS)
    return [replace(piece, text=piece.text[start : start + MAX_CHARACTERS]) for start in starts]
