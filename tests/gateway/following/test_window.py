"""Promises of gateway/following/window.py: a window has the newest part of an answer, whatever it consists of."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.following.window import MAX_WINDOW_BYTES, Window
from orchestra.transcript import Piece, after, before, joined, units_of
from tests.support.answers import answers

WEATHER = Piece("tool_call", "", 0, "call_1", "weather")


def cut(pieces: list[Piece], start: int, end: int) -> list[Piece]:
    """The part of an answer between two places."""
    return after(before(pieces, end), start)


@given(answers(20), st.randoms())
def test_any_position(pieces: list[Piece], order: random.Random) -> None:
    """From every place on, the answer is what was sent from there, however the pieces overlap."""
    window, at = Window(), 0
    for piece in pieces:
        start = order.randrange(at + 1) if order.random() < 0.3 else at
        place = start
        at += piece.units
        for each in cut(pieces, start, at):
            window.add_piece(place, each)
            place += each.units
    assert units_of(pieces) == window.end
    for position in range(window.end + 2):
        assert joined(after(pieces, position)) == window.since(position)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=5000), min_size=10, max_size=40))
def test_a_text_takes_no_more_than_64_kib(pieces: list[str]) -> None:
    """A text never takes more than 64 KiB; its newest part is kept, and a read before it returns None."""
    window, whole = Window(), "".join(pieces)
    for piece in pieces:
        window.add(window.end, piece)
        assert window.bytes <= MAX_WINDOW_BYTES
    assert len(whole) == window.end
    assert [Piece("text", whole[window.base :])] == window.since(window.base) or window.base == window.end
    assert window.base == 0 or window.since(window.base - 1) is None
    if len(whole.encode()) <= MAX_WINDOW_BYTES:
        assert window.base == 0


@given(st.lists(st.sampled_from(["text", "reasoning", "tool_call", "refusal"]), min_size=300, max_size=900))
def test_many_short_pieces_take_no_more_than_64_kib(kinds: list[str]) -> None:
    """Pieces count with what they cost beside their text; the newest of them are kept."""
    window, pieces = Window(), []
    for place, kind in enumerate(kinds):
        head = Piece("tool_call", "", min(place, 128), "x" * 100, "y")
        piece = head if kind == "tool_call" else Piece(kind, "a")  # type: ignore[arg-type]
        pieces.append(piece)
        window.append(piece)
        assert window.bytes <= MAX_WINDOW_BYTES
    assert 0 < window.end - window.base
    assert joined(after(pieces, window.base)) == window.since(window.base)


def test_lost_piece() -> None:
    """After a lost piece only what is behind it is available, of whatever kind either was."""
    window = Window()
    assert window.add(0, "abc")
    assert window.add_piece(5, WEATHER)
    assert window.add_piece(6, Piece("tool_arguments", "{}"))
    assert [window.since(position) for position in (0, 4)] == [None, None]
    assert window.since(5) == [WEATHER, Piece("tool_arguments", "{}")]
    assert [window.since(position) for position in (7, 8, 9)] == [[Piece("tool_arguments", "}")], [], []]
    assert window.bytes < 600


def test_huge_piece() -> None:
    """A single piece far beyond the limit is not kept and does not break the count of bytes."""
    window = Window()
    window.add(0, "x" * 1_000_000)
    assert (window.since(0), window.end, window.bytes) == (None, 1_000_000, 0)
    assert window.add(1_000_000, "y")
    assert window.since(1_000_000) == [Piece("text", "y")]


def test_a_repeated_piece_is_no_news() -> None:
    """A piece that is known already changes nothing, and of one that is known in part the rest is added."""
    window = Window()
    assert [window.add_piece(0, WEATHER) for _ in range(2)] == [True, False]
    arguments = Piece("tool_arguments", '{"a"')
    assert [window.add_piece(1, each) for each in (arguments, arguments)] == [True, False]
    assert window.add_piece(2, Piece("tool_arguments", '"a": 1}'))
    assert window.since(0) == [WEATHER, Piece("tool_arguments", '{"a": 1}')]
