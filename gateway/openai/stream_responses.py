"""The stream of a response: its numbered events, a pure function of the answer.

Texts are cut into deltas at places that the text itself determines. So every gateway, live or years later, gives the
same events the same numbers, and none of that is stored (docs/decisions/0036).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from gateway.following.live import Ending, LiveRequest
from gateway.following.waiting import failure
from gateway.http.problems import RequestProblemError
from gateway.openai.answer import DONE, RESTARTED
from gateway.openai.errors import DoorError, shape
from gateway.openai.items import item_id, output_text
from orchestra.transcript import Piece, after
from schemas.errors import OrchestraError
from schemas.generation import FinishReason
from schemas.openai.responses import ResponseObject, ResponseStatus
from schemas.status import Status

# Numbers of one attempt. An answer has at most 4 Mi characters, so it has far fewer events.
NUMBERS = 1_000_000
# A word with the white space behind it, or a part of a long one; scripts without white space in short parts.
_WORD = re.compile(r"(?:[!-~]{1,64}|[^\0-\x7f]{1,8}|)[\0- \x7f]{0,64}")
# Behind this many events of an attempt, deltas are long, so that they never reach the numbers of the next attempt.
_MANY = 100_000
_LONG = re.compile(r"[\s\S]{0,1024}")
# The standard of server-sent events does not end a line at these, but many clients do.
_ESCAPED = {"\u0085".encode(): b"\\u0085", "\u2028".encode(): b"\\u2028", "\u2029".encode(): b"\\u2029"}
_INCOMPLETE = ("length", "content_filter")
_RESTARTED = DoorError(
    RESTARTED.said, "the answer started over; resume to get it from its beginning", status=RESTARTED.status,
    code=RESTARTED.code,
)  # fmt: skip
_KINDS = {"text": "output_text", "refusal": "refusal", "reasoning": "reasoning_text"}


class Event(NamedTuple):
    """An event with its number. ``data``: without the number and the type."""

    number: int
    type: str
    data: dict[str, Any]

    def encode(self) -> bytes:
        """The bytes of the server-sent event."""
        value = orjson.dumps({"type": self.type, "sequence_number": self.number, **self.data})
        if not value.isascii():
            for separator, escaped in _ESCAPED.items():
                value = value.replace(separator, escaped)
        return b"event: %b\ndata: %b\n\n" % (self.type.encode(), value)


class Narration:
    """Turns the pieces of one attempt's answer into events, however the answer was cut into pieces.

    ``number``: of the next event. ``units``: how much of the answer was taken. ``output``: its complete items.
    """

    def __init__(self, request_id: UUID, number: int) -> None:
        self.number = number
        self.units = 0
        self.output: list[dict[str, Any]] = []
        self._request_id = request_id
        self._long_from = number + _MANY
        self._item: dict[str, Any] = {}
        # The text of the open part, or the arguments of the open call: what is in deltas, and the rest.
        self._kind = ""
        self._told: list[str] = []
        self._rest = ""

    def take(self, piece: Piece) -> Iterator[Event]:
        """The events that are certain with this piece."""
        self.units += piece.units
        match piece.kind:
            case "tool_call":
                yield from self._close_item("completed")
                call = {"call_id": piece.call_id, "name": piece.name, "arguments": ""}
                yield from self._open_item("function_call", call)
                self._kind = "arguments"
            case "tool_arguments":
                yield from self._add(piece.text)
            case kind if piece.text:
                yield from self._open_part(kind)
                yield from self._add(piece.text)

    def finish(self, reason: FinishReason | None) -> Iterator[Event]:
        """The events up to the end of the last item."""
        yield from self._close_item("incomplete" if reason in _INCOMPLETE else "completed")

    def _event(self, kind: str, data: dict[str, Any]) -> Event:
        event = Event(self.number, kind, data)
        self.number += 1
        return event

    def _add(self, text: str) -> Iterator[Event]:
        rest, at = self._rest + text, 0
        while True:
            pattern = _WORD if self.number < self._long_from else _LONG
            end = pattern.match(rest, at).end()  # type: ignore[union-attr]  # It matches any text.
            if end == len(rest):
                break  # The next character may belong to it.
            yield self._delta(rest[at:end])
            at = end
        self._rest = rest[at:]

    def _delta(self, text: str) -> Event:
        self._told.append(text)
        name = "function_call_arguments" if self._kind == "arguments" else _KINDS[self._kind]
        return self._event(f"response.{name}.delta", {**self._place, "delta": text, **_more(self._kind)})

    @property
    def _place(self) -> dict[str, Any]:
        place = {"item_id": self._item["id"], "output_index": len(self.output)}
        if self._kind == "arguments":
            return place
        return {**place, "content_index": len(self._item["content"])}

    def _open_item(self, kind: str, more: dict[str, Any]) -> Iterator[Event]:
        id = item_id(kind, self._request_id, len(self.output))
        self._item = {"id": id, "type": kind, **more, "status": "in_progress"}
        shown = {**self._item, **({"content": []} if "content" in more else {})}
        yield self._event("response.output_item.added", {"output_index": len(self.output), "item": shown})

    def _open_part(self, kind: str) -> Iterator[Event]:
        if kind == self._kind:
            return
        wanted = "reasoning" if kind == "reasoning" else "message"
        if self._item.get("type") != wanted:
            yield from self._close_item("completed")
            more: dict[str, Any] = {"summary": []} if kind == "reasoning" else {"role": "assistant"}
            yield from self._open_item(wanted, {**more, "content": []})
        else:
            yield from self._close_part()
        self._kind = kind
        yield self._event("response.content_part.added", {**self._place, "part": _part(kind, "")})

    def _close_part(self) -> Iterator[Event]:
        kind = self._kind
        if not kind:
            return
        if self._rest:
            rest, self._rest = self._rest, ""
            yield self._delta(rest)
        text, place = "".join(self._told), self._place
        self._told.clear()
        if kind == "arguments":
            self._item["arguments"] = text
            done = {**place, "name": self._item["name"], "arguments": text}
            yield self._event("response.function_call_arguments.done", done)
        else:
            done = {**place, "refusal" if kind == "refusal" else "text": text, **_more(kind)}
            yield self._event(f"response.{_KINDS[kind]}.done", done)
            part = _part(kind, text)
            yield self._event("response.content_part.done", {**place, "part": part})
            self._item["content"].append(part)
        self._kind = ""

    def _close_item(self, status: str) -> Iterator[Event]:
        if not self._item:
            return
        yield from self._close_part()
        self._item["status"] = status
        yield self._event("response.output_item.done", {"output_index": len(self.output), "item": self._item})
        self.output.append(self._item)
        self._item = {}


def _more(kind: str) -> dict[str, Any]:
    """What clients require in events about a text."""
    return {"logprobs": []} if kind == "text" else {}


def _part(kind: str, text: str) -> dict[str, Any]:
    match kind:
        case "text":
            return output_text(text)
        case "refusal":
            return {"type": "refusal", "refusal": text}
    return {"type": "reasoning_text", "text": text}


Show = Callable[[Ending | ResponseStatus], ResponseObject]
"""Makes the response object from how it ended, or from its state while it has not."""


class ResponseWriter:
    """Writes the stream of one client: the events behind ``after``, the number of the last one that it has.

    ``show`` makes the response object. Heads of an attempt are ``response.created``, ``response.queued`` in the
    background, and ``response.in_progress``; then come the events of the answer, and the ending.
    """

    def __init__(self, request_id: UUID, show: Show, *, background: bool, after: int | None = None) -> None:
        self.closed = False
        self._request_id = request_id
        self._show = show
        self._background = background
        self._last = -1 if after is None else after
        self._attempt = -1
        self._narration = Narration(request_id, 0)
        # Which heads the client has of an attempt without text, and whether this stream has told any of the answer.
        self._heads: set[str] = set()
        self._answered = False

    def begin(self, live: LiveRequest) -> list[bytes]:
        """The heads, as far as they are known."""
        return self.catch_up(live)

    def catch_up(self, live: LiveRequest) -> list[bytes]:
        """The events that bring the client up to the present state."""
        # Unsigned events may be forged. What they say is sent when Postgres confirms it.
        attempt = live.attempt if live.signed or not live.hearsay else 0
        if attempt < self._attempt or self.closed:
            return []  # This replica is behind what the client has seen.
        if self._answered and (attempt != self._attempt or live.failed):
            return self._restarted()
        told = self._start(attempt) if attempt != self._attempt else []
        if not attempt:
            return told
        pieces = live.window.since(self._narration.units) or ()
        return told + self._tell(event for piece in pieces for event in self._narration.take(piece))

    def end(self, ending: Ending) -> list[bytes]:
        """The remaining events, then ``[DONE]``. A cancelled response has no ending among them."""
        if self.closed:
            return []
        told = self._rest(ending)
        return told if self.closed else [*told, DONE]

    def _rest(self, ending: Ending) -> list[bytes]:
        if ending.status is Status.COMPLETED:
            return self._completed(ending)
        told = [] if self._answered else self._start(ending.attempt)
        if ending.status is Status.CANCELLED:
            return told
        # The text of a failed attempt is void, and may be unknown here: this comes behind it in any case.
        number = max(self._last, self._narration.number - 1) + 1
        # Many clients raise what comes as `error` only, and take a stream that ends without it for a complete answer.
        error = _error(number, failure(ending, self._request_id))
        return told + self._tell([error, _about(number + 1, "failed", self._show(ending))])

    def break_off(self, error: OrchestraError) -> list[bytes]:
        """The last event of a stream that ends before its response."""
        # No number of its own: a client that resumes behind it must not miss the event that has the next one.
        about = RequestProblemError(error.code, error.detail, request_id=self._request_id)
        return [_error(max(self._last, 0), about).encode()]

    def _completed(self, ending: Ending) -> list[bytes]:
        told: list[bytes] = []
        if ending.attempt != self._attempt:
            if self._answered:
                return self._restarted()
            told = self._start(ending.attempt)
        narration, reason = self._narration, ending.finish_reason

        def rest() -> Iterator[Event]:
            for piece in after(ending.pieces, narration.units):
                yield from narration.take(piece)
            yield from narration.finish(reason)
            name = "incomplete" if reason in _INCOMPLETE else "completed"
            yield _about(narration.number, name, self._show(ending))

        return told + self._tell(rest())

    def _start(self, attempt: int) -> list[bytes]:
        """The heads of an attempt, except those that this stream has told already."""
        base = max(attempt - 1, 0) * NUMBERS
        heads: list[tuple[str, ResponseStatus]] = [("created", "in_progress"), ("in_progress", "in_progress")]
        if self._background:
            heads[:1] = [("created", "queued"), ("queued", "queued")]
        self._attempt = attempt
        self._narration = Narration(self._request_id, base + len(heads))
        if base <= self._last < base + len(heads):
            self._heads.update(name for name, _ in heads[: self._last - base + 1])
        told: list[bytes] = []
        for at, (name, status) in enumerate(heads if attempt else heads[:-1]):
            if name not in self._heads and base + at > self._last:
                told += self._tell([_about(base + at, name, self._show(status))])
                self._heads.add(name)
        return told

    def _tell(self, events: Iterable[Event]) -> list[bytes]:
        first = max(self._attempt - 1, 0) * NUMBERS + 2 + self._background
        told: list[bytes] = []
        for event in events:
            if event.number > self._last:
                told.append(event.encode())
                self._last = event.number
                self._answered = self._answered or event.number >= first
        return told

    def _restarted(self) -> list[bytes]:
        self.closed = True
        return self._tell([_error(self._last + 1, _RESTARTED)])


def _about(number: int, name: str, response: ResponseObject) -> Event:
    return Event(number, f"response.{name}", {"response": response.model_dump(mode="json")})


def _error(number: int, error: OrchestraError) -> Event:
    # OpenAI documents the fields beside the type, and sends them in `error`. Its Python library raises only for these.
    within = shape(error, "resp_").body["error"]
    return Event(number, "error", {**{name: within[name] for name in ("code", "message", "param")}, "error": within})
