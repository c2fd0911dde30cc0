"""Promises of workers/state.py: what a worker says of itself is short, and can be stored whatever others named."""

from aiokafka import TopicPartition

from orchestra.store.worker_state import MAX_MODELS, WorkerState
from orchestra.version import version
from schemas.errors import ErrorCode, OrchestraError
from workers.shares import Shares
from workers.state import Reporter
from workers.throttle import Throttle

PLACES = {TopicPartition("llm.requests", 2), TopicPartition("llm.requests", 0)}


def reporter(throttle: Throttle, shares: Shares | None = None, *, draining: bool = False) -> Reporter:
    """That of a worker with ten slots, which reads two partitions of one topic and none of another."""
    tenants = {"llm.requests": "default", "acme.requests": "acme"}
    return Reporter(
        throttle, shares or Shares(10, 75, 90), 10, tenants, assignment=lambda: PLACES, draining=lambda: draining
    )


def test_a_worker_says_what_it_runs_and_reads() -> None:
    """Release, slots, and the partitions of each topic, with the topic's tenant."""
    throttle = Throttle(10)
    throttle.begun("a")
    throttle.begun("a")

    state = reporter(throttle, draining=True).state()

    assert (version(), 2, 10, True) == (state.version, state.in_flight, state.capacity, state.draining)
    (model,) = state.models
    assert ("a", 2, None, None) == (model.model, model.in_flight, model.room, model.held_seconds)
    assert [("llm.requests", "default", [0, 2]), ("acme.requests", "acme", [])] == [
        (each.topic, each.tenant, each.partitions) for each in state.topics
    ]


def test_models_that_refuse_come_first() -> None:
    """A model that is held back is named with its error, before all that only run."""
    now = 1000.0
    throttle = Throttle(1000, lambda: now, lambda low, _high: low)
    for number in range(2 * MAX_MODELS):
        throttle.begun(f"busy-{number}")
    throttle.begun("refusing")
    throttle.refused("refusing", OrchestraError(ErrorCode.AUTH, "the key is wrong"), now)

    models = reporter(throttle).state().models

    assert MAX_MODELS == len(models)
    first = models[0]
    assert ("refusing", 0, ErrorCode.AUTH, "the key is wrong") == (first.model, first.room, first.code, first.detail)
    assert (first.held_seconds or 0) > 0


def test_texts_of_others_are_cut_and_can_be_stored() -> None:
    """A name of any length and with any characters fits."""
    throttle = Throttle(10)
    throttle.begun("\0" + "x" * 100_000)
    throttle.begun("\ud800")

    text = reporter(throttle).state().model_dump_json()

    assert len(text) < 2000
    assert "\\u0000" not in text
    assert WorkerState.model_validate_json(text)


def test_shares_are_named_while_they_hold() -> None:
    """How many of the slots one owner and one tenant may hold; without credentials there is no limit."""
    shares = Shares(10, 75, 90)
    before = reporter(Throttle(10), shares).state()
    shares.hold = True

    state = reporter(Throttle(10), shares).state()

    assert (None, None) == (before.owner_slots, before.tenant_slots)
    assert (7, 9) == (state.owner_slots, state.tenant_slots)
