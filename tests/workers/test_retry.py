"""Promises of workers/retry.py: what follows from an error, whatever the dice say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ERRORS, ErrorCode, OrchestraError
from tests.support.records import claimed
from workers.outcome import Expired, Failed, RetryLater
from workers.retry import MOST_RETRY_AFTER, MOST_SECONDS, after_error

RETRYABLE = sorted(code for code in ErrorCode if ERRORS[code].retryable)
FREE = {ErrorCode.RATE_LIMITED, ErrorCode.AUTH}
RETRY_AFTER = st.none() | st.floats(0, allow_nan=False)
DICE = st.integers().map(lambda seed: random.Random(seed).uniform)


@given(st.sampled_from(RETRYABLE), st.integers(1, 100), st.booleans(), RETRY_AFTER, DICE)
def test_a_delay_is_never_negative_and_never_endless(
    code: ErrorCode, tries: int, caller_waits: bool, retry_after: float | None, uniform: object
) -> None:
    """Half a minute without advice, two minutes and a quarter with it, two seconds for a caller who waits."""
    turn = claimed(tries=tries, max_tries=1000, caller_waits=caller_waits, seconds_left=1e9)
    outcome = after_error(turn, OrchestraError(code, retry_after=retry_after), uniform)  # type: ignore[arg-type]

    if isinstance(outcome, Failed):
        assert (code, caller_waits) == (ErrorCode.AUTH, True)
    else:
        assert isinstance(outcome, RetryLater)
        most = MOST_SECONDS if retry_after is None or code is ErrorCode.AUTH else MOST_RETRY_AFTER * 1.25 + 1
        assert 0 <= outcome.delay <= (2 if caller_waits else most)


@given(st.integers(1, 100), st.booleans())
def test_the_back_off_grows_within_its_range(tries: int, caller_waits: bool) -> None:
    """Full jitter: from a second, or half for a caller who waits, up to two to the power of the tries, capped."""
    ranges = []

    def draw(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    turn = claimed(tries=tries, max_tries=1000, caller_waits=caller_waits)
    after_error(turn, OrchestraError(ErrorCode.BAD_UPSTREAM), draw)

    assert [(0.5 if caller_waits else 1.0, min(2.0 if caller_waits else 30.0, 2.0**tries))] == ranges


def test_a_model_whose_answer_does_not_fit_is_asked_again_at_once() -> None:
    """It is well, so there is nothing to wait for; but it has cost a try."""
    outcome = after_error(claimed(tries=4), OrchestraError(ErrorCode.ANSWER_MISMATCH, "detail"), random.uniform)

    assert RetryLater(0, False, ErrorCode.ANSWER_MISMATCH, "detail") == outcome


@given(st.floats(0, 120), DICE)
def test_advice_is_followed(retry_after: float, uniform: object) -> None:
    """Not before the time that was named, and not all at the same moment."""
    turn = claimed()
    error = OrchestraError(ErrorCode.RATE_LIMITED, retry_after=retry_after)

    outcome = after_error(turn, error, uniform)  # type: ignore[arg-type]

    assert isinstance(outcome, RetryLater)
    assert retry_after <= outcome.delay <= retry_after * 1.25 + 1


@given(st.sampled_from(RETRYABLE), st.floats(0, 200), RETRY_AFTER, DICE)
def test_nothing_is_tried_after_the_deadline(
    code: ErrorCode, seconds_left: float, retry_after: float | None, uniform: object
) -> None:
    """An attempt that could not begin in time is no attempt: the turn expires."""
    turn = claimed(seconds_left=seconds_left)
    outcome = after_error(turn, OrchestraError(code, retry_after=retry_after), uniform)  # type: ignore[arg-type]

    assert isinstance(outcome, Expired | RetryLater)
    assert isinstance(outcome, Expired) or outcome.delay < seconds_left


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - set(RETRYABLE)))
def test_what_cannot_help_is_not_tried(code: ErrorCode) -> None:
    """The turn fails at once, with the reason."""
    assert Failed(code, "detail") == after_error(claimed(), OrchestraError(code, "detail"), random.uniform)


@pytest.mark.parametrize("code", RETRYABLE)
def test_the_last_try_is_the_last(code: ErrorCode) -> None:
    """After it the turn fails, unless the error costs no try."""
    outcome = after_error(claimed(tries=5, max_tries=5), OrchestraError(code, "detail"), random.uniform)

    assert (code in FREE) == isinstance(outcome, RetryLater)
    assert isinstance(outcome, RetryLater) or outcome == Failed(code, "detail")


@pytest.mark.parametrize("code", RETRYABLE)
def test_only_not_now_and_not_us_cost_no_try(code: ErrorCode) -> None:
    """A rate limit and refused credentials give the try back; everything else has spent it."""
    outcome = after_error(claimed(), OrchestraError(code, "detail"), random.uniform)

    assert isinstance(outcome, RetryLater)
    assert (code in FREE, code, "detail") == (outcome.give_try_back, outcome.code, outcome.detail)


def test_a_caller_who_waits_is_told_of_refused_credentials_at_once() -> None:
    """Nobody mends them while a connection is held open."""
    turn = claimed(caller_waits=True, tries=1, max_tries=3)

    assert isinstance(after_error(turn, OrchestraError(ErrorCode.AUTH), random.uniform), Failed)
