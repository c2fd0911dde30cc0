"""The bytes of a provider's answer → its events. Some servers send one JSON document where a stream was asked for."""

import json
from typing import Any

import orjson

from llm_service.providers.error_document import is_error
from llm_service.providers.refusals import stated
from orchestra.http.event_stream import Event, EventStream, EventTooLongError
from schemas.errors import ErrorCode, OrchestraError

MAX_EVENT_BYTES = 1024 * 1024
# Around a token of text lie some 250 bytes of JSON; in a document JSON takes six bytes at most for one of text.
_MAX_WIRE_FACTOR, _MAX_JSON_FACTOR = 512, 6
_BOM = b"\xef\xbb\xbf"
_LONGEST_BLANK = 1024


class Framing:
    """One answer, of at most ``reply_bytes`` of text. Feed it all that comes, then `close` it."""

    def __init__(self, reply_bytes: int, event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._most_bytes = reply_bytes * _MAX_WIRE_FACTOR
        self._most_document_bytes = max(reply_bytes * _MAX_JSON_FACTOR, event_bytes)
        self._received = 0
        self._events = EventStream(event_bytes, _raise_error)
        self._streams = False
        self._blank = b""  # All that came, as long as it does not show what this is.
        self._document: bytearray | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that these bytes complete, perhaps none. Raises ``bad_upstream`` when all of it is too much."""
        self._received += len(chunk)
        if self._received > self._most_bytes:
            raise too_long()
        if not self._streams and not (chunk := self._begin(chunk)):
            return []
        try:
            return self._events.feed(chunk)
        except EventTooLongError:
            raise too_long() from None

    def close(self) -> tuple[Event | None, bool]:
        """What is left when no more bytes come, and whether it is a document in place of a stream.

        Of a stream it is the event before the end. The standard drops that one where no empty line has finished it, but
        many servers leave out the last empty line; whether an answer is whole is told by its own end mark.
        """
        if self._document is None:
            return self._events.rest(), False
        return Event("message", self._document.decode("utf-8", "replace"), ""), True

    def _begin(self, chunk: bytes) -> bytes:
        """What there is to read of a stream; none while this may be a document: no stream begins with a bracket."""
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
        if len(self._document) > self._most_document_bytes:
            raise too_long()
        return b""


def _raise_error(line: bytes) -> None:
    """Raise the error that a line tells which belongs to no event: so llama.cpp and some proxies write theirs."""
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
    """The error for what cannot be read."""
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's provider sent something that is no answer.")


def too_long() -> OrchestraError:
    """The error for an answer, or an event of it, that takes more than it may."""
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The model's answer is longer than it may be.")
