"""What any client may read at `/metrics` is bounded, and has nothing that a caller or a tenant chose."""

from importlib import import_module
from typing import Any, get_args

import pytest
from prometheus_client import generate_latest

from orchestra.telemetry.metrics import Registry
from workers.outcome import Outcome
from workers.records import Verdict

services = pytest.mark.parametrize("service", ["gateway", "workers", "llm_service"])
SECRET = "acme-secret"


def made(service: str) -> Any:
    return import_module(f"{service}.metrics").Metrics()


@services
def test_no_label_shows_what_a_caller_chose(service: str) -> None:
    """Every label of every metric has a list of values, and shows no other."""
    registry = made(service).registry
    assert isinstance(registry, Registry)
    for metric in registry.collect():
        if labels := registry.labels_of(metric.name):
            registry._names_to_collectors[metric.name].labels(*[SECRET for _ in labels])

    assert SECRET not in generate_latest(registry).decode()
    assert 'other"' in generate_latest(registry).decode()


@pytest.mark.parametrize(
    ("service", "metric", "named"),
    [
        ("workers", "orchestra_worker_records", [each.__name__ for each in get_args(Verdict)]),
        ("workers", "orchestra_worker_attempts", [each.__name__ for each in get_args(Outcome)]),
    ],
    ids=["kinds of records", "outcomes"],
)
def test_the_lists_are_whole(service: str, metric: str, named: list[str]) -> None:
    """A label has all values that the code counts under it."""
    (label,) = made(service).registry.labels_of(metric)

    assert set(named) == label.values
