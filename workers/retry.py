"""Pure: what follows from an error of an attempt."""

from collections.abc import Callable

from orchestra.store.claims import Claimed
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from workers.outcome import Expired, Failed, Outcome, RetryLater

MOST_SECONDS = 30.0
MOST_SECONDS_WHILE_CALLER_WAITS = 2.0
MOST_RETRY_AFTER = 120.0
_AUTH_SECONDS = 30.0


def after_error(turn: Claimed, error: OrchestraError, uniform: Callable[[float, float], float]) -> Outcome:
    """Retry with back-off, or end.

    ``uniform(a, b)`` draws a number between a and b. A rate limit costs no try, for it means only "not now"; nor do
    refused credentials, which an operator mends; but a caller who waits on an open connection is told of those.
    A model whose answer does not fit is well, and asked again at once.
    """
    if not ERRORS[error.code].retryable or (turn.caller_waits and error.code is ErrorCode.AUTH):
        return Failed(error.code, error.detail)
    free = error.code in (ErrorCode.RATE_LIMITED, ErrorCode.AUTH)
    if turn.tries >= turn.max_tries and not free:
        return Failed(error.code, error.detail)
    delay = _delay(turn, error, uniform)
    return Expired() if delay >= turn.seconds_left else RetryLater(delay, free, error.code, error.detail)


def _delay(turn: Claimed, error: OrchestraError, uniform: Callable[[float, float], float]) -> float:
    if error.code is ErrorCode.ANSWER_MISMATCH:
        return 0.0
    if error.code is ErrorCode.AUTH:
        return uniform(_AUTH_SECONDS / 2, _AUTH_SECONDS)
    most = MOST_SECONDS_WHILE_CALLER_WAITS if turn.caller_waits else MOST_SECONDS
    if error.retry_after is not None:
        # A little later than told, and not all at once.
        asked = min(error.retry_after, MOST_RETRY_AFTER)
        return min(most, asked) if turn.caller_waits else asked + uniform(0, 1 + asked / 4)
    return uniform(min(1.0, most / 4), min(most, 2.0**turn.tries))
