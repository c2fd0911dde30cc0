"""The state of one open request, built from its events: attempt, answer so far, ending; wakes its waits and streams."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from gateway.following.window import Window
from orchestra.store.requests import StoredRequest
from orchestra.transcript import Piece, pieces_of
from schemas.api.requests import RequestResource
from schemas.content import Item
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage
from schemas.replies import RequestError
from schemas.status import Status

_OVERHEAD_BYTES = 1024


@dataclass(frozen=True)
class Ending:
    """How a request ended. ``reply`` None of a completed one: too long for a record, so it must be read in Postgres.

    ``output``: the items of the answer, if it is more than one text.
    """

    status: Status
    attempt: int
    reply: str | None = None
    usage: Usage | None = None
    error: RequestError | None = None
    model: str | None = None
    finish_reason: FinishReason | None = None
    output: list[Item] | None = None

    @classmethod
    def of(cls, resource: RequestResource) -> "Ending":
        """The ending of a request that has ended."""
        return cls(
            resource.status, resource.attempts or 0, resource.reply, resource.usage, resource.error, resource.model,
            resource.finish_reason, resource.output,
        )  # fmt: skip

    @property
    def pieces(self) -> list[Piece]:
        """The answer, in pieces."""
        return pieces_of(self.reply or "", self.output)


class LiveRequest:
    """What this gateway knows of one open request. ``window``: the newest part of the current attempt's answer.

    ``last_error``: the error of the newest failed attempt; ``failed``: whether that is the current attempt, so that
    nothing runs until the next one begins. ``version`` grows with every change, ``epoch`` whenever the answer
    so far became void. ``look_at``: when to look it up in Postgres if it has not ended by then; ``looked_at``: when
    that was last done; ``look_after``: the seconds between the two. ``signed``: a signed event has come, and only such
    events count now; ``hearsay``: an unsigned event was applied.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.epoch = 0
        self.version = 0
        self.window = Window()
        self.conversation_id: UUID | None = None
        self.body_hash: str | None = None
        self.ending: Ending | None = None
        self.last_error: RequestError | None = None
        self.failed = False
        self.watchers = 0
        self.look_at = 0.0
        self.look_after = 0.0
        self.looked_at = 0.0
        self.signed = False
        self.hearsay = False
        self.touched = time.monotonic()
        # A dict, because it keeps the order of arrival, and an empty one takes a third of a set's memory.
        self._waiting: dict[asyncio.Future[None], None] = {}

    @property
    def size(self) -> int:
        """Bytes that this request counts for."""
        return _OVERHEAD_BYTES + self.window.bytes

    def begin(self, attempt: int) -> None:
        """Begin a new attempt: the answer of earlier ones is void."""
        self._set(attempt)
        self.touch()

    def restart(self, attempt: int, pieces: Iterable[Piece]) -> None:
        """Replace the answer so far."""
        self._set(attempt, pieces)
        self.touch()

    def fail_attempt(self, attempt: int, error: RequestError) -> None:
        """Note that the attempt failed: its answer is void, and another attempt follows later."""
        if self.failed and (self.attempt, self.last_error) == (attempt, error):
            return
        self._set(attempt)
        self.last_error, self.failed = error, True
        self.touch()

    @property
    def delay(self) -> str:
        """What has delayed the reply, where that is known."""
        error = self.last_error
        return f"not answered yet; the last failed attempt: {error.code}: {error.detail}" if error else ""

    def believe(self) -> None:
        """From now on only signed events count: what unsigned ones have changed is void."""
        if self.hearsay and self.ending is None:
            self.conversation_id, self.last_error = None, None
            self.begin(0)
        self.signed = True

    def add(self, at: int, text: str) -> bool:
        """Add a piece of text, at this unit of the answer; False when all of it was known already."""
        if new := self.window.add(at, text):
            self.touch()
        return new

    def add_piece(self, at: int, piece: Piece) -> bool:
        """Add a piece of any kind, like ``add``."""
        if new := self.window.add_piece(at, piece):
            self.touch()
        return new

    def finish(self, ending: Ending) -> None:
        """Set the ending, unless there is one: it never changes. The answer of an earlier attempt is void."""
        if self.ending is None:
            self.ending = ending
            if ending.attempt > self.attempt:
                self._set(ending.attempt)
            self.touch()

    def learn(self, stored: StoredRequest) -> None:
        """Apply the request's row, which is the truth where events were lost."""
        resource = stored.resource
        self.conversation_id = self.conversation_id or resource.conversation_id
        if self.body_hash is None:
            self.body_hash = stored.body_hash
            self.touch()
        attempts = resource.attempts or 0
        if resource.status.terminal:
            self.finish(Ending.of(resource))
        elif resource.status is Status.IN_PROGRESS and attempts > self.attempt:
            self.begin(attempts)
            self.last_error = resource.last_error
        elif resource.status is Status.PENDING and resource.last_error and attempts >= self.attempt:
            self.fail_attempt(attempts, resource.last_error)

    def forget_text(self) -> None:
        """Free the memory of the answer; readers that are behind receive the rest with the ending."""
        self.window.clear(self.window.end)

    def check_hash(self, expected: str | None) -> None:
        """Raise ``IDEMPOTENCY_KEY_REUSED`` when the request is known to have another body than the caller's."""
        if expected is not None and self.body_hash is not None and self.body_hash != expected:
            raise OrchestraError(ErrorCode.IDEMPOTENCY_KEY_REUSED)

    def touch(self) -> None:
        """Wake all that wait for a change."""
        self.version += 1
        self.touched = time.monotonic()
        for waiter in self._waiting:
            _wake(waiter)

    async def change(self, seen: int, seconds: float) -> bool:
        """Wait until ``version`` differs from ``seen``. False if it has not changed after ``seconds``."""
        if self.version != seen:
            return True
        # This runs per caller and per piece of text: an asyncio.Event in a timeout would be most of that cost.
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, waiter)
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            timer.cancel()
            del self._waiting[waiter]
        return self.version != seen

    def _set(self, attempt: int, pieces: Iterable[Piece] = ()) -> None:
        self.attempt = attempt
        self.failed = False
        self.epoch += 1
        self.window.clear(0)
        for piece in pieces:
            self.window.append(piece)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
