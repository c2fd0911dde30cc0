"""Pure: what follows from an error of an attempt."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestra.store.claims import Claimed
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from workers.outcome import Expired, Failed, Outcome, RetryLater

Uniform = Callable[[float, float], float]
"""Draws a number between two."""

MOST_SECONDS = 120.0
MOST_SECONDS_WHILE_CALLER_WAITS = 2.0
MOST_RETRY_AFTER = 120.0
_MOST_DOUBLINGS = 20
# So many attempts are not slowed down by their number: a model that is only full lets them in soon.
FIRST_ATTEMPTS = 3


@dataclass(frozen=True)
class Pace:
    """How long to leave a model alone that refuses: ``first`` seconds, doubled with each refusal, at most ``most``.

    ``patience``: seconds for which a caller who holds a connection open is kept waiting for it.
    """

    first: float
    most: float
    patience: float = math.inf

    def wait(self, refusals: int, uniform: Uniform) -> float:
        """Seconds to wait after so many refusals in a row. A little more than told, and not all alike."""
        doublings = min(max(refusals - 1, 0), _MOST_DOUBLINGS)
        return min(self.most, self.first * 2.0**doublings * uniform(1.0, 1.25))


ACCOUNT = frozenset({ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED})
"""Faults of the account: no call can succeed before somebody has done something about it."""

OUTAGES = frozenset({ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE})
"""Faults of the model that may last; a caller who waits on an open connection has few tries for them."""

PACES = {
    ErrorCode.AUTH: Pace(30.0, 300.0, patience=0.0),
    ErrorCode.QUOTA_EXHAUSTED: Pace(30.0, 300.0, patience=0.0),
    ErrorCode.RATE_LIMITED: Pace(1.0, MOST_RETRY_AFTER),
    ErrorCode.OVERLOADED: Pace(1.0, 120.0),
    ErrorCode.UNAVAILABLE: Pace(1.0, 120.0, patience=10.0),
}
"""The refusals for which the whole model is held back (docs/decisions/0019), and for how long."""


def after_error(turn: Claimed, error: OrchestraError, uniform: Uniform, held: float = 0.0) -> Outcome:
    """Retry with back-off, or end.

    ``turn`` says how much time is left now; ``held``: seconds for which the model is held back. What holds it back
    costs no try, for it says nothing about the request, and is slowed down by the number of the attempt, which no path
    gives back. A caller who waits on an open connection is told at once of what cannot pass before they give up, and of
    an outage after their few tries.
    """
    code, detail = error.code, error.detail
    if not ERRORS[code].retryable or _is_final(turn, code):
        return Failed(code, detail)
    delay = max(held, _delay(turn, error, uniform))
    if turn.caller_waits and code in PACES and delay >= min(turn.caller_seconds, PACES[code].patience):
        return Failed(code, f"{detail} (no other attempt before {delay:.0f} s)")
    if delay >= turn.seconds_left:
        return Expired((code, detail))
    return RetryLater(delay, _is_free(turn, code), code, detail)


def _is_free(turn: Claimed, code: ErrorCode) -> bool:
    return code in PACES and not (turn.caller_waits and code in OUTAGES)


def _is_final(turn: Claimed, code: ErrorCode) -> bool:
    """Whether a request that might be tried again after this error has had its chances."""
    if _is_free(turn, code):
        return turn.caller_waits and code in ACCOUNT
    # Empty twice: the third answer would be paid for and empty too.
    return turn.tries >= turn.max_tries or turn.last_error == code == ErrorCode.EMPTY_REPLY


def _delay(turn: Claimed, error: OrchestraError, uniform: Uniform) -> float:
    if error.code is ErrorCode.ANSWER_MISMATCH:  # The model is well, so there is nothing to wait for.
        return 0.0
    most = MOST_SECONDS_WHILE_CALLER_WAITS if turn.caller_waits else MOST_SECONDS
    if pace := PACES.get(error.code):
        wait = pace.wait(turn.fence - FIRST_ATTEMPTS + 1, uniform)
        wait = min(wait, most) if turn.caller_waits else wait
    else:
        longest = min(most, 4.0 ** min(turn.tries, _MOST_DOUBLINGS) / 2)
        wait = uniform(longest / 2, longest)
    if error.retry_after is None:
        return wait
    # A little later than told, and not all at once.
    asked = min(error.retry_after, MOST_RETRY_AFTER)
    return max(wait, asked + uniform(0, 1 + asked / 4))
