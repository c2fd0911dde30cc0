"""What becomes of the answers of OpenAI-compatible servers to calls that ask for more than a text."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.base import Call, EndOfText, Piece, State
from llm_service.providers.reply_parser import ReplyParser
from orchestra.transcript import Piece as Item
from orchestra.transcript import items_of, joined
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Options, Usage
from tests.support.llm_wires import OPENAI_DONE, OPENAI_USAGE, openai_event

_TOOL = {"type": "function", "function": {"name": "f"}}
_ASKED = [ChatMessage(role="user", content="hi")]
_USAGE = {"prompt_tokens": 11, "completion_tokens": 7}


def _parser(*, text_only: bool = False, reply_bytes: int = 10_000, **options: object) -> ReplyParser:
    asked = Options.model_validate({"tools": [_TOOL], "reasoning": "include", **options})
    call = Call("m", _ASKED, None, options=asked, text_only=text_only, provider="openai_compatible")
    return ReplyParser(call, reply_bytes=reply_bytes)


def _read(parser: ReplyParser, *chunks: bytes) -> tuple[list[Piece], EndOfText]:
    pieces = [piece for chunk in chunks for piece in parser.feed(chunk)] + [*parser.close()]
    return pieces, parser.ending()


def _items(pieces: list[Piece]) -> list[Item]:
    texts = (Item("text", piece) if isinstance(piece, str) else piece for piece in pieces)
    return joined([piece for piece in texts if isinstance(piece, Item)])


def _delta(**delta: Any) -> bytes:
    return b"data: %b\n\n" % orjson.dumps({"choices": [{"index": 0, "delta": delta}]})


def _call(index: int | None, id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    told = {"index": index, "id": id, "function": {key: value for key, value in function.items() if value is not None}}
    return {key: value for key, value in told.items() if value is not None}


def _whole(**message: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return orjson.dumps({"choices": [choice], "usage": _USAGE})


_ENDING = openai_event(finish="tool_calls") + OPENAI_USAGE + OPENAI_DONE
_HEAD = Item("tool_call", "", 0, "a", "f")
_FG = [_HEAD, Item("tool_arguments", '{"n":1}', 0), Item("tool_call", "", 1, "b", "g"), Item("tool_arguments", "{}", 1)]


@pytest.mark.parametrize(
    "chunks",
    [
        [_delta(tool_calls=[_call(0, "a", "f", "")]), _delta(tool_calls=[_call(0, arguments='{"n"')]),
         _delta(tool_calls=[_call(0, arguments=":1}")]), _delta(tool_calls=[_call(1, "b", "g", "{}")]), _ENDING],
        [_delta(tool_calls=[_call(0, "a", "f", '{"n":1}'), _call(0, "b", "g", "{}")]), _ENDING],
        [_delta(tool_calls=[_call(None, "a", "f", {"n": 1}), _call(None, "b", "g", {})]), _ENDING],
        [_delta(tool_calls=[_call(0, "a", "f", '{"n":1}')]), _delta(tool_calls=[_call(0, "b", "g")]),
         openai_event(finish="stop"), OPENAI_DONE],
        [_whole(content=None, tool_calls=[_call(None, "a", "f", '{"n":1}'), _call(None, "b", "g", "")])],
    ],
    ids=["streamed", "whole, all 0", "objects", "finish stop, no arguments", "document"],
)  # fmt: skip
def test_calls_are_read_wherever_they_are(chunks: list[bytes]) -> None:
    """Streamed, whole, in one document: the calls are the same, and they are why the answer ended."""
    pieces, ending = _read(_parser(), *chunks)

    assert [replace(piece, text=piece.text.replace(" ", "")) for piece in _items(pieces)] == _FG
    assert ending.finish_reason == "tool_calls"


def test_a_legacy_function_call_is_a_call() -> None:
    """The older `function_call` has no id, so the call gets one."""
    pieces, ending = _read(
        _parser(),
        _delta(function_call={"name": "f", "arguments": ""}),
        _delta(function_call={"arguments": '{"n":1}'}),
        openai_event(finish="function_call"),
        OPENAI_DONE,
    )
    head, arguments = _items(pieces)

    assert (head.name, arguments.text, ending.finish_reason) == ("f", '{"n":1}', "tool_calls")
    assert head.call_id


def test_text_before_a_call_is_its_own_item() -> None:
    """The order of the items is that of the model."""
    pieces, _ = _read(_parser(), openai_event("ok"), _delta(tool_calls=[_call(0, "a", "f", "{}")]), _ENDING)

    assert _items(pieces) == [Item("text", "ok"), _HEAD, Item("tool_arguments", "{}", 0)]


def test_a_call_that_was_cut_off_is_no_whole_one() -> None:
    """The limit ended it: the arguments are what came of them, and the reason is the length."""
    chunks = [_delta(tool_calls=[_call(0, "a", "f", '{"n":')]), openai_event(finish="length"), OPENAI_DONE]
    pieces, ending = _read(_parser(), *chunks)

    assert _items(pieces) == [_HEAD, Item("tool_arguments", '{"n":', 0)]
    assert ending.finish_reason == "length"


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_content": "hm"},
        {"reasoning": "hm"},
        {"thinking": "hm"},
        {"reasoning": "hm", "reasoning_content": "hm"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
        {"content": [{"type": "reasoning", "text": "hm"}]},
    ],
)
def test_reasoning_is_shown_to_those_who_ask(delta: dict[str, Any]) -> None:
    """It is read wherever servers put it, once, and is no part of the text."""
    chunks = [_delta(**delta), openai_event("ok", finish="stop"), OPENAI_DONE]

    assert _items(_read(_parser(), *chunks)[0]) == [Item("reasoning", "hm"), Item("text", "ok")]
    assert _items(_read(_parser(reasoning=None), *chunks)[0]) == [Item("text", "ok")]


@pytest.mark.parametrize("delta", [{"refusal": "no"}, {"content": [{"type": "refusal", "refusal": "no"}]}])
def test_a_refusal_is_an_answer_of_its_own_kind(delta: dict[str, Any]) -> None:
    """It is not text where the client understands that."""
    chunks = [_delta(**delta), openai_event(finish="stop"), OPENAI_DONE]

    assert _items(_read(_parser(), *chunks)[0]) == [Item("refusal", "no")]
    assert _read(_parser(text_only=True, tools=None, reasoning=None), *chunks)[0] == ["no"]


def test_the_details_of_the_usage_are_told() -> None:
    """Cached and reasoning tokens, by OpenAI's and by DeepSeek's names; nonsense and null are left out."""
    openai = {"prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 0}}
    deepseek = {"prompt_cache_hit_tokens": 5, "prompt_tokens_details": None}
    nonsense = {"prompt_tokens_details": {"cached_tokens": -1}, "completion_tokens_details": {"reasoning_tokens": True}}
    told = []
    for more in (openai, deepseek, nonsense):
        counts = b'data: {"choices":[],"usage":%b}\n\n' % orjson.dumps(_USAGE | more)
        told.append(_read(_parser(), openai_event("ok", finish="stop"), counts, OPENAI_DONE)[1].usage)

    assert told == [
        Usage(input_tokens=11, output_tokens=7, cached_tokens=4, reasoning_tokens=0),
        Usage(input_tokens=11, output_tokens=7, cached_tokens=5),
        Usage(input_tokens=11, output_tokens=7),
    ]


_DETAIL = {"type": "reasoning.text", "index": 0, "format": "x"}


@pytest.mark.parametrize(
    ("deltas", "kept"),
    [
        ([{"reasoning_content": "h"}, {"reasoning_content": "m"}], {"reasoning_content": "hm"}),
        ([{"reasoning": "hm"}], {"reasoning": "hm"}),
        (
            [
                {"reasoning": "h", "reasoning_details": [{**_DETAIL, "text": "h"}]},
                {"reasoning": "m", "reasoning_details": [{**_DETAIL, "text": "m"}]},
                {"reasoning_details": [{**_DETAIL, "signature": "s"}, {"type": "reasoning.encrypted", "data": "e"}]},
            ],
            {
                "reasoning_details": [
                    {**_DETAIL, "text": "hm", "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "e"},
                ]
            },
        ),
        ([{"extra_content": {"google": {"a": 1}}}], {"extra_content": {"google": {"a": 1}}}),
        ([], {}),
    ],
    ids=["DeepSeek", "vLLM", "OpenRouter", "Gemini", "none"],
)
def test_what_a_server_wants_back_comes_with_the_calls(deltas: list[dict[str, Any]], kept: dict[str, Any]) -> None:
    """As the last piece, with the provider's name; an answer without calls has none of it."""
    called = _delta(tool_calls=[{**_call(0, "a", "f", "{}"), **({"extra_content": {"b": 1}} if kept else {})}])
    chunks = [_delta(**delta) for delta in deltas]
    with_call, _ = _read(_parser(reasoning=None), *chunks, called, _ENDING)
    without, _ = _read(_parser(reasoning=None), *chunks, openai_event("ok", finish="stop"), OPENAI_DONE)

    expected = State({"provider": "openai_compatible", **kept, "calls": {"a": {"b": 1}}})
    assert [piece for piece in with_call if isinstance(piece, State)] == ([expected] if kept else [])
    assert with_call[-1] == (expected if kept else Item("tool_arguments", "{}", 0))
    assert not any(isinstance(piece, State) for piece in without)


@pytest.mark.parametrize(
    ("chunks", "code"),
    [
        ([_delta(reasoning="hm"), openai_event(finish="stop"), OPENAI_DONE], ErrorCode.EMPTY_REPLY),
        ([_delta(content=""), openai_event(finish="tool_calls"), OPENAI_DONE], ErrorCode.EMPTY_REPLY),
        ([_delta(images=[{"url": "x"}]), openai_event(finish="stop"), OPENAI_DONE], ErrorCode.BAD_UPSTREAM),
        ([_delta(tool_calls=[_call(0, "a", "f", "{}")])], ErrorCode.BAD_UPSTREAM),
        ([_delta(tool_calls=[_call(0, "a", None, "{}")]), _ENDING], ErrorCode.BAD_UPSTREAM),
        ([_delta(tool_calls={"0": "a"}), _ENDING], ErrorCode.BAD_UPSTREAM),
        ([_delta(tool_calls=[_call(0, "a", "f", "x" * 20_000)]), _ENDING], ErrorCode.BAD_UPSTREAM),
        ([_delta(reasoning_details=[{"data": "x" * 20_000}]), _ENDING], ErrorCode.BAD_UPSTREAM),
        ([openai_event("ok", finish="content_filter"), OPENAI_DONE], ErrorCode.CONTENT_FILTER),
    ],
    ids="reasoning tool-less elsewhere cut nameless no-list long details filtered".split(),
)
def test_what_is_no_answer_is_an_error(chunks: list[bytes], code: ErrorCode) -> None:
    """Reasoning alone, an end without anything, unreadable content, too much of it: each is an error by name."""
    with pytest.raises(OrchestraError) as failed:
        _read(_parser(), *chunks)

    assert failed.value.code == code


def test_reasoning_that_used_up_the_limit_is_an_answer() -> None:
    """Its finish reason says why there is no more."""
    pieces, ending = _read(_parser(), _delta(reasoning="hm"), openai_event(finish="length"), OPENAI_DONE)

    assert (_items(pieces), ending.finish_reason) == ([Item("reasoning", "hm")], "length")


def test_state_can_be_stored() -> None:
    """Thoughts are made storable; other data that cannot be stored is not kept, and the answer is whole without it."""
    called = _delta(tool_calls=[_call(0, "a", "f", "{}")])
    thoughts, _ = _read(_parser(), _delta(reasoning_content="h\0m"), called, _ENDING)
    details, ending = _read(_parser(), _delta(reasoning_details=[{"type": "x", "data": "\0"}]), called, _ENDING)

    assert thoughts[-1] == State({"provider": "openai_compatible", "reasoning_content": "h\ufffdm"})
    assert _items(details)[0] == details[0] == _HEAD
    assert not any(isinstance(piece, State) for piece in details)
    assert ending.finish_reason == "tool_calls"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            "choices delta message content type text tool_calls index id function name arguments function_call refusal "
            "reasoning reasoning_details extra_content usage finish_reason".split()
        ),
        inner,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.lists(_JSON, max_size=4), st.sampled_from([b'{"choices":[{"delta":%b}]}', b'{"choices":[%b]}', b"%b"]))
def test_any_json_is_understood_or_refused(documents: list[object], frame: bytes) -> None:
    """Documents of any shape are read as far as they go, or refused by name; none crashes the parser."""
    chunks = [b"data: %b\n\n" % (frame % orjson.dumps(document)) for document in documents]
    try:
        pieces, _ = _read(_parser(), *chunks, openai_event(finish="stop"), OPENAI_DONE)
    except OrchestraError as error:
        assert error.code in ErrorCode
    else:
        assert items_of(_items(pieces)) is None or orjson.dumps(items_of(_items(pieces)))
