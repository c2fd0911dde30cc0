import pytest
from prometheus_client import Counter, generate_latest

from orchestra.telemetry.metrics import Label, Registry


def test_what_a_label_does_not_list_is_other() -> None:
    """Values that a label does not list are added up as `other`, however they are given."""
    registry, model = Registry(), Label("model", ["small"])
    counter = registry.counter("calls", "Calls.", model, Label("outcome", ["good"]))
    counter.labels("small", "good").inc()
    counter.labels("acme-secret", "good").inc()
    counter.labels(outcome="good", model="another").inc()

    def shown(model: str) -> float | None:
        return registry.get_sample_value("calls_total", {"model": model, "outcome": "good"})

    assert (1, 2, None) == (shown("small"), shown("other"), shown("another"))
    assert b"acme" not in generate_latest(registry)

    model.values = frozenset(["another"])
    counter.labels("another", "good").inc()
    assert 1 == shown("another")


def test_every_label_has_a_list() -> None:
    """A metric whose labels have no lists cannot be registered; one without labels can."""
    registry = Registry()
    with pytest.raises(TypeError):
        Counter("calls", "Calls.", ["model"], registry=registry)
    Counter("ticks", "Ticks.", registry=registry)

    assert ["ticks"] == [metric.name for metric in registry.collect()]
    assert [] == list(registry.labels_of("ticks"))
