"""The bytes of a provider's answer → its events. Some servers send one JSON document instead of a stream."""

import json
from typing import Any

import orjson

from llm_service.providers.error_document import is_error
from llm_service.providers.refusals import stated
from orchestra.http.event_stream import EventStream, EventTooLongError, SseEvent
from schemas.errors import ErrorCode, OrchestraError

MAX_EVENT_BYTES = 1024 * 1024
# A token of text has some 250 bytes of JSON around it. In a document, JSON needs at most six bytes per byte of text.
_MAX_WIRE_FACTOR, _MAX_JSON_FACTOR = 512, 6
_BOM = b"\xef\xbb\xbf"
_LONGEST_BLANK = 1024


class Framing:
    """One answer, of at most ``reply_bytes`` of text. Feed it all bytes, then `close` it."""

    def __init__(self, reply_bytes: int, event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = reply_bytes * _MAX_WIRE_FACTOR
        self._max_document_bytes = max(reply_bytes * _MAX_JSON_FACTOR, event_bytes)
        self._received = 0
        self._events = EventStream(event_bytes, _raise_error)
        self._streams = False
        self._blank = b""  # All bytes so far, until they show whether this is a stream or a document.
        self._document: bytearray | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that these bytes complete, perhaps none. Raises ``bad_upstream`` if the answer is too long."""
        self._received += len(chunk)
        if self._received > self._max_bytes:
            raise too_long()
        if not self._streams and not (chunk := self._begin(chunk)):
            return []
        try:
            return self._events.feed(chunk)
        except EventTooLongError:
            raise too_long() from None

    def close(self) -> tuple[SseEvent | None, bool]:
        """The remaining data after the last byte, and whether it is a document instead of a stream.

        In a stream it is the last event. The standard drops an event that no empty line has completed, but many servers
        leave out the last empty line. The answer's own end mark shows whether it is complete.
        """
        if self._document is None:
            return self._events.rest(), False
        return SseEvent("message", self._document.decode("utf-8", "replace"), ""), True

    def _begin(self, chunk: bytes) -> bytes:
        """The stream to read; none while this may be a document: no stream begins with a bracket."""
        if self._document is None:
            self._blank += chunk
            shown = self._blank.removeprefix(_BOM).lstrip()
            if _BOM.startswith(shown) and len(self._blank) < _LONGEST_BLANK:
                return b""
            if not shown.startswith((b"{", b"[")):
                self._streams = True
                return self._blank
            self._document, chunk = bytearray(), shown
        self._document += chunk
        if len(self._document) > self._max_document_bytes:
            raise too_long()
        return b""


def _raise_error(line: bytes) -> None:
    """Raise the error of a line outside of any event: llama.cpp and some proxies send their errors this way."""
    field, _, value = line.partition(b":")
    document = value if field == b"error" else line
    try:
        said = orjson.loads(document)
    except orjson.JSONDecodeError:
        said = document.decode("utf-8", "replace").strip()
    if field == b"error" or (isinstance(said, dict) and is_error(said)):
        raise stated(said)


def parsed(text: str) -> Any:
    """The JSON of an event or a document. Raises ``ValueError``, or ``RecursionError``."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Some servers write NaN, or half of a surrogate pair.
        return json.loads(text)


def no_answer() -> OrchestraError:
    """The error for unreadable data."""
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider sent an invalid answer.")


def too_long() -> OrchestraError:
    """The error for an answer, or an event of it, that exceeds the limit."""
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer exceeds the maximum length.")
