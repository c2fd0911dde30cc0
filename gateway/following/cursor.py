"""⑩ The events of our own API: what one client of a stream still lacks, from any place in the stream."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import orjson

from gateway.following.live import Ending, LiveRequest
from orchestra.transcript import Piece, after, before, items_of, joined, text_of, units_of
from schemas.api.requests import RequestResource
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.replies import RequestError
from schemas.status import Status

COME_BACK = b"retry: 500\n\n"
_LAST_EVENT_ID = re.compile(r"([0-9]{1,10})\.([0-9]{1,10})(?:-([0-9]{1,10}))?(\.end)?")
# The standard of server-sent events does not end a line at these, but many clients do.
_ESCAPED = {"\u0085".encode(): b"\\u0085", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
# No attempt has this number: a client that claims to have seen it gets the whole answer again.
_NO_ATTEMPT = -1
_NO_SUCH_TURN = "Last-Event-ID: must be the id of an event, or of a request, of this conversation"


@dataclass(frozen=True)
class StreamPosition:
    """How far a client has read: code points of an attempt's text; ``ended``: the ending, too.

    ``units``: of the whole answer (see `orchestra.transcript`), if there were other pieces than text.
    """

    attempt: int
    text: int
    units: int | None = None
    ended: bool = False


def read_last_event_id(text: str | None) -> StreamPosition | None:
    """The place that an event id names. An id that is not one of ours is a place in an attempt that does not exist."""
    if not text:
        return None
    if not (match := _LAST_EVENT_ID.fullmatch(text.strip())):
        return StreamPosition(_NO_ATTEMPT, 0)
    return StreamPosition(int(match[1]), int(match[2]), int(match[3]) if match[3] else None, bool(match[4]))


def read_turn_event_id(text: str | None) -> tuple[UUID, StreamPosition | None] | None:
    """The turn that an event id of a conversation's stream names, and the place in it; of a turn alone, its end.

    Raises ``INVALID_REQUEST``.
    """
    if not text:
        return None
    turn, _, place = text.strip().partition(":")
    try:
        return UUID(turn), read_last_event_id(place)
    except ValueError:
        raise no_such_turn() from None


def no_such_turn() -> OrchestraError:
    """The error of an event id that names no turn of its conversation."""
    return OrchestraError(ErrorCode.INVALID_REQUEST, _NO_SUCH_TURN)


def has_seen(after: StreamPosition | None, resource: RequestResource) -> bool:
    """True when the request has ended and that ending was the client's last event."""
    if after is None or not after.ended or not resource.status.terminal:
        return False
    return after.attempt == (resource.attempts or 0)


class StreamCursor:
    """Which events of our own API one client of a stream still lacks. ``warnings``: for the first event."""

    closed = False

    def __init__(
        self,
        after: StreamPosition | None = None,
        *,
        request_id: UUID | None = None,
        conversation_id: UUID | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        self._request_id = request_id
        self._conversation_id = conversation_id
        self._warnings = warnings
        self._event = _event
        if after and after.ended:
            # That ending was of another request with this id: a dead letter, replayed since.
            after = StreamPosition(_NO_ATTEMPT, 0)
        self._attempt = after.attempt if after else None
        self._text = after.text if after else 0
        self._units = self._text if after is None or after.units is None else after.units
        self._epoch: int | None = None
        # The request, if what was sent came from unsigned events.
        self._hearsay: LiveRequest | None = None

    def begin(self, live: LiveRequest) -> list[bytes]:
        """The first event, which names the request."""
        pending = {"request_id": self._request_id, "conversation_id": self._conversation_id or live.conversation_id}
        return [self._event("pending", {**pending, "warnings": self._warnings} if self._warnings else pending)]

    def break_off(self, _error: OrchestraError) -> list[bytes]:
        """The hint to reconnect: the next gateway continues the stream, or answers with the error."""
        return [COME_BACK]

    def catch_up(self, live: LiveRequest) -> list[bytes]:
        """The events that bring the client up to the present state."""
        hearsay = live if live.hearsay and not live.signed else None
        if self._hearsay and not hearsay:
            self._void()
        self._hearsay = hearsay
        if live.attempt < (self._attempt or 0):
            return []  # This replica is behind what the client has seen.
        told: list[bytes] = []
        if live.attempt < 1:
            return self._held_back(live)
        if self._attempt is None:
            told.append(self._start(live.attempt))
            told += self._failure(live)
        elif self._attempt != live.attempt or self._epoch not in (None, live.epoch):
            told.append(self._restart(live.attempt, live.window.since(0) or [], live.last_error))
        elif self._epoch is None:
            told += self._failure(live)
        self._epoch = live.epoch
        if (text := live.window.text_since(self._units)) is not None:
            return told + self._delta(text)
        return told + self._pieces(live.window.since(self._units) or ())

    def end(self, ending: Ending) -> list[bytes]:
        """The remaining events, the ending last."""
        told: list[bytes] = []
        pieces = ending.pieces
        if self._hearsay and not self._is_in(pieces, self._hearsay):
            self._void()
        self._hearsay = None
        if ending.status is Status.COMPLETED:
            if self._attempt is None:
                told.append(self._start(ending.attempt))
            elif self._attempt != ending.attempt or not self._is_place_in(pieces):
                told.append(self._restart(ending.attempt, pieces))
            told += self._pieces(after(pieces, self._units))
        elif self._attempt != ending.attempt:
            self._attempt, self._text, self._units = ending.attempt, 0, 0
        name, data = _told(ending)
        # Its id is unique, so that a client cut off just before it differs from one that has seen it.
        return [*told, self._event(name, data, f"{self._id}.end")]

    @property
    def _id(self) -> str:
        place = f"{self._attempt}.{self._text}"
        if self._units != self._text:
            place = f"{place}-{self._units}"
        # A client that resumes from a place continues behind it, so what is before it must be equal on every replica.
        return f"{place}.unsigned" if self._hearsay else place

    def _void(self) -> None:
        """What was sent may be forged: send what comes next as a restart."""
        if self._attempt is not None:
            self._attempt = _NO_ATTEMPT

    def _is_in(self, pieces: list[Piece], live: LiveRequest) -> bool:
        """Whether an answer begins with what was sent of this request."""
        sent = live.window.since(0) if self._epoch == live.epoch else None
        return sent is not None and joined(before(pieces, units_of(sent))) == joined(sent)

    def _is_place_in(self, pieces: list[Piece]) -> bool:
        """Whether an answer has the place where the client is."""
        return self._units <= units_of(pieces) and self._text == len(text_of(before(pieces, self._units)))

    def _start(self, attempt: int) -> bytes:
        self._attempt, self._text, self._units = attempt, 0, 0
        return self._event("started", {"attempt": attempt}, self._id)

    def _restart(self, attempt: int, pieces: list[Piece], error: RequestError | None = None) -> bytes:
        text, output = text_of(pieces), items_of(pieces)
        self._attempt, self._text, self._units = attempt, len(text), units_of(pieces)
        data = {"attempt": attempt, "text": text, **_why(error)}
        return self._event("restart", {**data, "output": output} if output else data, self._id)

    def _failure(self, live: LiveRequest) -> list[bytes]:
        """Why no text comes, for a client that connected after the attempt failed."""
        return [self._restart(live.attempt, [], live.last_error)] if live.failed else []

    def _held_back(self, live: LiveRequest) -> list[bytes]:
        """Why no attempt begins. There is no place to resume from yet, so the event has no id."""
        if not live.failed or self._epoch == live.epoch:
            return []
        self._epoch = live.epoch
        return [self._event("restart", {"attempt": live.attempt, "text": "", **_why(live.last_error)})]

    def _delta(self, text: str) -> list[bytes]:
        if not text:
            return []
        self._text += len(text)
        self._units += len(text)
        return [self._event("delta", {"text": text}, self._id)]

    def _pieces(self, pieces: Iterable[Piece]) -> list[bytes]:
        return [event for piece in pieces for event in self._piece(piece)]

    def _piece(self, piece: Piece) -> list[bytes]:
        if piece.kind == "text":
            return self._delta(piece.text)
        self._units += piece.units
        match piece.kind:
            case "tool_call":
                data = {"index": piece.index, "call_id": piece.call_id, "name": piece.name}
                return [self._event("tool_call", data, self._id)]
            case "tool_arguments":
                return [self._event("tool_call.delta", {"index": piece.index, "arguments": piece.text}, self._id)]
        return [self._event(f"{piece.kind}.delta", {"text": piece.text}, self._id)]


class TurnCursor(StreamCursor):
    """The events of one turn in the stream of its conversation: each names its request, in its data and in its id.

    ``ended``: its ending was written.
    """

    def __init__(self, request_id: UUID, conversation_id: UUID | None, after: StreamPosition | None = None) -> None:
        super().__init__(after, request_id=request_id, conversation_id=conversation_id)
        self.ended = False
        self._event = partial(_event_of, request_id)

    def end(self, ending: Ending) -> list[bytes]:
        """The remaining events of the turn."""
        self.ended = True
        return super().end(ending)


def deleted(conversation_id: UUID) -> bytes:
    """The last event of the stream of a conversation that was deleted."""
    return _event("deleted", {"conversation_id": conversation_id})


def _why(error: RequestError | None) -> dict[str, Any]:
    return {"last_error": error.model_dump()} if error else {}


def _told(ending: Ending) -> tuple[str, dict[str, Any]]:
    match ending.status:
        case Status.COMPLETED:
            told = {"reply": ending.reply or "", "usage": ending.usage and ending.usage.model_dump()}
            # Absent where unknown: an older release may have stored the reply.
            more = {"finish_reason": ending.finish_reason, "output": ending.output}
            return "completed", told | {name: value for name, value in more.items() if value}
        case Status.FAILED:
            code, detail = (ending.error.code, ending.error.detail) if ending.error else (ErrorCode.INTERNAL, "")
            return "failed", {"code": code, "detail": detail or ERRORS[code].title}
    return ending.status.value, {}


def _event(name: str, data: dict[str, Any], id: str | None = None) -> bytes:
    head = b"id: %b\n" % id.encode() if id is not None else b""
    value = sse_json(data)
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), value)


def _event_of(request_id: UUID, name: str, data: dict[str, Any], id: str | None = None) -> bytes:
    return _event(name, {"request_id": request_id, **data}, None if id is None else f"{request_id}:{id}")


def sse_json(data: Any) -> bytes:
    """Data as JSON in one line, whatever a client takes for the end of a line."""
    # The database driver has its own class of UUIDs, which orjson does not know.
    value = orjson.dumps(data, default=str)
    if not value.isascii():
        for separator, escaped in _ESCAPED.items():
            value = value.replace(separator, escaped)
    return value
