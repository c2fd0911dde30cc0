"""A client that leaves the call that sent its request: the request goes on or, if asked for, is cancelled."""

import asyncio
from functools import partial

import structlog

from gateway.accept import Acceptance
from gateway.drain import Drain
from gateway.following.live import LiveRequest
from gateway.http.leaving import Left
from gateway.metrics import Metrics
from gateway.submission import Submission
from gateway.timings import TIMINGS, Timings
from schemas.errors import OrchestraError

_TRIES = 5
_CLOSE_SECONDS = 3.0

log = structlog.get_logger()


class Disconnects:
    """Cancels requests whose clients have left. The cancels outlive the calls, and ``close`` waits for them."""

    def __init__(self, acceptance: Acceptance, drain: Drain, metrics: Metrics, timings: Timings = TIMINGS) -> None:
        self._acceptance = acceptance
        self._drain = drain
        self._metrics = metrics
        self._timings = timings
        self._cancels: set[asyncio.Task[None]] = set()

    def cancel(self, submission: Submission, live: LiveRequest) -> Left:
        """For the call that sent this request, and for no other: cancel the request if the client leaves.

        Nothing is cancelled once the answer is complete, or while this gateway shuts down: then it is the gateway that
        leaves. Nor is the request of an earlier call that used the same key for another body.
        """
        return partial(self._left, submission, live)

    async def close(self) -> None:
        """Wait a bounded time for the cancels that are on their way; the rest is dropped."""
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=_CLOSE_SECONDS)
        for task in self._cancels:
            task.cancel()

    def _left(self, submission: Submission, live: LiveRequest) -> None:
        if self._drain.begun or live.ending or live.body_hash not in (None, submission.body_hash):
            return
        task = asyncio.create_task(self._cancel(submission))
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    async def _cancel(self, submission: Submission) -> None:
        for left in reversed(range(_TRIES)):
            try:
                await self._acceptance.cancel(submission.caller, submission.id, submission.conversation_id)
            except OrchestraError as error:
                if not left:
                    log.warning("disconnect_not_cancelled", request_id=str(submission.id), code=error.code)
                    return
                await asyncio.sleep(self._timings.retry_cancel)
            else:
                self._metrics.disconnect_cancels.inc()
                return
