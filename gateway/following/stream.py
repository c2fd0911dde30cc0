"""⑩ Streams a request as server-sent events, in the form of one API, from any place in the stream, on any replica."""

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from gateway.drain import Drain
from gateway.following.cursor import COME_BACK, StreamPosition, TurnCursor, deleted, has_seen
from gateway.following.events import Hub
from gateway.following.live import Ending, LiveRequest
from gateway.following.lookup import Lookup
from gateway.http.leaving import EventStreamResponse, Left
from gateway.metrics import Metrics
from gateway.people.principal import Principal
from gateway.people.standing import Standing
from gateway.timings import TIMINGS, Timings
from orchestra.store.claims import Owner
from orchestra.store.database import DatabaseUnavailableError
from orchestra.store.next_turns import NextTurn
from orchestra.store.requests import StoredRequest
from orchestra.store.turns import ConversationRef, RequestRef
from schemas.errors import ErrorCode, OrchestraError
from schemas.replies import RequestError
from schemas.status import Status

_READ_AGAIN_SECONDS = 0.5
_NEXT_STREAM_SECONDS = 5.0
_KEEP_ALIVE = b": keep-alive\n\n"
_SHUTTING_DOWN = OrchestraError(ErrorCode.STILL_RUNNING, "this gateway is shutting down; the request goes on")


class StreamWriter(Protocol):
    """Writes the events of one stream in the form of one API: what its client still lacks. It never waits.

    ``closed``: it has written its last event although the request goes on.
    """

    @property
    def closed(self) -> bool:
        """Whether the stream ends before the request."""

    def begin(self, live: LiveRequest) -> list[bytes]:
        """The events before anything is known about the answer."""

    def catch_up(self, live: LiveRequest) -> list[bytes]:
        """The events that bring the client up to the present state."""

    def end(self, ending: Ending) -> list[bytes]:
        """The remaining events, the ending last."""

    def break_off(self, error: OrchestraError) -> list[bytes]:
        """The last events of a stream that ends before its request, because of this error."""


@dataclass(frozen=True)
class Subscription:
    """What to stream, and in which form. ``body_hash``: of the body that this call sent, if it did."""

    ref: RequestRef
    writer: StreamWriter
    stored: StoredRequest | None = None
    body_hash: str | None = None
    ending: Ending | None = None


@dataclass(frozen=True)
class ConversationStart:
    """Where the stream of a conversation begins: behind the turn of this number, 0 for the first one.

    ``turn``: the request of that turn, if the stream resumes in the middle of it, behind the place ``after``.
    """

    seq: int = 0
    turn: UUID | None = None
    after: StreamPosition | None = None


class Streams:
    """Opens streams, at most ``most`` at once for one owner (None: no limit)."""

    def __init__(
        self,
        hub: Hub,
        lookup: Lookup,
        drain: Drain,
        metrics: Metrics,
        most: int | None = None,
        timings: Timings = TIMINGS,
    ) -> None:
        self._timings = timings
        self._most = most
        self._open: Counter[Owner] = Counter()
        self._hub = hub
        self._lookup = lookup
        self._drain = drain
        self._metrics = metrics

    def check(self, caller: Principal) -> None:
        """Call this before any work for a stream. Raises ``TOO_MANY_STREAMS``."""
        if self._most is not None and self._open[caller.owner] >= self._most:
            raise OrchestraError(ErrorCode.TOO_MANY_STREAMS, retry_after=_NEXT_STREAM_SECONDS)

    def open(
        self,
        subscription: Subscription,
        standing: Standing,
        headers: Mapping[str, str] | None = None,
        left: Left | None = None,
        patience: float | None = None,
    ) -> EventStreamResponse:
        """The response that streams a request until its ending.

        It ends earlier when the client leaves, which calls ``left``, or loses its access, when this gateway shuts
        down, or with ``STILL_RUNNING`` after ``patience`` seconds without an event.
        """
        return EventStreamResponse(self._chunks(subscription, standing, patience or math.inf), headers, left)

    def open_conversation(
        self, ref: ConversationRef, start: ConversationStart, standing: Standing
    ) -> EventStreamResponse:
        """The response that streams all turns of a conversation, also those that are still to come, in their order.

        It ends when the conversation is deleted, when the client leaves or loses its access, or when this gateway
        shuts down.
        """
        return EventStreamResponse(self._turns(ref, start, standing))

    async def _chunks(
        self, subscription: Subscription, standing: Standing, patience: float
    ) -> AsyncGenerator[bytes, None]:
        with self._counted(standing.caller.owner), self._hub.watch(subscription.ref) as live:
            if begun := self._begin(subscription, live):
                yield begun
            async for chunk in self._follow(subscription, live, standing, patience):
                yield chunk

    def _begin(self, subscription: Subscription, live: LiveRequest) -> bytes:
        if subscription.stored:
            self._hub.learn(subscription.ref, subscription.stored)
        return b"".join(subscription.writer.begin(live))

    async def _turns(
        self, ref: ConversationRef, start: ConversationStart, standing: Standing
    ) -> AsyncGenerator[bytes, None]:
        turn = NextTurn(start.seq, start.turn) if start.turn else None
        after = start.after
        with self._counted(standing.caller.owner), self._hub.turns.watch(ref, start.seq) as place:
            while True:
                now = time.monotonic()
                if self._drain.begun or (now >= standing.due and await _lost_access(standing)):
                    yield COME_BACK  # The next gateway continues the stream, or answers with the error.
                    return
                if (
                    turn is None
                    and (turn := await place.next(min(self._timings.keep_alive, standing.due - now))) is None
                ):
                    if place.deleted:
                        yield deleted(ref.id)
                        return
                    yield _KEEP_ALIVE
                    continue
                try:
                    stored = await self._lookup.stored(standing.caller, turn.id)
                except DatabaseUnavailableError:
                    yield _KEEP_ALIVE
                    await place.rest(_READ_AGAIN_SECONDS)
                    continue
                # A turn that another owner sent, and that was refused, has no events. One that is deleted by now has
                # those that this gateway knows.
                if stored:
                    skips = has_seen(after, stored.resource)
                else:
                    skips = not standing.caller.sees(turn.owner) or (after is not None and after.ended)
                if not skips:
                    cursor = TurnCursor(turn.id, ref.id, after)
                    subscription = Subscription(standing.caller.request(turn.id), cursor, stored)
                    with self._hub.watch(subscription.ref) as live:
                        yield self._begin(subscription, live)
                        async for chunk in self._follow(subscription, live, standing):
                            yield chunk
                    if not cursor.ended:
                        return
                turn = after = None

    @contextmanager
    def _counted(self, owner: Owner) -> Iterator[None]:
        self._metrics.streams.inc()
        self._open[owner] += 1
        try:
            yield
        finally:
            self._metrics.streams.dec()
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]

    async def _follow(
        self, subscription: Subscription, live: LiveRequest, standing: Standing, patience: float = math.inf
    ) -> AsyncGenerator[bytes, None]:
        writer = subscription.writer
        until = time.monotonic() + patience
        while True:
            seen = live.version
            now = time.monotonic()
            if now >= standing.due and (error := await _lost_access(standing)):
                yield b"".join(writer.break_off(error))
                return
            ending = await self._ending(subscription, live)
            told = writer.end(ending) if ending else writer.catch_up(live)
            over = ending or writer.closed
            if self._drain.begun and not over:
                told += writer.break_off(_SHUTTING_DOWN)
            elif not (told or over) and now >= until:
                told = writer.break_off(OrchestraError(ErrorCode.STILL_RUNNING, live.delay))
                over = True
            if told:
                yield b"".join(told)
                until = now + patience
            if over or self._drain.begun:
                return
            # An ending whose reply cannot be read from Postgres now is read again soon.
            seconds = _READ_AGAIN_SECONDS if live.ending else self._timings.keep_alive
            if not await live.change(seen, min(seconds, standing.due - now, until - now)):
                yield _KEEP_ALIVE

    async def _ending(self, subscription: Subscription, live: LiveRequest) -> Ending | None:
        try:
            live.check_hash(subscription.body_hash)
        except OrchestraError as error:
            return Ending(Status.FAILED, 0, error=RequestError(code=error.code, detail=error.detail))
        ending = subscription.ending or live.ending
        return await self._lookup.with_reply(subscription.ref, ending) if ending else None


async def _lost_access(standing: Standing) -> OrchestraError | None:
    try:
        await standing.check()
    except OrchestraError as error:
        return error
    return None
