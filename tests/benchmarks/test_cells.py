"""The cells: each has its own name, and is found by it."""

import pytest

from benchmarks.cells import CELLS, QUICK, chosen


def test_names_are_each_cells_own() -> None:
    """No two cells share a name, by which the figures of two runs are compared."""
    assert len(CELLS) == len({cell.name for cell in CELLS})


def test_each_is_either_a_closed_or_an_open_loop() -> None:
    """A cell has clients or a rate, never both, and asks for at least one token."""
    assert [cell.name for cell in CELLS if bool(cell.clients) == bool(cell.rate) or cell.tokens < 1] == []


def test_the_loads_that_targets_name_are_there() -> None:
    """Three sizes of closed loop are combined with three latencies, and the quick selection has existing cells."""
    closed = {(cell.clients, cell.llm_ms) for cell in chosen(["closed-*"])}

    assert {(clients, ms) for clients in (64, 256, 1024) for ms in (0, 50, 1000)} == closed
    assert len(QUICK) == len(chosen(QUICK))


def test_patterns_choose_in_the_order_of_the_list() -> None:
    """Names and patterns select each cell once, in the order of the list."""
    assert ["light", "open-300", "open-600"] == [cell.name for cell in chosen(["open-*", "light", "open-300"])]


def test_a_pattern_that_fits_nothing_is_an_error() -> None:
    """A name that matches no cell is refused with that name, not ignored."""
    with pytest.raises(ValueError, match="no cell is called opne-300;"):
        chosen(["light", "opne-300"])


def test_a_whole_answer_takes_all_its_gaps() -> None:
    """The model's time is its initial silence and a gap before each further token."""
    (streams,) = chosen(["stream-64"])

    assert 0.05 + 32 * 0.02 == pytest.approx(streams.llm_seconds)
