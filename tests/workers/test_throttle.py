"""Promises of workers/throttle.py: a worker learns how many calls a model accepts, and raises the limit again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.store.claims import ModelLimit
from schemas.errors import ErrorCode, OrchestraError
from workers.retry import PACES
from workers.throttle import MAX_MODELS, Throttle

FULL = OrchestraError(ErrorCode.RATE_LIMITED, "full")
ACCOUNT = [ErrorCode.AUTH, ErrorCode.QUOTA_EXHAUSTED]


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Model:
    """A throttle and consecutive calls of one model."""

    def __init__(self, most: int = 100) -> None:
        self.clock = Clock()
        self.throttle = Throttle(most, self.clock, lambda low, _high: low)

    def refuse(self, code: ErrorCode = ErrorCode.RATE_LIMITED, retry_after: float | None = None) -> float:
        """One refused call; returns how long the model is held back."""
        self.throttle.begun("m")
        refusal = self.throttle.refused("m", OrchestraError(code, "why", retry_after=retry_after), self.clock.now)
        self.throttle.ended("m")
        return refusal.seconds

    @property
    def room(self) -> int | None:
        """How many calls may start; None if the model has no limit."""
        return next((limit.room for limit in self.throttle.limits()), None)


def begin(throttle: Throttle, count: int, model: str = "m") -> None:
    """Start this many turns of a model."""
    for _ in range(count):
        throttle.begun(model)


def test_a_model_that_never_refused_has_no_limit() -> None:
    """A model that never refused has no limit, however many calls are open."""
    throttle = Throttle(100)
    begin(throttle, 50)
    throttle.accepted("m", 0.0)

    assert [] == list(throttle.limits())


def test_a_refusal_limits_to_what_was_let_in() -> None:
    """One refusal with ten open calls sets the limit to nine."""
    throttle = Throttle(100)
    begin(throttle, 10)
    throttle.refused("m", FULL, 0.0)
    throttle.ended("m")

    assert [ModelLimit("m", 0)] == list(throttle.limits())
    throttle.ended("m")
    assert [ModelLimit("m", 1)] == list(throttle.limits())


def test_one_call_is_tried_once_the_hold_is_over() -> None:
    """After a hold a model is tried with one call at a time."""
    model = Model()
    seconds = model.refuse()
    assert 0 == model.room

    model.clock.now += seconds

    assert 1 == model.room


def test_other_models_are_not_limited() -> None:
    """A refusal limits only its own model."""
    throttle = Throttle(100)
    begin(throttle, 5, "busy")
    begin(throttle, 5, "free")
    throttle.refused("busy", FULL, 0.0)

    assert ["busy"] == [limit.model for limit in throttle.limits()]


def test_answers_make_room_again() -> None:
    """Each round of answers raises the limit by one, until there is none left."""
    throttle = Throttle(4)
    begin(throttle, 3)
    throttle.refused("m", FULL, 0.0)
    for _ in range(3):
        throttle.ended("m")
    rooms = []
    while limits := list(throttle.limits()):
        rooms.append(limits[0].room)
        throttle.accepted("m", 0.0)

    assert [2, 2, 2, 3, 3, 3] == rooms


@given(st.lists(st.sampled_from(["begun", "ended", "refused", "accepted", "later"]), max_size=60))
def test_room_is_never_negative_nor_more_than_the_workers_own(steps: list[str]) -> None:
    """The room is between zero and the worker's own, and a model that is not held back has room for one call."""
    clock = Clock()
    throttle, open_calls = Throttle(5, clock), 0
    for step in steps:
        if step == "ended" and not open_calls:
            continue
        open_calls += {"begun": 1, "ended": -1}.get(step, 0)
        match step:
            case "later":
                clock.now += 100
            case "refused":
                throttle.refused("m", FULL, clock.now)
            case "accepted":
                throttle.accepted("m", clock.now)
            case _:
                getattr(throttle, step)("m")
        for limit in throttle.limits():
            assert 0 <= limit.room <= 5
            assert limit.room + open_calls >= 1 or throttle.held()


@pytest.mark.parametrize("code", sorted(PACES))
def test_the_wait_doubles_with_each_refusal_in_a_row(code: ErrorCode) -> None:
    """The wait doubles with each refusal of the model in a row, up to its maximum."""
    model, pace = Model(), PACES[code]
    waits = []
    for _ in range(12):
        waits.append(seconds := model.refuse(code))
        model.clock.now += seconds

    assert [min(pace.max_seconds, pace.first_seconds * 2**times) for times in range(12)] == waits


def test_the_first_answer_ends_it() -> None:
    """After an answer the next refusal counts as the first again."""
    model = Model()
    for _ in range(5):
        model.clock.now += model.refuse()

    model.throttle.accepted("m", model.clock.now)

    assert PACES[ErrorCode.RATE_LIMITED].first_seconds == model.refuse()


def test_refusals_of_one_round_count_once() -> None:
    """Thirty simultaneous refusals count as one, with the shortest wait."""
    model = Model()
    begin(model.throttle, 30)
    began = model.clock.now
    for _ in range(30):
        model.clock.now += 0.01
        refusal = model.throttle.refused("m", OrchestraError(ErrorCode.AUTH), began)
        model.throttle.ended("m")

    assert refusal.seconds == pytest.approx(30 - 0.29)


def test_only_the_first_hold_of_a_row_is_news() -> None:
    """Only the first of consecutive holds is reported as new, so that it is logged once."""
    model = Model()
    news = []
    for _ in range(4):
        model.throttle.begun("m")
        refusal = model.throttle.refused("m", OrchestraError(ErrorCode.AUTH), model.clock.now)
        model.throttle.ended("m")
        news.append(refusal.first)
        model.clock.now += refusal.seconds

    assert [True, False, False, False] == news
    assert model.throttle.accepted("m", model.clock.now)
    assert not model.throttle.accepted("m", model.clock.now)


def test_a_model_that_is_not_there_is_held_back_whatever_still_runs() -> None:
    """An unavailable model is held back despite open calls, and afterwards has its old limit."""
    model = Model()
    begin(model.throttle, 9)

    seconds = model.refuse(ErrorCode.UNAVAILABLE)
    assert (1, 0) == (seconds, model.room)
    model.clock.now += seconds
    model.throttle.accepted("m", model.clock.now)
    assert model.room is None


def test_a_full_model_is_not_held_back() -> None:
    """One refusal with little or no advice while other calls run only lowers the limit."""
    for retry_after in (None, 1.0):
        model = Model()
        begin(model.throttle, 9)

        assert 0 == model.refuse(retry_after=retry_after)
        model.throttle.ended("m")
        assert 1 == model.room


def test_advice_holds_for_the_whole_model() -> None:
    """No call to a model starts before the advised time, even while other calls run."""
    model = Model()
    begin(model.throttle, 9)

    assert 60 == model.refuse(retry_after=60)
    model.throttle.ended("m")
    assert 0 == model.room
    assert 120 == model.refuse(retry_after=3600)


def test_an_answer_to_an_older_call_ends_no_hold() -> None:
    """An answer to a call that started before the refusal does not end the hold."""
    model = Model()
    began = model.clock.now
    begin(model.throttle, 2)
    model.clock.now += 5
    seconds = model.refuse(ErrorCode.AUTH)

    assert not model.throttle.accepted("m", began)
    assert [seconds] == [held.seconds for held in model.throttle.held()]


def test_what_is_held_back_is_told() -> None:
    """A held model is listed with the code and detail of the refusal and the seconds left."""
    model = Model()
    model.refuse(ErrorCode.AUTH)
    model.clock.now += 10
    (held,) = model.throttle.held()

    assert ("m", ErrorCode.AUTH, "why", 20) == (held.model, held.code, held.detail, held.seconds)
    model.clock.now += 20
    assert [] == model.throttle.held()


def test_names_of_models_take_no_room_without_end() -> None:
    """Only a limited number of refusing models is remembered: those refused last."""
    model = Model()
    names = [f"simulated:fail=auth,tokens={number}" for number in range(10 * MAX_MODELS)]
    for name in names:
        model.throttle.begun(name)
        model.throttle.refused(name, OrchestraError(ErrorCode.AUTH), model.clock.now)
        model.throttle.ended(name)

    assert names[-MAX_MODELS:] == [limit.model for limit in model.throttle.limits()]
    assert not model.throttle._in_flight


def test_more_room_wakes() -> None:
    """An answer of a model that has refused calls may leave room for more turns, so claiming is woken."""
    wakes: list[bool] = []
    throttle = Throttle(2, wake=lambda: wakes.append(True))
    throttle.begun("m")
    throttle.accepted("m", 0.0)
    assert wakes == []
    throttle.refused("m", OrchestraError(ErrorCode.UNAVAILABLE, "gone"), 0.0)
    throttle.accepted("m", float("inf"))
    assert [True] == wakes


def test_it_shows_whether_any_model_refuses() -> None:
    """``refusing`` is set from the first refusal until the last of the models has no limit any more."""
    throttle = Throttle(9)
    for model in ("a", "b"):
        throttle.begun(model)
        assert throttle.refusing.is_set() == (model == "b")
        throttle.refused(model, OrchestraError(ErrorCode.UNAVAILABLE, "gone"), 0.0)
    throttle.accepted("a", float("inf"))
    assert throttle.refusing.is_set()
    throttle.accepted("b", float("inf"))
    assert not throttle.refusing.is_set()
