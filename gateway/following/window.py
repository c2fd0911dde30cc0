"""The newest part of an answer that is being written: what every stream of the request is sent from."""

from collections import deque
from dataclasses import replace

from orchestra.transcript import Piece

MAX_WINDOW_BYTES = 64 * 1024
# More strings than this are joined: each costs more memory than its text.
_MAX_STRINGS = 64
# What a run costs beside its text.
_RUN_BYTES = 256
# In a window the head of a tool call is a string, too, so that all of it can be counted and cut alike.
_HEAD = "\0"
_TEXT = Piece("text")


class Window:
    """Units ``base`` to ``end`` of an answer; ``bytes`` is what they count for.

    It is a sequence of runs: pieces that continue the same text. Answers that are one text have one run.
    """

    def __init__(self) -> None:
        self.base = 0
        self.end = 0
        self.bytes = 0
        # The runs before the last one, each with its text.
        self._runs: list[tuple[Piece, str]] = []
        # The last run: where it starts, what it is, and its text in strings.
        self._start = 0
        self._run = _TEXT
        self._strings: deque[str] = deque()

    def add(self, at: int, text: str, run: Piece = _TEXT) -> bool:
        """Add the next text of a run, at unit ``at``. False if all of it was known already."""
        if at + len(text) <= self.end:
            return False
        if at > self.end:
            # A piece in between was lost: the window starts again here.
            self.clear(at)
        if run is not self._run and not run.joins(self._run):
            self._begin(run)
        new = text[self.end - at :]
        self._strings.append(new)
        self.end += len(new)
        self.bytes += _bytes(new)
        if self.bytes > MAX_WINDOW_BYTES:
            self._keep_newest_half()
        elif len(self._strings) > _MAX_STRINGS:
            self._strings = deque(["".join(self._strings)])
        return True

    def add_piece(self, at: int, piece: Piece) -> bool:
        """Add a piece, at this unit. False if all of it was known already."""
        if piece.kind == "tool_call":
            return self.add(at, _HEAD, piece)
        return self.add(at, piece.text, replace(piece, text=""))

    def append(self, piece: Piece) -> None:
        """Add a piece at the end."""
        self.add_piece(self.end, piece)

    def text_since(self, position: int) -> str | None:
        """The answer from this unit on, if that is known to be one text: what most streams need, for little."""
        return self._last(position) if position >= self._start and self._run is _TEXT else None

    def since(self, position: int) -> list[Piece] | None:
        """The answer from this unit on, in as few pieces as possible. None if the window begins later."""
        if position < self.base:
            return None
        last = self._last(max(position, self._start))
        found = [_piece(self._run, last)] if last else []
        end = self._start
        for run, text in reversed(self._runs):
            if end <= position:
                break
            end -= len(text)
            found.append(_piece(run, text[max(position - end, 0) :]))
        found.reverse()
        return found

    def clear(self, position: int) -> None:
        """Drop everything; the next piece is at this unit."""
        self._runs.clear()
        self._strings.clear()
        self.base = self._start = self.end = position
        self._run = _TEXT
        self.bytes = 0

    def _last(self, position: int) -> str:
        """The text of the last run from this unit on."""
        if self._strings and position == self.end - len(newest := self._strings[-1]):
            return newest  # The usual case: the stream has all but the newest string.
        wanted: list[str] = []
        start = self.end
        for text in reversed(self._strings):
            if start <= position:
                break
            start -= len(text)
            wanted.append(text)
        return "".join(reversed(wanted))[position - start :] if wanted else ""

    def _begin(self, run: Piece) -> None:
        if text := "".join(self._strings):
            self._runs.append((self._run, text))
        self._strings.clear()
        self._run, self._start = run, self.end
        self.bytes += _RUN_BYTES + len(run.call_id) + len(run.name)

    def _keep_newest_half(self) -> None:
        half, end = self.end - (self.end - self.base) // 2, self.end
        kept = self.since(half) if self.bytes <= 2 * MAX_WINDOW_BYTES else None
        self.clear(half if kept else end)
        for piece in kept or ():
            self.append(piece)


def _piece(run: Piece, text: str) -> Piece:
    return run if run.kind == "tool_call" else Piece(run.kind, text, run.index)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
