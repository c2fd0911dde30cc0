"""⑩ Which turns of a conversation come next, for the streams that follow conversations: one look for all of them."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestra.store.next_turns import NextTurn
from orchestra.store.turns import ConversationRef

# Look in Postgres with back-off (1 s, doubling, at most 10 s), in case no event shows that there is a new turn.
_LOOK_AFTER_SECONDS = 1.0
_LOOK_AT_LEAST_SECONDS = 10.0


class Place:
    """How far one stream has come in a conversation.

    ``after``: the number of the last turn that is known here; ``deleted``: there is no such conversation any more.
    """

    def __init__(self, ref: ConversationRef, after: int, hinted: asyncio.Event) -> None:
        self.ref = ref
        self.after = after
        self.deleted = False
        self.look_at = time.monotonic()
        self.looked_at = float("-inf")
        self.look_after = _LOOK_AFTER_SECONDS
        self._known: deque[NextTurn] = deque()
        self._changed = asyncio.Event()
        self._look_soon = hinted
        self._waits = False

    @property
    def due(self) -> bool:
        """Whether to look for its next turns now. While its stream is in the middle of a turn, it needs none."""
        return self._waits and self.look_at <= time.monotonic()

    async def next(self, seconds: float) -> NextTurn | None:
        """The next turn; None if there is none after ``seconds``, or ``wake`` was called."""
        if not self._known and not self.deleted:
            await self._wait(seconds)
        return self._known.popleft() if self._known else None

    async def rest(self, seconds: float) -> None:
        """Wait for ``seconds``, or until ``wake`` is called."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def hint(self, *, at_once: bool) -> None:
        """There may be a new turn. ``at_once`` False: look at most once per second, however many hints come."""
        soon = time.monotonic() if at_once else max(time.monotonic(), self.looked_at + _LOOK_AFTER_SECONDS)
        self.look_at = min(self.look_at, soon)
        self.look_after = _LOOK_AFTER_SECONDS

    def learn(self, turns: Sequence[NextTurn], *, deleted: bool) -> None:
        """Note what a look has found."""
        now = time.monotonic()
        self.looked_at, self.look_at = now, now + self.look_after
        self.look_after = min(2 * self.look_after, _LOOK_AT_LEAST_SECONDS)
        new = [turn for turn in turns if turn.seq > self.after]
        # A deleted conversation's stream shows its last turns before it ends.
        self.deleted = self.deleted or (deleted and not new)
        if new:
            self._known.extend(new)
            self.after = new[-1].seq
            # There may be more than one look shows.
            self.look_at, self.look_after = now, _LOOK_AFTER_SECONDS
        if new or deleted:
            self.wake()

    def wake(self) -> None:
        """End a wait of the stream: there are new turns, or the gateway shuts down."""
        self._changed.set()

    async def _wait(self, seconds: float) -> None:
        self._waits = True
        if self.due:
            self._look_soon.set()
        try:
            await self.rest(seconds)
        finally:
            self._waits = False


class Turns:
    """The places of all streams of conversations. ``hinted`` is set when there is one to look for at once.

    ``places``: by conversation; empty if no stream follows any.
    """

    def __init__(self, hinted: asyncio.Event) -> None:
        self._hinted = hinted
        self.places: dict[ConversationRef, list[Place]] = {}

    @contextmanager
    def watch(self, ref: ConversationRef, after: int) -> Iterator[Place]:
        """Follow a conversation from behind this turn on."""
        place = Place(ref, after, self._hinted)
        self.places.setdefault(ref, []).append(place)
        try:
            yield place
        finally:
            self.places[ref].remove(place)
            if not self.places[ref]:
                del self.places[ref]

    def hint(self, ref: ConversationRef, *, at_once: bool = True) -> None:
        """There may be a new turn in this conversation, or it may be deleted."""
        for place in self.places.get(ref, ()):
            place.hint(at_once=at_once)
            self._hinted.set()

    def due(self) -> list[Place]:
        """The places to look for now."""
        return [place for places in self.places.values() for place in places if place.due]

    def wake_all(self) -> None:
        """End the waits of all streams."""
        for places in self.places.values():
            for place in places:
                place.wake()
