"""Promises of orchestra/transcript.py: pieces and items are the same answer in the same order."""

from hypothesis import given
from hypothesis import strategies as st

from orchestra.transcript import Piece, after, before, items_of, joined, pieces_of, text_of, units_of
from tests.support.answers import TEXTS, answers


@given(answers())
def test_items_have_all_that_pieces_have(pieces: list[Piece]) -> None:
    """An answer that is stored as items is read back as the same pieces, in the same order."""
    assert joined(pieces) == pieces_of(text_of(pieces), items_of(pieces))


@given(st.lists(TEXTS))
def test_a_text_alone_has_no_items(texts: list[str]) -> None:
    """An answer that is one text at most is its text, without items, and as long as it."""
    pieces = [Piece("text", text) for text in texts]

    assert (None, "".join(texts), len("".join(texts))) == (items_of(pieces), text_of(pieces), units_of(pieces))


@given(answers(), st.integers(0, 60))
def test_an_answer_is_cut_anywhere(pieces: list[Piece], place: int) -> None:
    """Its two parts at any place have all of it, and the first one has this length unless the answer is shorter."""
    first, rest = before(pieces, place), after(pieces, place)

    assert joined(pieces) == joined([*first, *rest])
    assert min(place, units_of(pieces)) == units_of(first)
