"""How much of an answer a stream in OpenAI's form has told.

Its API has no event that takes text back. If an attempt fails after its text was sent, the stream therefore ends.
"""

from http import HTTPStatus

from gateway.following.live import Ending, LiveRequest
from gateway.openai.errors import DoorError
from orchestra.transcript import Piece, after, units_of
from schemas.errors import ErrorCode

_DETAIL = "an attempt failed after a part of its answer was sent, which is void; the request goes on with the next one"
RESTARTED = DoorError("answer_restarted", _DETAIL, status=HTTPStatus.FAILED_DEPENDENCY, code=ErrorCode.WORKER_LOST)
"""The error with which a stream ends after what it sent became void."""
DONE = b"data: [DONE]\n\n"
"""The end of a stream whose answer has ended."""


class AnswerCursor:
    """Where a stream is in an answer: the attempt, and the units of it that were sent (`orchestra.transcript`).

    ``restarted``: what was sent is void. Unsigned events, which another program may have written, are never sent.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.units = 0
        self.restarted = False
        self._epoch: int | None = None

    def follows(self, live: LiveRequest) -> bool:
        """Whether there may be more to send, from ``units`` on. False too if this replica is behind the stream."""
        if live.epoch == self._epoch:
            return True
        if not live.signed or live.attempt < max(self.attempt, 1):
            return False
        if self.units and (live.attempt != self.attempt or self._epoch is not None):
            self.restarted = True
            return False
        self.attempt, self._epoch = live.attempt, live.epoch
        return True

    def pieces(self, live: LiveRequest) -> list[Piece]:
        """The pieces that were not sent yet, after ``follows``; none if the window begins later."""
        pieces = live.window.since(self.units) or []
        self.units += units_of(pieces)
        return pieces

    def rest(self, ending: Ending) -> list[Piece]:
        """The pieces of the whole answer that were not sent yet; none if what was sent is void."""
        pieces = ending.pieces
        if self.units and (ending.attempt != self.attempt or self.units > units_of(pieces)):
            self.restarted = True
            return []
        self.attempt = ending.attempt
        return after(pieces, self.units)
