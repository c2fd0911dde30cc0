"""⑨ Applies the events on ``llm.events``: the answer so far of every open request, and its ending."""

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError

from gateway.following.live import Ending, LiveRequest
from gateway.following.turns import Turns
from gateway.metrics import Metrics
from orchestra.signing import EventSigner
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import ConversationRef, RequestRef
from orchestra.transcript import Piece, PieceKind, pieces_of
from schemas import events
from schemas.content import MAX_CALLS
from schemas.envelope import BODY_HASH, SIGNATURE, SUBJECT, TENANT, TYPE
from schemas.errors import ErrorCode
from schemas.events import (
    CANCELLED,
    DELTA,
    ENDING_TYPES,
    EVENT_TYPES,
    PIECE,
    RESTART,
    STARTED,
    Completed,
    Failed,
    Restarted,
)
from schemas.replies import RequestError
from schemas.status import Status

# Poll Postgres with back-off (1 s, doubling, at most 10 s) in case an event was lost.
_LOOK_AFTER_SECONDS = 1.0
_LOOK_AT_LEAST_SECONDS = 10.0
# Keep ended requests this long: a caller may be about to ask, and late events must be recognised.
_ENDED_SECONDS = 5.0
# Longer than any attempt: no more events of such a request will come.
_IDLE_SECONDS = 15 * 60.0
_HIGHEST_ATTEMPT = 2**31 - 1
_MAX_UNITS = 2**40
# The detail is kept beside the text and not counted as memory; workers write at most 600 characters.
_LONGEST_DETAIL = 1000
_LONGEST_NAME = 512

_KINDS: dict[bytes | None, str] = {kind.encode(): kind for kind in EVENT_TYPES}
_PIECE_KINDS: dict[str, PieceKind] = {
    "tool_call": "tool_call", "tool_arguments": "tool_arguments", "reasoning": "reasoning", "refusal": "refusal",
}  # fmt: skip

RawHeaders = Iterable[tuple[str, bytes | None]]


class Hub:
    """All open requests, the least recently changed first. One per gateway; nothing here blocks.

    An unsigned event comes from an older release, or from another program that may write to the topic. It is shown
    until the first signed event of its request arrives. An unsigned ending is never shown: it only makes the gateway
    look the request up in Postgres at once, and ``hinted`` is set when there is one to look up.
    """

    def __init__(self, metrics: Metrics, max_bytes: int, signer: EventSigner) -> None:
        self._metrics = metrics
        self._signer = signer
        self.hinted = asyncio.Event()
        self.turns = Turns(self.hinted)
        self._max_bytes = max_bytes
        self._counters = {kind: metrics.events.labels(kind) for kind in EVENT_TYPES}
        self._bytes = 0
        self._watched: dict[RequestRef, LiveRequest] = {}
        self._live: OrderedDict[RequestRef, LiveRequest] = OrderedDict()

    @contextmanager
    def watch(self, ref: RequestRef) -> Iterator[LiveRequest]:
        """Follow a request: while anything follows it, it is kept here and polled in Postgres."""
        live = self._get(ref)
        live.look_after = _LOOK_AFTER_SECONDS
        live.look_at = time.monotonic() + live.look_after
        self._watched[ref] = live
        live.watchers += 1
        try:
            yield live
        finally:
            live.watchers -= 1
            if not live.watchers:
                del self._watched[ref]

    def due(self) -> list[RequestRef]:
        """The watched, open requests that must be looked up in Postgres now."""
        now = time.monotonic()
        return [ref for ref, live in self._watched.items() if live.ending is None and live.look_at <= now]

    def looked(self, refs: Iterable[RequestRef]) -> None:
        """Note that these were looked up. The longer one is watched, the less often that happens: there are many."""
        now = time.monotonic()
        for ref in refs:
            if live := self._watched.get(ref):
                live.looked_at = now
                live.look_after = min(2 * live.look_after, _LOOK_AT_LEAST_SECONDS)
                live.look_at = now + live.look_after

    def take(self, key: bytes | None, headers: RawHeaders, value: bytes | None) -> None:
        """Apply one record. This never raises: a malformed record is counted and skipped."""
        try:
            self._take(key, dict(headers), value)
        except (ValueError, KeyError, TypeError, AttributeError, ValidationError, RecursionError):
            self._metrics.events_skipped.inc()

    def learn(self, ref: RequestRef, stored: StoredRequest) -> None:
        """Apply the row of a request, if it is watched."""
        if live := self._watched.get(ref):
            self._apply(ref, live, partial(_learn, stored=stored))

    def fail(self, ref: RequestRef, code: ErrorCode, detail: str) -> None:
        """Fail a watched request that will never have a row, or whose row is deleted."""
        if live := self._watched.get(ref):
            error = RequestError(code=code, detail=detail)
            self._apply(ref, live, partial(_finish, ending=Ending(Status.FAILED, live.attempt, error=error)))

    def wake_all(self) -> None:
        """Wake every wait and stream."""
        for live in self._watched.values():
            live.touch()
        self.turns.wake_all()

    def forget_old(self) -> None:
        """Drop requests that are not watched and have ended, or had no event for long."""
        now = time.monotonic()
        quiet = itertools.takewhile(lambda item: item[1].touched < now - _ENDED_SECONDS, self._live.items())
        old = [ref for ref, live in quiet if not live.watchers and (live.ending or live.touched < now - _IDLE_SECONDS)]
        for ref in old:
            self._bytes -= self._live.pop(ref).size
        self._metrics.live_requests.set(len(self._live))
        self._metrics.live_bytes.set(self._bytes)

    def _take(self, key: bytes | None, headers: dict[str, bytes | None], value: bytes | None) -> None:
        said, subject, tenant = headers[TYPE], headers.get(SUBJECT) or key, headers[TENANT]
        kind = _KINDS[said]
        ref = _ref(tenant, subject)
        hashed = headers[BODY_HASH]
        body_hash = hashed.decode()  # type: ignore[union-attr]  # None raises AttributeError, which counts as malformed.
        event = orjson.loads(value or b"")
        attempt = _number(event["attempt"], _HIGHEST_ATTEMPT)
        change = _change_of(kind, attempt, event)  # Parses the whole event before anything changes.
        live = self._live.get(ref)
        if live and live.body_hash not in (None, body_hash):
            raise ValueError("a request has one body")
        self._counters[kind].inc()
        signature = headers.get(SIGNATURE)
        # Each argument was parsed above, so it is not None.
        if signature is None or not self._signer.verify(signature, said, subject, hashed, tenant, value):  # type: ignore[arg-type]
            self._take_unsigned(ref, kind, attempt, change)
            return
        live = live or self._get(ref)
        if not live.signed:
            self._bytes -= live.window.bytes
            live.believe()
            self._bytes += live.window.bytes
        if live.ending or attempt < live.attempt:
            self._metrics.events_stale.inc()
            return
        live.body_hash = body_hash
        self._apply(ref, live, change)
        if kind == STARTED and self.turns.places and live.conversation_id:
            self.turns.hint(ConversationRef(ref.tenant, live.conversation_id))

    def _take_unsigned(self, ref: RequestRef, kind: str, attempt: int, change: Callable[[LiveRequest], bool]) -> None:
        self._metrics.events_unsigned.inc()
        live = self._live.get(ref)
        if kind in ENDING_TYPES:
            if live and live.watchers and live.ending is None:
                # At most one look per second, no matter how many hints come.
                live.look_at = min(live.look_at, max(time.monotonic(), live.looked_at + _LOOK_AFTER_SECONDS))
                self.hinted.set()
            return
        if live and (live.signed or live.ending or attempt < live.attempt):
            self._metrics.events_stale.inc()
            return
        live = live or self._get(ref)
        live.hearsay = True
        self._apply(ref, live, change)
        if kind == STARTED and self.turns.places and live.conversation_id:
            self.turns.hint(ConversationRef(ref.tenant, live.conversation_id), at_once=False)

    def _apply(self, ref: RequestRef, live: LiveRequest, change: Callable[[LiveRequest], bool]) -> None:
        before = live.window.bytes
        if not change(live):
            self._metrics.events_stale.inc()
        self._bytes += live.window.bytes - before
        self._live.move_to_end(ref)
        if self._bytes > self._max_bytes:
            self._make_room()

    def _make_room(self) -> None:
        for _ in range(len(self._live)):
            if self._bytes <= self._max_bytes:
                return
            ref, live = next(iter(self._live.items()))
            self._bytes -= live.size
            if live.watchers:
                live.forget_text()
                self._bytes += live.size
                self._live.move_to_end(ref)
            else:
                del self._live[ref]
            self._metrics.texts_dropped.inc()

    def _get(self, ref: RequestRef) -> LiveRequest:
        live = self._live.get(ref)
        if live is None:
            live = self._live[ref] = LiveRequest()
            self._bytes += live.size
        return live


@lru_cache(maxsize=16_384)
def _ref(tenant: bytes | None, subject: bytes | None) -> RequestRef:
    """The request that an event names; cached, because every delta of a stream names the same one."""
    return RequestRef(_text(tenant), UUID(_text(subject)))


def _change_of(kind: str, attempt: int, event: dict[str, Any]) -> Callable[[LiveRequest], bool]:
    """The change that an event makes to its request; the change returns whether it was new."""
    if kind == DELTA:
        # `n` is its position if the answer has other pieces than text.
        at = _number(event["n"] if "n" in event else event["at"])
        return partial(_add, attempt=attempt, at=at, text=_string(event["text"]))
    if kind == PIECE:
        return partial(_add_piece, attempt=attempt, at=_number(event["n"]), piece=_piece(event))
    if kind == STARTED:
        return partial(_begin, attempt=attempt, conversation_id=UUID(event["conversation_id"]))
    if kind == RESTART:
        restarted = Restarted.model_validate(event)
        if restarted.last_error and len(restarted.last_error.detail) > _LONGEST_DETAIL:
            raise ValueError("the detail is longer than any worker writes")
        pieces = pieces_of(restarted.text, restarted.output)
        return partial(_restart, attempt=attempt, pieces=pieces, error=restarted.last_error)
    return partial(_finish, ending=_ending(kind, attempt, event))


def _add(live: LiveRequest, attempt: int, at: int, text: str) -> bool:
    if attempt > live.attempt:
        live.begin(attempt)
    return live.add(at, text)


def _add_piece(live: LiveRequest, attempt: int, at: int, piece: Piece) -> bool:
    if attempt > live.attempt:
        live.begin(attempt)
    return live.add_piece(at, piece)


def _piece(event: dict[str, Any]) -> Piece:
    match kind := _PIECE_KINDS[event["kind"]]:
        case "tool_call":
            call_id, name = _name(event["call_id"]), _name(event["name"])
            return Piece(kind, index=_number(event["index"], MAX_CALLS), call_id=call_id, name=name)
        case "tool_arguments":
            return Piece(kind, _string(event["text"]), _number(event["index"], MAX_CALLS))
    return Piece(kind, _string(event["text"]))


def _begin(live: LiveRequest, attempt: int, conversation_id: UUID) -> bool:
    live.conversation_id = conversation_id
    if attempt == live.attempt:
        return False
    live.begin(attempt)
    return True


def _restart(live: LiveRequest, attempt: int, pieces: list[Piece], error: RequestError | None) -> bool:
    if error:
        live.fail_attempt(attempt, error)
    else:
        live.restart(attempt, pieces)
    return True


def _learn(live: LiveRequest, stored: StoredRequest) -> bool:
    live.learn(stored)
    return True


def _finish(live: LiveRequest, ending: Ending) -> bool:
    live.finish(ending)
    return True


def _ending(kind: str, attempt: int, event: dict[str, Any]) -> Ending:
    match kind:
        case events.COMPLETED:
            completed = Completed.model_validate({**event, "usage": event.get("usage") or {}})
            return Ending(
                Status.COMPLETED, attempt, completed.reply, completed.usage, finish_reason=completed.finish_reason,
                output=completed.output,
            )  # fmt: skip
        case events.FAILED:
            failed = Failed.model_validate(event)
            return Ending(Status.FAILED, attempt, error=RequestError(code=failed.code, detail=failed.detail))
    return Ending(Status.CANCELLED if kind == CANCELLED else Status.EXPIRED, attempt)


def _text(value: bytes | None) -> str:
    if value is None:
        raise ValueError("missing text")
    return value.decode()


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _name(value: Any) -> str:
    if len(name := _string(value)) > _LONGEST_NAME:
        raise ValueError("longer than any worker writes")
    return name


def _number(value: Any, highest: int = _MAX_UNITS) -> int:
    if type(value) is not int or not 0 <= value <= highest:
        raise ValueError("not a number in range")
    return value
