"""Promises of workers/throttle.py: a worker learns how many calls a model lets in, and finds its way back up."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra.store.claims import ModelLimit
from workers.throttle import Throttle


def begin(throttle: Throttle, count: int, model: str = "m") -> None:
    """So many turns of a model begin."""
    for _ in range(count):
        throttle.begun(model)


def test_a_model_that_never_refused_has_no_limit() -> None:
    """However many calls are open."""
    throttle = Throttle(100)
    begin(throttle, 50)
    throttle.accepted("m")

    assert [] == list(throttle.limits())


def test_a_refusal_limits_to_what_was_let_in() -> None:
    """Ten were open when one was refused: nine fit, and no more are claimed until one has ended."""
    throttle = Throttle(100)
    begin(throttle, 10)
    throttle.refused("m")
    throttle.ended("m")

    assert [ModelLimit("m", 0)] == list(throttle.limits())
    throttle.ended("m")
    assert [ModelLimit("m", 1)] == list(throttle.limits())


def test_one_call_is_always_tried() -> None:
    """A model that refuses everything is asked again, one call at a time."""
    throttle = Throttle(100)
    begin(throttle, 1)
    throttle.refused("m")
    throttle.ended("m")

    assert [ModelLimit("m", 1)] == list(throttle.limits())


def test_other_models_are_not_limited() -> None:
    """Each model has its own."""
    throttle = Throttle(100)
    begin(throttle, 5, "busy")
    begin(throttle, 5, "free")
    throttle.refused("busy")

    assert ["busy"] == [limit.model for limit in throttle.limits()]


def test_answers_make_room_again() -> None:
    """One more after each round of as many answers as fit, until there is no limit left."""
    throttle = Throttle(4)
    begin(throttle, 3)
    throttle.refused("m")
    for _ in range(3):
        throttle.ended("m")
    rooms = []
    while limits := list(throttle.limits()):
        rooms.append(limits[0].room)
        throttle.accepted("m")

    assert [2, 2, 2, 3, 3, 3] == rooms


@given(st.lists(st.sampled_from(["begun", "ended", "refused", "accepted"]), max_size=60))
def test_room_is_never_negative_nor_more_than_the_workers_own(steps: list[str]) -> None:
    """Whatever happens in whatever order."""
    throttle, open_calls = Throttle(5), 0
    for step in steps:
        if step == "ended" and not open_calls:
            continue
        open_calls += {"begun": 1, "ended": -1}.get(step, 0)
        getattr(throttle, step)("m")
        for limit in throttle.limits():
            assert 0 <= limit.room <= 5
            assert limit.room + open_calls >= 1
