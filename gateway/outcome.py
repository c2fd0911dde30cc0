"""How a request ended → the answer of a POST that waited for it, row by row as the interface has it."""

import time
from http import HTTPStatus

from fastapi import Response

from gateway.accept import Ask
from gateway.answers import json_answer
from gateway.drain import Drain
from gateway.live import Ending, LiveRequest
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.problems import RequestProblemError
from orchestra.store.turns import Ref
from schemas.api.messages import MessageReply
from schemas.errors import ErrorCode
from schemas.status import Status

# What the caller did wrong shows as that, though only a worker could tell.
_OWN_STATUS = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.UNKNOWN_AGENT,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.NOT_FOUND,
        ErrorCode.CONVERSATION_BUSY,
        ErrorCode.CONVERSATION_DELETED,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
    }
)
_READ_AGAIN_SECONDS = 0.5


class Waiting:
    """Waits for endings."""

    def __init__(self, lookup: Lookup, drain: Drain, metrics: Metrics) -> None:
        self._lookup = lookup
        self._drain = drain
        self._metrics = metrics

    async def ending(self, ref: Ref, live: LiveRequest, seconds: float, body_hash: str | None = None) -> Ending | None:
        """The ending, with its reply; None when it has not come in so many seconds, or this gateway is to stop.

        Raises ``IDEMPOTENCY_KEY_REUSED`` when the request has another body than the one with this hash.
        """
        began = time.monotonic()
        self._metrics.waits.inc()
        try:
            while True:
                seen = live.version
                live.check_hash(body_hash)
                ending = await self._lookup.with_reply(ref, live.ending) if live.ending else None
                left = began + seconds - time.monotonic()
                if ending is not None or self._drain.begun or left <= 0:
                    return ending
                await live.change(seen, min(left, _READ_AGAIN_SECONDS) if live.ending else left)
        finally:
            self._metrics.waits.dec()
            self._metrics.wait_seconds.observe(time.monotonic() - began)


def still_running(ask: Ask, live: LiveRequest) -> RequestProblemError:
    """The answer of a POST that has waited long enough: what has held its reply up, where that is known."""
    error = live.last_error
    detail = f"it is not answered yet; the last attempt that failed: {error.code}: {error.detail}" if error else ""
    return RequestProblemError(ErrorCode.STILL_RUNNING, detail, request_id=ask.id)


def answer(ask: Ask, ending: Ending, default_model: str) -> Response:
    """The answer of a POST whose request has ended. Raises ``RequestProblemError`` unless it was completed."""
    match ending.status:
        case Status.COMPLETED:
            reply = MessageReply(
                conversation_id=ask.conversation_id,
                reply=ending.reply or "",
                request_id=ask.id,
                model=ending.model or ask.body.model or default_model,
                usage=ending.usage,
                finish_reason=ending.finish_reason,
                metadata=ask.body.metadata,
                warnings=list(ask.warnings),
            )
            return json_answer(reply)
        case Status.EXPIRED:
            raise RequestProblemError(ErrorCode.EXPIRED, request_id=ask.id)
        case Status.CANCELLED:
            raise RequestProblemError(ErrorCode.CANCELLED, request_id=ask.id)
    code, detail = (ending.error.code, ending.error.detail) if ending.error else (ErrorCode.INTERNAL, "")
    status = None if code in _OWN_STATUS else HTTPStatus.BAD_GATEWAY
    raise RequestProblemError(code, detail, request_id=ask.id, status=status)
