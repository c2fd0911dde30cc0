"""Promises of workers/__main__.py."""

from workers.__main__ import _leaves


def test_the_log_names_what_failed_and_not_the_group_that_it_came_in() -> None:
    """Errors inside of groups inside of groups come out one by one, in their order."""
    first, second, third = ValueError("a"), KeyError("b"), OSError("c")
    nested = ExceptionGroup("outer", [first, ExceptionGroup("inner", [second]), third])

    assert [first, second, third] == _leaves(nested)
    assert [first] == _leaves(first)
