"""Waits for the ending of a request, and turns it into the response of a POST."""

import time
from uuid import UUID

from fastapi import Response

from gateway.drain import Drain
from gateway.following.live import Ending, LiveRequest
from gateway.following.lookup import Lookup
from gateway.http.problems import RequestProblemError
from gateway.http.responses import json_answer
from gateway.metrics import Metrics
from gateway.people.standing import Standing
from gateway.submission import Submission
from orchestra.store.turns import RequestRef
from schemas.api.messages import MessageReply
from schemas.errors import ErrorCode, ending_status
from schemas.status import Status

_READ_AGAIN_SECONDS = 0.5


class EndingWaiter:
    """Waits for the endings of requests."""

    def __init__(self, lookup: Lookup, drain: Drain, metrics: Metrics) -> None:
        self._lookup = lookup
        self._drain = drain
        self._metrics = metrics

    async def ending(
        self, ref: RequestRef, live: LiveRequest, seconds: float, standing: Standing, body_hash: str | None = None
    ) -> Ending | None:
        """The ending with its reply; None if it has not come after ``seconds``, or this gateway shuts down.

        Raises ``IDEMPOTENCY_KEY_REUSED`` when the body of the request does not have this hash, and what
        ``Standing.check`` raises.
        """
        began = time.monotonic()
        self._metrics.waits.inc()
        try:
            while True:
                seen = live.version
                if (now := time.monotonic()) >= standing.due:
                    await standing.check()
                live.check_hash(body_hash)
                ending = await self._lookup.with_reply(ref, live.ending) if live.ending else None
                left = began + seconds - time.monotonic()
                if ending is not None or self._drain.begun or left <= 0:
                    return ending
                left = min(left, standing.due - now)
                await live.change(seen, min(left, _READ_AGAIN_SECONDS) if live.ending else left)
        finally:
            self._metrics.waits.dec()
            self._metrics.wait_seconds.observe(time.monotonic() - began)


def still_running(submission: Submission, live: LiveRequest) -> RequestProblemError:
    """The response to a POST whose wait is over: what has delayed its reply, where that is known."""
    return RequestProblemError(ErrorCode.STILL_RUNNING, live.delay, request_id=submission.id)


def answer(submission: Submission, ending: Ending, default_model: str) -> Response:
    """The response to a POST whose request has ended. Raises ``RequestProblemError`` unless it was completed."""
    if ending.status is not Status.COMPLETED:
        raise failure(ending, submission.id)
    reply = MessageReply(
        conversation_id=submission.conversation_id,
        reply=ending.reply or "",
        request_id=submission.id,
        model=ending.model or submission.body.model or default_model,
        usage=ending.usage,
        finish_reason=ending.finish_reason,
        metadata=submission.body.metadata,
        output=ending.output,
        warnings=list(submission.warnings),
    )
    return json_answer(reply)


def failure(ending: Ending, request_id: UUID) -> RequestProblemError:
    """The error of a request that ended without an answer."""
    match ending.status:
        case Status.EXPIRED:
            code, detail = ErrorCode.EXPIRED, ""
        case Status.CANCELLED:
            code, detail = ErrorCode.CANCELLED, ""
        case _:
            code, detail = (ending.error.code, ending.error.detail) if ending.error else (ErrorCode.INTERNAL, "")
    return RequestProblemError(code, detail, request_id=request_id, status=ending_status(code))
