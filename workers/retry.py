"""Pure functions: the outcome that follows from the error of an attempt."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestra.store.claims import Claimed
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from workers.outcome import Expired, Failed, Outcome, RetryLater

Uniform = Callable[[float, float], float]
"""Draws a random number between two bounds."""

MAX_SECONDS = 120.0
MAX_SECONDS_WHILE_CALLER_WAITS = 2.0
MAX_RETRY_AFTER = 120.0
_MAX_DOUBLINGS = 20
# The first attempts are not slowed down by their number: a model that is only full accepts them soon.
FIRST_ATTEMPTS = 3


@dataclass(frozen=True)
class Pace:
    """The back-off of a model that refuses calls.

    It starts at ``first_seconds``, doubles with each refusal, and is at most ``max_seconds``. ``patience``: the longest
    back-off, in seconds, for which a blocking client is kept waiting.
    """

    first_seconds: float
    max_seconds: float
    patience: float = math.inf

    def wait(self, refusals: int, uniform: Uniform) -> float:
        """Seconds to wait after this many refusals in a row, with jitter on top."""
        doublings = min(max(refusals - 1, 0), _MAX_DOUBLINGS)
        return min(self.max_seconds, self.first_seconds * 2.0**doublings * uniform(1.0, 1.25))


ACCOUNT = frozenset({ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED})
"""Faults of the account: no call can succeed until an operator has fixed the account."""

OUTAGES = frozenset({ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE})
"""Faults of the model that may last. A blocking client's request has few tries for them."""

PACES = {
    ErrorCode.AUTH: Pace(30.0, 300.0, patience=0.0),
    ErrorCode.QUOTA_EXHAUSTED: Pace(30.0, 300.0, patience=0.0),
    ErrorCode.RATE_LIMITED: Pace(1.0, MAX_RETRY_AFTER),
    ErrorCode.OVERLOADED: Pace(1.0, 120.0),
    ErrorCode.UNAVAILABLE: Pace(1.0, 120.0, patience=10.0),
}
"""The errors for which the whole model is held back, each with its back-off (docs/decisions/0019)."""


def after_error(turn: Claimed, error: OrchestraError, uniform: Uniform, held: float = 0.0) -> Outcome:
    """Decide between a retry with back-off and an ending.

    ``turn`` has the time that is left now. ``held``: seconds for which the model is held back. An error that holds the
    model back costs no try, because it says nothing about the request. Its back-off grows with the attempt's number,
    which is never given back. A blocking client gets the error at once if it cannot pass before the client gives up,
    and after few tries if it is an outage.
    """
    code, detail = error.code, error.detail
    if not ERRORS[code].retryable or _is_final(turn, code):
        return Failed(code, detail)
    delay = max(held, _delay(turn, error, uniform))
    if turn.caller_waits and code in PACES and delay >= min(turn.caller_seconds, PACES[code].patience):
        return Failed(code, f"{detail} (no further attempt within {delay:.0f} s)")
    if delay >= turn.seconds_left:
        return Expired((code, detail))
    return RetryLater(delay, _is_free(turn, code), code, detail)


def _is_free(turn: Claimed, code: ErrorCode) -> bool:
    return code in PACES and not (turn.caller_waits and code in OUTAGES)


def _is_final(turn: Claimed, code: ErrorCode) -> bool:
    """Whether this retryable error ends the request all the same."""
    if _is_free(turn, code):
        return turn.caller_waits and code in ACCOUNT
    # Empty twice in a row: a third answer would cost money and most likely be empty too.
    return turn.tries >= turn.max_tries or turn.last_error == code == ErrorCode.EMPTY_REPLY


def _delay(turn: Claimed, error: OrchestraError, uniform: Uniform) -> float:
    if error.code is ErrorCode.ANSWER_MISMATCH:  # A schema mismatch is not an outage: retry at once.
        return 0.0
    limit = MAX_SECONDS_WHILE_CALLER_WAITS if turn.caller_waits else MAX_SECONDS
    if pace := PACES.get(error.code):
        wait = pace.wait(turn.fence - FIRST_ATTEMPTS + 1, uniform)
        wait = min(wait, limit) if turn.caller_waits else wait
    else:
        longest = min(limit, 4.0 ** min(turn.tries, _MAX_DOUBLINGS) / 2)
        wait = uniform(longest / 2, longest)
    if error.retry_after is None:
        return wait
    # Later than advised, with jitter, so that the retries do not all come at once.
    asked = min(error.retry_after, MAX_RETRY_AFTER)
    return max(wait, asked + uniform(0, 1 + asked / 4))
