import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.assembly import Assembly
from orchestra.transcript import Piece, items_of, joined
from schemas.content import MAX_CALLS
from schemas.errors import ErrorCode, OrchestraError


def _assembly(max_bytes: int = 100_000, *, reasoning: bool = True) -> Assembly:
    return Assembly(max_bytes, reasoning=reasoning)


def _take(assembly: Assembly) -> list[Piece]:
    return [*map(_as_piece, assembly.take())]


def _close(assembly: Assembly, *, cut: bool) -> list[Piece]:
    return [*map(_as_piece, assembly.close(cut=cut))]


def _as_piece(piece: str | Piece) -> Piece:
    return Piece("text", piece) if isinstance(piece, str) else piece


def _told(assembly: Assembly, *, cut: bool = False) -> list[Piece]:
    return joined(_take(assembly) + _close(assembly, cut=cut))


def _calls(pieces: list[Piece]) -> list[tuple[str, str, str]]:
    return [(each["call_id"], each["name"], each["arguments"]) for each in items_of(pieces) or () if "name" in each]


def test_pieces_pass_as_they_come() -> None:
    """What nothing stands before is passed on at once: texts, the head of a call, and its arguments piece by piece."""
    assembly = _assembly()
    assembly.say("text", "Let me see.")
    assert _take(assembly) == [Piece("text", "Let me see.")]
    assembly.call(0, "a", "f", "")
    assert _take(assembly) == [Piece("tool_call", "", 0, "a", "f")]
    assembly.call(0, None, None, '{"x"')
    assert _take(assembly) == [Piece("tool_arguments", '{"x"', 0)]
    assembly.call(0, None, None, ": 1}")

    assert _take(assembly) == [Piece("tool_arguments", ": 1}", 0)]
    assert _close(assembly, cut=False) == []


def test_an_open_call_holds_all_else_back() -> None:
    """Text, reasoning and other calls wait until the arguments are complete JSON, and come in their order."""
    assembly = _assembly()
    assembly.call(0, "a", "f", '{"x": "}')
    assembly.say("text", "one")
    assembly.call(1, "b", "g", '{"y": ')
    assembly.say("text", "two")
    head = [Piece("tool_call", "", 0, "a", "f"), Piece("tool_arguments", '{"x": "}', 0)]
    assert _take(assembly) == head
    assembly.call(1, None, None, "2}")
    assert _take(assembly) == []
    assembly.call(0, None, None, '"}')

    assert _take(assembly) == [
        Piece("tool_arguments", '"}', 0),
        Piece("text", "one"),
        Piece("tool_call", "", 1, "b", "g"),
        Piece("tool_arguments", '{"y": 2}', 1),
        Piece("text", "two"),
    ]


def test_what_an_open_call_holds_back_comes_at_the_end() -> None:
    """Arguments that never become complete do not swallow what stands behind them."""
    assembly = _assembly()
    assembly.call(0, "a", "f", '{"x": ')
    assembly.say("text", "behind")

    assert _told(assembly, cut=True)[-2:] == [Piece("tool_arguments", '{"x": ', 0), Piece("text", "behind")]


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, "a", "f", '{"n":1}'), (0, "b", "f", '{"n":2}')],
        [(0, "a", "f", '{"n":'), (0, "b", "f", '{"n":'), (0, "a", None, "1}"), (0, "b", None, "2}")],
        [(0, "a", "f", '{"n":'), (0, "a", "f", "1}"), (1, "b", "f", '{"n":2}')],
        [(7, "a", "f", '{"n":'), (9, "b", "f", '{"n":2}'), (7, None, None, "1}")],
        [(None, "a", "f", '{"n":'), (None, None, None, "1}"), (None, "b", "f", '{"n":2}')],
        [(0, "a", "f", '{"n":'), (0, "x", None, "1}"), (1, "b", "f", ""), (1, "y", None, '{"n":2}')],
        [(0, "a", "f", '{"n":1}'), (0, "a", "f", ""), (1, "b", "f", '{"n":2}'), (0, None, None, "\n")],
    ],
    ids=["all 0", "all 0, mixed", "id repeated", "far numbers", "no numbers", "a new id each", "late blanks"],
)
def test_parallel_calls_are_told_apart(pieces: list[tuple[int | None, str | None, str | None, str]]) -> None:
    """By their ids or numbers, whichever a server gives; here they are numbered 0, 1."""
    assembly, told = _assembly(), []
    for piece in pieces:
        assembly.call(*piece)
        told += _take(assembly)
    told += _close(assembly, cut=False)

    assert _calls(told) == [("a", "f", '{"n":1}'), ("b", "f", '{"n":2}')]
    assert [piece.index for piece in told if piece.kind == "tool_call"] == [0, 1]


def test_calls_without_ids_get_some() -> None:
    """Whole calls that a server neither names nor numbers are as many, each with an id of its own."""
    assembly = _assembly()
    for arguments in ('{"n":1}', '{"n":2}'):
        assembly.call(0, "", "f", arguments)
    assembly.call(0, None, "g", "")
    (first, *_), (second, *_), third = _calls(_told(assembly))

    assert len({first, second, third[0]}) == 3
    assert third[1:] == ("g", "{}")


@pytest.mark.parametrize("bad", ["x" * 513, "a b", "a\x1b", "\u202e"])
def test_an_id_that_no_request_can_have_is_replaced(bad: str) -> None:
    """What a client gets it can send back; the server's id still tells whose a piece is."""
    assembly = _assembly()
    assembly.call(0, bad, "f", '{"n":')
    assembly.call(0, "b", "f", "{}")
    assembly.call(0, bad, None, "1}")
    (first, _, arguments), (second, _, _) = _calls(_told(assembly))

    assert (arguments, second) == ('{"n":1}', "b")
    assert first.startswith("call_")


def test_one_id_for_two_calls_becomes_two() -> None:
    """Nothing would tell their results apart otherwise."""
    assembly = _assembly()
    assembly.call(0, "a", "f", '{"n":1}')
    assembly.call(1, "a", "f", '{"n":')
    assembly.call(1, "a", None, "2}")
    first, second = _calls(_told(assembly))

    assert (first[2], second[2]) == ('{"n":1}', '{"n":2}')
    assert first[0] != second[0]


@pytest.mark.parametrize(("cut", "arguments"), [(False, "{}"), (True, "")])
def test_a_call_without_arguments_has_an_empty_object(*, cut: bool, arguments: str) -> None:
    """Unless the answer was cut off there: then they are unknown."""
    assembly = _assembly()
    assembly.call(0, "a", "f", "")
    assembly.call(1, "b", "g", "")

    assert _calls(_told(assembly, cut=cut)) == [("a", "f", "{}"), ("b", "g", arguments)]


def test_arguments_that_cannot_be_stored_are_replaced() -> None:
    """U+0000 becomes U+FFFD, and half a character waits for its other half."""
    assembly = _assembly()
    assembly.call(0, "a", "f", '{"x": "\0\ud83d')
    assembly.call(0, "a", None, '\ude00"}')

    assert _calls(_told(assembly)) == [("a", "f", '{"x": "\ufffd\N{GRINNING FACE}"}')]


def test_reasoning_is_shown_to_those_who_ask() -> None:
    """Without it the rest is the same, and reasoning alone is no answer."""
    shown, hidden = _assembly(), _assembly(reasoning=False)
    for assembly in (shown, hidden):
        assembly.say("reasoning", "hm")
        assert not assembly.answered
        assembly.say("text", "ok")

    assert _take(shown) == [Piece("reasoning", "hm"), Piece("text", "ok")]
    assert _take(hidden) == [Piece("text", "ok")]


def _too_many(assembly: Assembly) -> None:
    for at in range(MAX_CALLS + 1):
        assembly.call(at, None, "f", "{}")


def _too_long(assembly: Assembly) -> None:
    for kind in ("text", "refusal", "reasoning"):
        assembly.say(kind, "x" * 300)  # type: ignore[arg-type]
    assembly.call(0, "a", "f", "x" * 300)


def _late(assembly: Assembly) -> None:
    assembly.call(0, "a", "f", "{}")
    assembly.say("text", "behind")
    _take(assembly)
    assembly.call(0, "a", None, "{}")


def _nameless(assembly: Assembly) -> None:
    assembly.call(0, "a", None, "{}")
    _close(assembly, cut=False)


def _misnamed(assembly: Assembly) -> None:
    assembly.call(0, "a", "rm -rf", "{}")


@pytest.mark.parametrize("fault", [_too_many, _too_long, _late, _nameless, _misnamed])
@pytest.mark.parametrize("reasoning", [True, False])
def test_what_is_no_answer_is_refused(fault: Any, *, reasoning: bool) -> None:
    """Too many calls, too much of all together, arguments that come too late, and names that no tool can have."""
    with pytest.raises(OrchestraError) as refused:
        fault(_assembly(1000 if fault is _too_long else 100_000, reasoning=reasoning))

    assert refused.value.code == ErrorCode.BAD_UPSTREAM


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_however_a_server_mixes_calls_they_come_out_whole_and_in_order(data: st.DataObject) -> None:
    """Any arguments, cut anywhere, mixed with each other and with text, numbered all 0: each call is whole, its pieces
    stand together, and what was passed on before it was complete begins no other."""
    arguments = data.draw(st.lists(st.dictionaries(st.text(max_size=4), _JSON, max_size=3).map(json.dumps), max_size=4))
    rest = [(f"c{at}", _cut(data, text)) for at, text in enumerate(arguments)]
    assembly, told, begun = _assembly(), [], set()
    while any(pieces for _, pieces in rest):
        id, pieces = data.draw(st.sampled_from([each for each in rest if each[1]]))
        assembly.call(0, id, None if id in begun else "f", pieces.pop(0))
        begun.add(id)
        if data.draw(st.booleans()):
            assembly.say("text", "t")
        told += _take(assembly)
        _check_order(told)
    told += _close(assembly, cut=False)

    _check_order(told)
    assert sorted(text for _, _, text in _calls(told)) == sorted(arguments)
    assert [piece.index for piece in told if piece.kind == "tool_call"] == list(range(len(arguments)))


def _cut(data: st.DataObject, text: str) -> list[str]:
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    return [text[start:end] for start, end in pairwise(places)]


def _check_order(told: list[Piece]) -> None:
    """Between the pieces of a call there is nothing else, and only the last call may be incomplete."""
    calls = joined(told)
    for before, after in pairwise(calls):
        if before.kind == "tool_arguments":
            json.loads(before.text)
        if after.kind == "tool_arguments":
            assert (before.kind, before.index) == ("tool_call", after.index)


_DELTAS = st.tuples(
    st.none() | st.integers(0, 3),
    st.none() | st.sampled_from("abc"),
    st.none() | st.sampled_from("fg"),
    st.text('{}[]"\\: 1', max_size=6),
)


@given(st.lists(_DELTAS, max_size=12))
def test_nonsense_is_an_answer_or_refused(calls: list[tuple[int | None, str | None, str | None, str]]) -> None:
    """Whatever a server says of calls, each has a head, once, and an id of its own; or the answer is refused."""
    assembly, told = _assembly(), []
    try:
        for call in calls:
            assembly.call(*call)
            told += _take(assembly)
        told += _close(assembly, cut=False)
    except OrchestraError as error:
        assert error.code == ErrorCode.BAD_UPSTREAM
        return

    ids = [id for id, _, _ in _calls(told)]
    assert len(ids) == len(set(ids)) == sum(piece.kind == "tool_call" for piece in told)
