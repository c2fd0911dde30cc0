"""Promises of workers/deltas.py: text is published soon, in few events, and completely."""

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

from hypothesis import given
from hypothesis import strategies as st

from orchestra.store.claims import Claimed
from orchestra.transcript import Piece, items_of, joined, text_of
from tests.support.fakes import Rounds
from tests.support.records import claimed
from tests.support.waiting import eventually
from workers.deltas import MAX_CHARACTERS, Deltas
from workers.metrics import Metrics

HEAD, ARGUMENTS = Piece("tool_call", "", 0, "call_1", "weather"), Piece("tool_arguments", "{}", 0)


class Sent(Rounds):
    """A fake publisher."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.pieces: list[tuple[int, str]] = []
        self.all: list[tuple[int, Piece]] = []
        """Every piece, with the number of units before it."""

    def started(self, turn: Claimed) -> None:
        """Note the start."""
        self.begun += 1

    def delta(self, turn: Claimed, at: int, text: str, n: int | None = None) -> None:
        """Note a piece of text."""
        self.pieces.append((at, text))
        self.all.append((at if n is None else n, Piece("text", text)))

    def piece(self, turn: Claimed, n: int, piece: Piece) -> None:
        """Note another piece."""
        self.all.append((n, piece))


def gather() -> tuple[Deltas, Sent]:
    """The deltas of an attempt and what was published of it."""
    sent: Any = Sent()
    return Deltas(claimed(), sent, Metrics()), sent


async def test_the_first_piece_goes_at_once() -> None:
    """The first piece is published at once, after the attempt's start."""
    deltas, sent = gather()
    assert (0, []) == (sent.begun, sent.pieces)

    deltas.add("first")

    assert (1, [(0, "first")]) == (sent.begun, sent.pieces)


async def test_a_start_without_text_goes_with_the_next_round() -> None:
    """The start of an attempt is published once, in the next round."""
    deltas, sent = gather()

    sent.hand_over()
    deltas.close()
    sent.hand_over()

    assert (1, []) == (sent.begun, sent.pieces)


async def test_what_comes_before_the_next_round_goes_together() -> None:
    """Pieces that arrive between two rounds become one event."""
    deltas, sent = gather()
    for piece in ("a", "b", "c", "d"):
        deltas.add(piece)
    assert [(0, "a")] == sent.pieces

    sent.hand_over()

    assert [(0, "a"), (1, "bcd")] == sent.pieces


async def test_the_rest_goes_once() -> None:
    """The text that waits at the end of an attempt is published in the next round, once."""
    deltas, sent = gather()
    deltas.add("a")
    deltas.add("b")

    deltas.close()
    sent.hand_over()
    sent.hand_over()

    assert [(0, "a"), (1, "b")] == sent.pieces


async def test_what_is_dropped_is_never_passed_on() -> None:
    """Dropped text is never published; the start of the attempt is, so that it comes before that of the next."""
    deltas, sent = gather()
    deltas.add("a")
    deltas.add("b")
    another, unsaid = gather()

    deltas.drop()
    another.drop()
    sent.hand_over()

    assert ([(0, "a")], 1, []) == (sent.pieces, unsaid.begun, unsaid.pieces)


async def test_empty_pieces_are_none() -> None:
    """An empty piece makes no event and does not count as the first."""
    deltas, sent = gather()

    deltas.add("")
    sent.hand_over()

    assert ([], "", 0) == (sent.pieces, deltas.text(), deltas.length)


async def test_a_huge_piece_travels_in_records_that_fit() -> None:
    """A huge piece is split into events that fit into a record, whatever its characters."""
    deltas, sent = gather()
    text = "\x01" * (MAX_CHARACTERS * 3 + 1)

    deltas.add(text)

    assert text == "".join(piece for _, piece in sent.pieces)
    assert MAX_CHARACTERS == max(len(piece) for _, piece in sent.pieces)
    assert MAX_CHARACTERS * 6 < 1024 * 1024


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=20))
async def test_pieces_always_make_the_text(pieces: list[tuple[str, bool]]) -> None:
    """The events joined are always the text, and each has the number of code points before it."""
    deltas, sent = gather()
    for piece, round_begins in pieces:
        deltas.add(piece)
        if round_begins:
            sent.hand_over()
    sent.hand_over()

    text = "".join(piece for piece, _ in pieces)
    assert (text, len(text)) == (deltas.text(), deltas.length)
    told = sent.pieces
    assert text == "".join(piece for _, piece in told)
    assert [at for at, _ in told] == [len("".join(piece for _, piece in told[:place])) for place in range(len(told))]


async def test_other_pieces_go_with_the_text_in_order() -> None:
    """The first piece of any kind goes at once, and each later round publishes in the order of the answer."""
    deltas, sent = gather()
    deltas.add(Piece("reasoning", "so"))
    assert [(0, Piece("reasoning", "so"))] == sent.all
    for piece in (Piece("reasoning", " it"), Piece("reasoning", " is"), "I ", "look.", HEAD, ARGUMENTS, ARGUMENTS):
        deltas.add(piece)

    sent.hand_over()

    joined = replace(ARGUMENTS, text="{}{}")
    assert [
        (0, Piece("reasoning", "so")), (2, Piece("reasoning", " it is")), (8, Piece("text", "I look.")), (15, HEAD),
        (16, joined),
    ] == sent.all  # fmt: skip
    assert [(0, "I look.")] == sent.pieces
    assert ("I look.", 20, 7) == (deltas.text(), deltas.length, deltas.text_length)


async def test_text_has_a_position_of_its_own_only_after_other_pieces() -> None:
    """While only text came, an event of text is what it was before answers had other pieces."""
    deltas, sent = gather()
    sent.delta = Mock()  # type: ignore[method-assign]
    for piece in ("a", "bc", HEAD, "d"):
        deltas.add(piece)
        sent.hand_over()

    assert [(0, "a"), (1, "bc"), (3, "d", 4)] == [
        tuple(argument for argument in call.args[1:] if argument is not None) for call in sent.delta.mock_calls
    ]


async def test_other_pieces_that_are_empty_are_none() -> None:
    """An empty piece of reasoning makes no event, and the answer stays a text."""
    deltas, sent = gather()
    for piece in (Piece("reasoning", ""), "text", Piece("tool_arguments", "", 0)):
        deltas.add(piece)
    sent.hand_over()

    assert ([(0, Piece("text", "text"))], None) == (sent.all, deltas.output())


async def test_a_huge_piece_of_any_kind_travels_in_records_that_fit() -> None:
    """Arguments and reasoning are split as text is."""
    deltas, sent = gather()
    deltas.add(HEAD)
    deltas.add(Piece("tool_arguments", "\x01" * (MAX_CHARACTERS + 1), 0))
    sent.hand_over()

    assert [(0, 1), (1, MAX_CHARACTERS), (1 + MAX_CHARACTERS, 1)] == [(n, piece.units) for n, piece in sent.all]


TEXTS = st.text(max_size=3)
PIECES = st.one_of(
    TEXTS,
    st.builds(Piece, st.sampled_from(["reasoning", "refusal"]), TEXTS),
    st.builds(lambda text: [HEAD, Piece("tool_arguments", text, 0)], TEXTS),
)


@given(st.lists(st.tuples(PIECES, st.booleans()), max_size=20))
async def test_events_always_make_the_answer(answer: list[tuple[Any, bool]]) -> None:
    """The events of an answer, in their order and at their positions, are its items and its text."""
    deltas, sent = gather()
    pieces: list[Piece] = []
    for number, (added, round_begins) in enumerate(answer):
        for piece in added if isinstance(added, list) else [added]:
            numbered = replace(piece, index=number) if isinstance(added, list) else piece
            deltas.add(numbered)
            pieces.append(numbered if isinstance(numbered, Piece) else Piece("text", numbered))
        if round_begins:
            sent.hand_over()
    sent.hand_over()

    told = [piece for _, piece in sent.all]
    whole = [piece for piece in pieces if piece.units]
    assert joined(whole) == joined(told)
    assert [sum(piece.units for piece in told[:place]) for place in range(len(told))] == [n for n, _ in sent.all]
    assert (text_of(whole), items_of(whole)) == (deltas.text(), deltas.output())


async def test_a_short_answer_that_somebody_waits_for_makes_no_events() -> None:
    """A short answer with a blocking client has no events except its ending."""
    sent: Any = Sent()
    deltas = Deltas(claimed(caller_seconds=60.0), sent, Metrics())
    for piece in ("a", "b"):
        deltas.add(piece)

    deltas.close()
    sent.hand_over()

    assert (0, [], "ab") == (sent.begun, sent.pieces, deltas.text())


async def test_a_long_answer_that_somebody_waits_for_can_be_watched() -> None:
    """A long answer with a blocking client publishes its start and text after a moment."""
    sent: Any = Sent()
    deltas = Deltas(claimed(caller_seconds=60.0), sent, Metrics())
    deltas.add("a")
    deltas.add("b")

    await eventually(lambda: sent.begun)
    deltas.add("c")
    deltas.close()
    sent.hand_over()

    assert (1, [(0, "ab"), (2, "c")]) == (sent.begun, sent.pieces)


async def test_an_attempt_that_is_dropped_says_nothing_more() -> None:
    """A dropped attempt publishes neither its waiting text nor, if it was still quiet, its start."""
    sent: Any = Sent()
    deltas = Deltas(claimed(caller_seconds=60.0), sent, Metrics())
    deltas.add("a")

    deltas.drop()
    sent.hand_over()

    assert (0, []) == (sent.begun, sent.pieces)


async def test_a_stream_with_a_client_that_waits_is_published_at_once() -> None:
    """The answer of a client that waits, and reads it as it comes, is published at once."""
    sent: Any = Sent()
    body = {**claimed().body, "stream": True}
    deltas = Deltas(claimed(caller_seconds=60.0, body=body), sent, Metrics())

    deltas.add("first")

    assert (1, [(0, "first")]) == (sent.begun, sent.pieces)
