"""What the campaign reads from running workers."""

from prometheus_client import generate_latest

from faults.sampler import counters
from workers.metrics import Metrics


def test_a_workers_counters_are_read() -> None:
    """The campaign reads a worker's counters from its metrics page."""
    metrics = Metrics()
    metrics.duplicates.inc(3)
    metrics.outcomes.labels("Completed").inc(2)
    metrics.outcomes.labels("Failed").inc()

    found = counters(generate_latest(metrics.registry).decode())

    assert (3, 3, 0) == (found["duplicate_records"], found["attempts"], found["fenced_endings"])
