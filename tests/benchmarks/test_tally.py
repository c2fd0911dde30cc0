"""What the tally promises: every request is in the figures."""

import pytest

from benchmarks.tally import Tally, Window, percentile


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_of_what_was_seen(share: float, expected: float) -> None:
    """A percentile is the minimum value that this share of all values does not exceed."""
    assert expected == percentile([float(number) for number in range(1, 101)], share)


def test_a_percentile_of_nothing_is_nothing() -> None:
    """Without any latency a percentile is 0."""
    assert percentile([], 0.5) == 0.0


def test_throughput_is_of_what_came_in_the_window() -> None:
    """A reply counts if it arrives within the measured time, whenever its request was sent."""
    tally = Tally()
    for number, (due, whole) in enumerate([(0.0, 0.9), (0.5, 1.0), (1.5, 2.9), (2.5, 3.0)]):
        tally.begin(number, due)
        tally.answer(number, whole, whole)

    assert (2, 1.0) == (tally.count(Window(1, 3)), tally.figures(Window(1, 3), 4)["rps"])


def test_latency_begins_when_a_request_was_due() -> None:
    """Latency counts from the due time to the first of the answer, for requests that were due in the window."""
    tally = Tally()
    for number, (due, first) in enumerate([(0.0, 0.9), (1.0, 1.25), (1.5, 2.5)]):
        tally.begin(number, due)
        tally.answer(number, first, first + 5)
    figures = tally.figures(Window(1, 2), 9)

    assert (250, 1000) == (figures["latency_p50_ms"], figures["latency_p99_ms"])


def test_latencies_of_several_windows_are_one_list() -> None:
    """What was due in any of the windows is in one list, in order; what was due between them is not."""
    tally = Tally()
    for number, (due, first) in enumerate([(0.0, 0.75), (1.0, 1.5), (2.0, 2.25)]):
        tally.begin(number, due)
        tally.answer(number, first, first)

    assert [250, 750] == tally.latencies_ms([Window(0, 1), Window(2, 3)], 9)


def test_what_never_came_counts_with_its_age() -> None:
    """An open request counts as unanswered, and does not improve the latencies."""
    tally = Tally()
    tally.begin(0, 1.0)
    tally.begin(1, 1.0)
    tally.answer(1, 1.1, 1.1)
    figures = tally.figures(Window(1, 2), 6)

    assert (1, 5000) == (figures["unanswered"], figures["latency_p99_ms"])


def test_errors_and_wrong_answers_are_no_answers() -> None:
    """Failed and wrong answers add nothing to the throughput, and are counted separately."""
    tally = Tally()
    for number in range(3):
        tally.begin(number, 1.0)
    tally.fail(0, "503 overloaded")
    tally.mistake(1)
    tally.answer(2, 1.5, 1.5)
    figures = tally.figures(Window(1, 2), 3)

    assert ({"503 overloaded": 1}, 1, 1, 0) == (
        figures["errors"], figures["wrong"], figures["answered"], figures["unanswered"],
    )  # fmt: skip
