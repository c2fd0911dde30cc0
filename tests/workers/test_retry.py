"""Promises of workers/retry.py: the outcome of an error, whatever the random numbers are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ERRORS, ErrorCode, OrchestraError
from tests.support.records import claimed
from workers.outcome import Expired, Failed, RetryLater
from workers.retry import MAX_RETRY_AFTER, PACES, after_error

RETRYABLE = sorted(code for code in ErrorCode if ERRORS[code].retryable)
ACCOUNT = {ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED}
OUTAGES = {ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE}
FREE = ACCOUNT | OUTAGES | {ErrorCode.RATE_LIMITED}
RETRY_AFTER = st.none() | st.floats(0, allow_nan=False)
DICE = st.integers().map(lambda seed: random.Random(seed).uniform)


@given(st.sampled_from(RETRYABLE), st.integers(1, 100), RETRY_AFTER, st.floats(0, 300), DICE)
def test_a_delay_is_never_negative_and_never_endless(
    code: ErrorCode, tries: int, retry_after: float | None, held: float, uniform: object
) -> None:
    """A delay is at most two minutes, a quarter more with advice, or five minutes for the account or a held model."""
    turn = claimed(tries=tries, fence=tries, max_tries=1000, seconds_left=1e9)
    outcome = after_error(turn, OrchestraError(code, retry_after=retry_after), uniform, held)  # type: ignore[arg-type]

    assert isinstance(outcome, RetryLater)
    most = PACES[code].max_seconds if code in PACES else 120.0
    advised = 0.0 if retry_after is None else MAX_RETRY_AFTER * 1.25 + 1
    assert 0 <= outcome.delay <= max(most, advised, held)


@given(st.integers(1, 100), st.booleans())
def test_the_back_off_grows_within_its_range(tries: int, caller_waits: bool) -> None:
    """The back-off quadruples with each try, half of it random, up to two minutes or two seconds."""
    ranges = []

    def draw(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    turn = claimed(tries=tries, max_tries=1000, caller_seconds=60.0 if caller_waits else 0.0)
    after_error(turn, OrchestraError(ErrorCode.BAD_UPSTREAM), draw)

    longest = min(2.0 if caller_waits else 120.0, 2 * 4.0 ** (tries - 1))
    assert [(longest / 2, longest)] == ranges


def test_an_outage_of_a_minute_is_outlived() -> None:
    """A minute of 500s fails no request without a blocking client, whatever the random numbers are."""

    def shortest(low: float, _high: float) -> float:
        return low

    error = OrchestraError(ErrorCode.BAD_UPSTREAM)
    waits = [after_error(claimed(tries=tries), error, shortest) for tries in range(1, 5)]

    assert sum(wait.delay for wait in waits if isinstance(wait, RetryLater)) > 60


@pytest.mark.parametrize("code", sorted(OUTAGES))
def test_an_outage_fails_a_caller_who_waits_after_few_tries(code: ErrorCode) -> None:
    """An outage fails a blocking client within seconds; other requests are kept until the model is back."""
    waiting = claimed(caller_seconds=60.0, tries=3, max_tries=3)
    left = claimed(caller_seconds=0.0, tries=3, max_tries=3)
    error = OrchestraError(code, "detail")

    assert Failed(code, "detail") == after_error(waiting, error, random.uniform)
    kept = after_error(left, error, random.uniform)
    assert isinstance(kept, RetryLater)
    assert kept.give_try_back


def test_a_caller_does_not_wait_for_a_model_that_is_gone_for_long() -> None:
    """A blocking client gets the error at once if the model is held back for more than ten seconds."""
    turn, error = claimed(caller_seconds=60.0), OrchestraError(ErrorCode.UNAVAILABLE, "gone")

    assert isinstance(after_error(turn, error, random.uniform, 9.0), RetryLater)
    assert isinstance(after_error(turn, error, random.uniform, 10.5), Failed)


@pytest.mark.parametrize("code", sorted(PACES))
@given(fence=st.integers(1, 40), uniform=DICE)
def test_what_costs_no_try_is_slowed_down_by_the_number_of_the_attempt(
    code: ErrorCode, fence: int, uniform: object
) -> None:
    """From the fourth attempt on the wait doubles with each, even if the count of tries does not grow."""
    outcome = after_error(claimed(tries=1, fence=fence), OrchestraError(code), uniform)  # type: ignore[arg-type]

    assert isinstance(outcome, RetryLater)
    least = min(PACES[code].max_seconds, PACES[code].first_seconds * 2.0 ** max(0, fence - 3))
    assert least <= outcome.delay <= min(PACES[code].max_seconds, 1.25 * least)


def test_a_model_whose_answer_does_not_fit_is_asked_again_at_once() -> None:
    """A schema mismatch is retried at once and costs a try."""
    outcome = after_error(claimed(tries=4), OrchestraError(ErrorCode.ANSWER_MISMATCH, "detail"), random.uniform)

    assert RetryLater(0, False, ErrorCode.ANSWER_MISMATCH, "detail") == outcome


@given(st.floats(2, 120), DICE)
def test_advice_is_followed(retry_after: float, uniform: object) -> None:
    """A retry never comes before the advised time, and retries are spread out."""
    turn = claimed()
    error = OrchestraError(ErrorCode.RATE_LIMITED, retry_after=retry_after)

    outcome = after_error(turn, error, uniform)  # type: ignore[arg-type]

    assert isinstance(outcome, RetryLater)
    assert retry_after <= outcome.delay <= retry_after * 1.25 + 1


def test_advice_to_come_back_at_once_is_no_reason_to_be_quick() -> None:
    """A Retry-After of zero at the eighth refusal still leads to a wait of half a minute."""
    outcome = after_error(claimed(fence=8), OrchestraError(ErrorCode.RATE_LIMITED, retry_after=0), random.uniform)

    assert isinstance(outcome, RetryLater)
    assert outcome.delay >= 32


@given(st.sampled_from(sorted(PACES)), st.floats(0, 300), DICE)
def test_no_attempt_comes_while_the_model_is_held_back(code: ErrorCode, held: float, uniform: object) -> None:
    """A turn is not runnable before its model is."""
    outcome = after_error(claimed(), OrchestraError(code), uniform, held)  # type: ignore[arg-type]

    assert isinstance(outcome, RetryLater)
    assert outcome.delay >= held


@given(st.sampled_from(RETRYABLE), st.floats(0, 200), RETRY_AFTER, DICE)
def test_nothing_is_tried_after_the_deadline(
    code: ErrorCode, seconds_left: float, retry_after: float | None, uniform: object
) -> None:
    """If the next attempt would start after the deadline, the turn expires and keeps the error."""
    turn = claimed(seconds_left=seconds_left)
    outcome = after_error(turn, OrchestraError(code, "why", retry_after=retry_after), uniform)  # type: ignore[arg-type]

    assert isinstance(outcome, Expired | RetryLater)
    if isinstance(outcome, Expired):
        assert (code, "why") == outcome.error
    else:
        assert outcome.delay < seconds_left


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - set(RETRYABLE)))
def test_what_cannot_help_is_not_tried(code: ErrorCode) -> None:
    """An error that no retry can fix fails the turn at once with the reason."""
    assert Failed(code, "detail") == after_error(claimed(), OrchestraError(code, "detail"), random.uniform)


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.REFUSED_BY_PROVIDER,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.CONTENT_FILTER,
        ErrorCode.UNKNOWN_MODEL,
    ],
)
def test_a_fault_of_the_request_ends_it(code: ErrorCode) -> None:
    """An error in the request itself is never retried."""
    assert Failed(code, "detail") == after_error(claimed(), OrchestraError(code, "detail"), random.uniform)


@pytest.mark.parametrize("code", RETRYABLE)
def test_the_last_try_is_the_last(code: ErrorCode) -> None:
    """After the last try the turn fails, unless the error costs no try."""
    outcome = after_error(claimed(tries=5, max_tries=5), OrchestraError(code, "detail"), random.uniform)

    assert (code in FREE) == isinstance(outcome, RetryLater)
    assert isinstance(outcome, RetryLater) or outcome == Failed(code, "detail")


@pytest.mark.parametrize("code", RETRYABLE)
def test_only_not_now_and_not_us_cost_no_try(code: ErrorCode) -> None:
    """Only faults of the account and of the model as a whole give the try back."""
    outcome = after_error(claimed(), OrchestraError(code, "detail"), random.uniform)

    assert isinstance(outcome, RetryLater)
    assert (code in FREE, code, "detail") == (outcome.give_try_back, outcome.code, outcome.detail)


@pytest.mark.parametrize("caller_seconds", [0.0, 60.0])
def test_an_empty_answer_is_asked_for_once_more(caller_seconds: float) -> None:
    """A second empty answer in a row fails the request, however many tries are left."""
    error = OrchestraError(ErrorCode.EMPTY_REPLY, "detail")
    first = claimed(caller_seconds=caller_seconds, max_tries=100)
    second = claimed(caller_seconds=caller_seconds, max_tries=100, tries=2, last_error="empty_reply")

    assert isinstance(after_error(first, error, random.uniform), RetryLater)
    assert Failed(ErrorCode.EMPTY_REPLY, "detail") == after_error(second, error, random.uniform)


@pytest.mark.parametrize("code", sorted(ACCOUNT))
def test_a_caller_who_waits_is_told_of_the_account_at_once(code: ErrorCode) -> None:
    """A blocking client gets a fault of the account at once."""
    turn = claimed(caller_seconds=60.0, tries=1, max_tries=3)

    assert Failed(code, "detail") == after_error(turn, OrchestraError(code, "detail"), random.uniform)


@given(st.sampled_from(sorted(set(PACES) - ACCOUNT)), st.floats(0.1, 60), RETRY_AFTER, st.floats(0, 300), DICE)
def test_a_caller_who_would_leave_first_is_told_at_once(
    code: ErrorCode, caller_seconds: float, retry_after: float | None, held: float, uniform: object
) -> None:
    """A blocking client gets the reason at once if the next attempt would start after it has given up."""
    turn = claimed(caller_seconds=caller_seconds)

    outcome = after_error(turn, OrchestraError(code, "why", retry_after=retry_after), uniform, held)  # type: ignore[arg-type]

    if isinstance(outcome, RetryLater):
        assert max(min(retry_after or 0.0, MAX_RETRY_AFTER), held) <= outcome.delay < caller_seconds
    else:
        assert isinstance(outcome, Failed)
        assert (code, True) == (outcome.code, outcome.detail.startswith("why"))


def test_a_caller_who_waits_is_served_quickly() -> None:
    """A blocking client waits two seconds at most for a model that is only full."""
    turn = claimed(caller_seconds=60.0, fence=9)
    outcome = after_error(turn, OrchestraError(ErrorCode.RATE_LIMITED), random.uniform)

    assert isinstance(outcome, RetryLater)
    assert outcome.delay <= 2
