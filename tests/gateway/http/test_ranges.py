"""Promises of gateway/http/ranges.py: one range is honoured; whatever else it says, the whole file is sent."""

import pytest
from fastapi import Request

from gateway.http.ranges import read_range


def asked(**headers: str) -> Request:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": named})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=2-4", (2, 5)),
        ("bytes=7-", (7, 10)),
        ("bytes=-3", (7, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=2-99", (2, 10)),
        ("bytes=10-", None),
        ("bytes=4-2", None),
        ("bytes=-0", None),
        ("bytes=-", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=\N{ARABIC-INDIC DIGIT ONE}-", None),
        (f"bytes={'9' * 100}-", None),
        ("", None),
    ],
)
def test_one_range(text: str, part: tuple[int, int] | None) -> None:
    """A single range within the file is a part; any other text asks for the whole file."""
    assert part == read_range(asked(range=text.encode().decode("latin-1")), 10, '"now"')


def test_a_range_of_another_version_is_the_whole_file() -> None:
    """A client that resumes gets no bytes of another file."""
    assert read_range(asked(range="bytes=1-", if_range='"then"'), 10, '"now"') is None
    assert (1, 10) == read_range(asked(range="bytes=1-", if_range='"now"'), 10, '"now"')
