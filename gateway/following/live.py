"""The state of one open request, built from its events: attempt, text so far, ending; wakes its waits and streams."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from uuid import UUID

from orchestra.store.requests import StoredRequest
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage
from schemas.replies import RequestError
from schemas.status import Status

MAX_TEXT_BYTES = 64 * 1024
# More pieces than this are joined: each piece costs more memory than its text.
_MAX_PIECES = 64
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True)
class Ending:
    """How a request ended. ``reply`` None of a completed one: too long for a record, so it must be read in Postgres."""

    status: Status
    attempt: int
    reply: str | None = None
    usage: Usage | None = None
    error: RequestError | None = None
    model: str | None = None
    finish_reason: FinishReason | None = None


class LiveRequest:
    """The text held here is a window: code points ``base`` to ``end`` of the current attempt's text.

    ``last_error``: the error of the newest failed attempt; ``failed``: whether that is the current attempt, so that
    nothing runs until the next one begins. ``version`` grows with every change, ``epoch`` whenever the text so far
    became void. ``look_at``: when to look it up in Postgres if it has not ended by then; ``looked_at``: when that was
    last done; ``look_after``: the seconds between the two. ``signed``: a signed event has come, and only such events
    count now; ``hearsay``: an unsigned event was applied.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.epoch = 0
        self.version = 0
        self.base = 0
        self.end = 0
        self.text_bytes = 0
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
        self._pieces: deque[str] = deque()
        # A dict, because it keeps the order of arrival, and an empty one takes a third of a set's memory.
        self._waiting: dict[asyncio.Future[None], None] = {}

    @property
    def size(self) -> int:
        """Bytes that this request counts for."""
        return _OVERHEAD_BYTES + self.text_bytes

    def begin(self, attempt: int) -> None:
        """Begin a new attempt: the text of earlier ones is void."""
        self._set_text(attempt, 0, "")
        self.touch()

    def restart(self, attempt: int, text: str) -> None:
        """Replace the text so far."""
        self._set_text(attempt, 0, text)
        self.touch()

    def fail_attempt(self, attempt: int, error: RequestError) -> None:
        """Note that the attempt failed: its text is void, and another attempt follows later."""
        if self.failed and (self.attempt, self.last_error) == (attempt, error):
            return
        self._set_text(attempt, 0, "")
        self.last_error, self.failed = error, True
        self.touch()

    def believe(self) -> None:
        """From now on only signed events count: what unsigned ones have changed is void."""
        if self.hearsay and self.ending is None:
            self.conversation_id, self.last_error = None, None
            self.begin(0)
        self.signed = True

    def add(self, at: int, text: str) -> bool:
        """Add a piece of text that begins at code point ``at``; False when all of it was known already."""
        if at + len(text) <= self.end:
            return False
        if at > self.end:
            # A piece in between was lost: the window starts again here.
            self._drop_pieces(at)
        piece = text[self.end - at :]
        self._pieces.append(piece)
        self.end += len(piece)
        self.text_bytes += _bytes(piece)
        if self.text_bytes > MAX_TEXT_BYTES:
            self._keep_newest_half()
        elif len(self._pieces) > _MAX_PIECES:
            self._pieces = deque(["".join(self._pieces)])
        self.touch()
        return True

    def since(self, position: int) -> str | None:
        """The text from this code point on; None when it is outside the window."""
        if position < self.base:
            return None
        wanted: list[str] = []
        start = self.end
        for piece in reversed(self._pieces):
            if start <= position:
                break
            start -= len(piece)
            wanted.append(piece)
        return "".join(reversed(wanted))[position - start :] if wanted else ""

    def finish(self, ending: Ending) -> None:
        """Set the ending, unless there is one: it never changes."""
        if self.ending is None:
            self.ending = ending
            self.attempt = max(self.attempt, ending.attempt)
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
            self.finish(
                Ending(
                    resource.status, attempts, resource.reply, resource.usage, resource.error, resource.model,
                    resource.finish_reason,
                )
            )  # fmt: skip
        elif resource.status is Status.IN_PROGRESS and attempts > self.attempt:
            self.begin(attempts)
            self.last_error = resource.last_error
        elif resource.status is Status.PENDING and resource.last_error and attempts >= self.attempt:
            self.fail_attempt(attempts, resource.last_error)

    def forget_text(self) -> None:
        """Free the memory of the text; readers that are behind receive the rest with the ending."""
        self._drop_pieces(self.end)

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

    def _set_text(self, attempt: int, base: int, text: str) -> None:
        self.attempt = attempt
        self.failed = False
        self.epoch += 1
        self._drop_pieces(base)
        if text:
            self._pieces.append(text)
            self.end += len(text)
            self.text_bytes = _bytes(text)
            if self.text_bytes > MAX_TEXT_BYTES:
                self._keep_newest_half()

    def _keep_newest_half(self) -> None:
        text, end = "".join(self._pieces), self.end
        kept = text[-(len(text) // 2) :] if _bytes(text) <= 2 * MAX_TEXT_BYTES else ""
        self._drop_pieces(end - len(kept))
        if kept:
            self._pieces.append(kept)
            self.end, self.text_bytes = end, _bytes(kept)

    def _drop_pieces(self, position: int) -> None:
        self._pieces.clear()
        self.base = self.end = position
        self.text_bytes = 0


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
