"""Parses event streams (server-sent events); the only such parser, used by all parts.

Follows https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

import re
from collections.abc import Callable
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_COMMENTS = (b":", _BOM + b":")
# A comment is a line with an empty field name.
_FIELDS = frozenset((b"", b"data", b"event", b"id", b"retry"))
_MILLISECONDS = re.compile(rb"[0-9]{1,18}")


class EventTooLongError(ValueError):
    """A line or an event exceeds the reader's limit."""


class SseEvent(NamedTuple):
    """One event. ``data``: its ``data`` lines joined with line feeds; ``id``: the last id in the stream."""

    name: str
    data: str
    id: str


class EventStream:
    """One stream. Feed it bytes as they arrive, split anywhere; the work is linear in their number.

    It buffers at most ``max_bytes`` of an unfinished event, and nothing of a comment. ``on_other_line`` is called with
    each line that is neither a comment nor a field of the standard, which says to ignore them. ``retry`` is the
    reconnection time in milliseconds that the server asked for; None until it has sent one.
    """

    def __init__(self, max_bytes: int = 1024 * 1024, on_other_line: Callable[[bytes], None] = lambda _: None) -> None:
        self.retry: int | None = None
        self._max_bytes = max_bytes
        self._on_other_line = on_other_line
        self._begun = self._after_cr = False
        self._between = True
        self._line = bytearray()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that these bytes complete; possibly none. Raises ``EventTooLongError``."""
        if self._between and chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and len(chunk) <= self._max_bytes:
            # Nearly all output of a model looks like this: whole events with one line of data each.
            found = chunk[6:-2].split(b"\n\ndata: ")
            if chunk.count(b"\n") == 2 * len(found) and b"\r" not in chunk:
                self._begun = True
                return [SseEvent("message", data.decode("utf-8", "replace"), self._id) for data in found]
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # The second half of a CRLF, whose first half ended the line.
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        if self._line and lines:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        events = []
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                events.append(self._finish())
            else:
                self._begun, self._name = True, b""
        if rest:
            self._line += rest
            if self._line.startswith(_COMMENTS):
                del self._line[len(_COMMENTS[-1]) :]
            self._check(len(self._line))
        self._between = not (self._line or self._data or self._name or self._after_cr)
        return events

    def rest(self) -> SseEvent | None:
        """At the end of a stream, the event that no empty line completed.

        The standard discards it. A caller that can tell by other means that the stream is whole may use it.
        """
        if self._line:
            self._take(bytes(self._line))
            self._line.clear()
        return self._finish() if self._data else None

    def _take(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field:
            self._check(len(line))
        if field == b"data":
            self._size += len(line)
            self._check(self._size)
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif field == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and _MILLISECONDS.fullmatch(value):
            self.retry = int(value)
        elif field not in _FIELDS:
            self._on_other_line(line)

    def _finish(self) -> SseEvent:
        name, data = self._name, b"\n".join(self._data)
        self._name, self._size = b"", 0
        self._data.clear()
        return SseEvent(name.decode("utf-8", "replace") or "message", data.decode("utf-8", "replace"), self._id)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise EventTooLongError("an event of the stream is longer than it may be")
