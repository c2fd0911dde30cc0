"""What the meters promise: each process counts for one group, and foreign processes do not count for ours."""

import os

from benchmarks.meters import Process, attribute, machine_seconds, memory_mb, processes


def test_a_process_counts_for_the_nearest_group() -> None:
    """Children count for the part that started them, and parts for themselves, not for the process that started all."""
    found = {
        1: Process(0, 100.0),
        10: Process(1, 1.0),  # The harness, which starts
        20: Process(10, 2.0),  # postgres, which starts
        21: Process(20, 4.0),  # a backend
        30: Process(10, 8.0),  # the gateway, and
        40: Process(10, 16.0),  # a helper of the harness.
    }

    assert attribute(found, {"meters": [10], "postgres": [20], "gateway": [30], "load": []}) == {
        "meters": 17.0, "postgres": 6.0, "gateway": 8.0, "load": 0.0,
    }  # fmt: skip


def test_a_process_that_is_gone_counts_for_nobody() -> None:
    """A group whose process has ended has used nothing, and no other group gets what it used."""
    assert attribute({1: Process(0, 5.0)}, {"worker": [99]}) == {"worker": 0.0}


def test_the_machine_is_read() -> None:
    """Our own process is among the visible ones, with memory, and the machine's load is at most 100 %."""
    busy, total = machine_seconds()

    assert os.getpid() in processes()
    assert memory_mb({"we": [os.getpid()]})["we"] > 1
    assert 0 < busy <= total
