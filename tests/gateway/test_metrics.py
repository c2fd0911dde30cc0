from collections.abc import Sequence
from datetime import UTC, datetime
from math import isnan
from uuid import uuid4

from prometheus_client import generate_latest

from gateway.metrics import Metrics
from orchestra.store.leases import KnownWorker
from orchestra.store.queue import Depth, Group
from orchestra.store.worker_state import StateOfModel, StateOfTopic, WorkerState
from schemas.topics import REPLIES
from tests.support.models import model


def group(model: str, oldest_seconds: float | None = None) -> Group:
    return Group("acme", 5, model, runnable=4, held=1, paused=2, delayed=3, oldest_seconds=oldest_seconds)


def worker(*, drains: bool = False, models: Sequence[StateOfModel] = (), **topics: str) -> KnownWorker:
    now = datetime.now(UTC)
    read = [StateOfTopic(topic=topic, tenant=tenant) for topic, tenant in topics.items()]
    state = WorkerState(version="1.2.3", in_flight=1, capacity=3, models=list(models), topics=read)
    return KnownWorker(uuid4(), now, now, alive=True, drain_requested_at=now if drains else None, state=state)


def test_the_queue_is_shown_by_configured_models() -> None:
    """A model counts under its name, whatever alias or options a request gave; names of callers count as `other`."""
    metrics = Metrics()
    known = [model("llama", "ollama", "default"), model("simulated", "simulated")]
    asked = ["llama", "default", "simulated:tokens=3", "llama:8b", "acme-secret"]
    metrics.note_models(known)
    metrics.note_queue(Depth([group(each, age) for age, each in enumerate(asked)], frozenset()))

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"orchestra_queue_{name}", labels)

    turns = [shown("model_turns", model=name, state="runnable") for name in ("llama", "simulated", "other")]
    assert [8, 4, 8] == turns
    ages = [shown("oldest_seconds", model=name) for name in ("llama", "simulated", "other")]
    assert [1, 2, 4] == ages
    states = [shown("turns", priority="5", state=state) for state in ("runnable", "held", "paused", "delayed")]
    assert [20, 5, 10, 15] == states
    assert "acme" not in generate_latest(metrics.registry).decode()


def test_an_empty_queue_is_shown() -> None:
    """Where nothing waits there are zeros, for each priority and each model of the LLM service."""
    metrics = Metrics()
    metrics.note_models([model("llama", "ollama", "default")])
    metrics.note_queue(Depth([], frozenset()))

    def shown(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"orchestra_queue_{name}", labels)

    for state in ("runnable", "held", "paused", "delayed"):
        assert [0] * 10 == [shown("turns", priority=str(each), state=state) for each in range(10)]
        assert (0, None) == (
            shown("model_turns", model="llama", state=state),
            shown("turns", priority="10", state=state),
        )
    assert 0 == shown("oldest_seconds", model="llama")


def test_topics_of_tenants_are_added_up() -> None:
    """The lag is shown for our own topics and those of the tenant `default`; those of all others are one number."""
    metrics = Metrics()
    lags = {(REPLIES.name, "0"): 1.0, ("batch", "0"): 2.0, ("acme.in", "0"): 3.0, ("umbrella.in", "0"): 4.0}
    metrics.note_lags(lags, [worker(batch="default", **{"acme.in": "acme"})])

    def shown(topic: str) -> float | None:
        labels = {"topic": topic, "partition": "0"}
        return metrics.registry.get_sample_value("orchestra_topic_lag_records", labels)

    assert [1, 2, 7] == [shown(topic) for topic in (REPLIES.name, "batch", "other")]
    text = generate_latest(metrics.registry).decode()
    assert not {"acme", "umbrella"} & set(text.replace(".", '"').split('"'))


def test_workers_are_shown_by_release() -> None:
    """The number of workers of each release, and their slots."""
    metrics = Metrics()
    metrics.note_workers([worker(), worker()])

    assert 2 == metrics.registry.get_sample_value("orchestra_workers", {"version": "1.2.3"})
    assert 4 == metrics.registry.get_sample_value("orchestra_worker_slots", {"state": "free"})


def test_slots_of_a_drained_worker_are_not_free() -> None:
    """A worker that drains counts with the slots that it uses, and its other slots are not free."""
    metrics = Metrics()
    metrics.note_workers([worker(), worker(drains=True)])
    slots = [metrics.registry.get_sample_value("orchestra_worker_slots", {"state": each}) for each in ("used", "free")]

    assert [2, 2] == slots


def test_what_no_look_has_seen_is_not_shown() -> None:
    """Until a look succeeds, and again once one has failed, what is the same at every gateway has no value."""
    metrics = Metrics()
    unseen = generate_latest(metrics.registry)
    metrics.note_models([model("llama", "ollama")])
    metrics.note_queue(Depth([group("llama", 1)], frozenset()))
    metrics.note_workers([worker()])
    metrics.note_lags({(REPLIES.name, "0"): 1.0}, [])
    metrics.dead_letters_open.set(3)
    seen = generate_latest(metrics.registry)
    metrics.forget()
    metrics.forget_lags()
    shared = [each for each in metrics.registry.collect() if "The same at every gateway" in each.documentation]

    assert unseen != seen
    assert unseen == generate_latest(metrics.registry)
    assert [] == [sample for each in shared for sample in each.samples if not isnan(sample.value)]


def test_models_that_are_held_back_are_named() -> None:
    """Each model has the number of workers that hold it back, also 0; names that only requests gave are `other`."""
    metrics = Metrics()
    metrics.note_models([model("llama", "ollama", "default"), model("simulated", "simulated")])
    held = [StateOfModel(model=each, in_flight=0, held_seconds=3.0) for each in ("default", "acme-secret")]
    serves = StateOfModel(model="simulated", in_flight=1)
    metrics.note_workers([worker(models=[*held, serves]), worker(models=held[:1])])
    names = ("llama", "simulated", "other")

    assert [2, 0, 1] == [metrics.registry.get_sample_value("orchestra_models_held", {"model": each}) for each in names]
