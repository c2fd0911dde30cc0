import hashlib
import json
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers import simulated
from llm_service.providers.base import Call, EndOfText, Garbage, Piece
from llm_service.providers.simulated import Simulated, SimulatedOptions, conversation_hash, parse_options
from llm_service.providers.simulated_answer import answer
from orchestra.transcript import Piece as Item
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest, GenerationErrorCode
from tests.support.llm_wires import items_in

DIALOGUE = [
    ChatMessage(role="system", content="be kind"),
    ChatMessage(role="user", content=" two  words\n"),
    ChatMessage(role="assistant", content="hm"),
]


async def _pieces(model: str, provider: Simulated | None = None, max_tokens: int = 100) -> list[Piece]:
    call = Call(model=model, messages=DIALOGUE, max_tokens=max_tokens)
    return [piece async for piece in (provider or Simulated()).stream(call)]


def _text(pieces: list[Piece]) -> str:
    return "".join(piece for piece in pieces if isinstance(piece, str))


async def test_the_echo_is_exactly_the_last_user_message() -> None:
    """Without options it answers as the old service did, word by word, spaces kept."""
    *words, ending = await _pieces("simulated")

    assert words == ["echo:  ", "two  ", "words\n"]
    assert isinstance(ending, EndOfText)
    assert ending.usage.output_tokens == 3


async def test_tokens_sets_the_length() -> None:
    """`tokens=N` answers with N words; a smaller limit cuts it and says so."""
    *words, ending = await _pieces("simulated:tokens=33")
    *fewer, cut = await _pieces("simulated:tokens=33", max_tokens=32)

    assert (len(words), len(fewer)) == (33, 32)
    assert isinstance(ending, EndOfText)
    assert isinstance(cut, EndOfText)
    assert (ending.finish_reason, cut.finish_reason) == ("stop", "length")


async def test_a_long_answer_is_made_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is made when it is due, so that an answer of thousands delays no other call, and takes no memory."""
    made = 0

    def counted(*args: Any, **options: Any) -> Iterator[Item]:
        nonlocal made
        for piece in answer(*args, **options):
            made += 1
            yield piece

    monkeypatch.setattr(simulated, "answer", counted)
    call = Call(model="simulated:tokens=16000", messages=DIALOGUE, max_tokens=16000)
    pieces = Simulated().stream(call)

    assert ["word1 ", "word2 "] == [await anext(pieces), await anext(pieces)]
    assert 2 == made
    await pieces.aclose()


async def test_the_hash_covers_every_message_and_its_role() -> None:
    """`reply=hash` is SHA-256 of the messages in the documented form."""
    form = '[["system","be kind"],["user"," two  words\\n"],["assistant","hm"]]'

    assert _text(await _pieces("simulated:reply=hash")) == hashlib.sha256(form.encode()).hexdigest()
    assert conversation_hash(DIALOGUE[:2]) != conversation_hash(DIALOGUE)


@pytest.mark.parametrize("code", get_args(GenerationErrorCode))
async def test_every_error_of_the_closed_list_can_be_had(code: ErrorCode) -> None:
    """`fail` and `retry_after` come out as they went in."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces(f"simulated:fail={code},retry_after=1.5")

    assert (failed.value.code, failed.value.retry_after) == (code, 1.5)


async def test_fail_times_fails_so_often_for_one_conversation() -> None:
    """The first N calls with the same messages fail, the next succeed; another name counts for itself."""
    provider, codes = Simulated(), []
    for _ in range(3):
        try:
            await _pieces("simulated:fail_times=2", provider)
        except OrchestraError as error:
            codes.append(error.code)
    with pytest.raises(OrchestraError):
        await _pieces("simulated:fail_times=1", provider)

    assert codes == [ErrorCode.OVERLOADED, ErrorCode.OVERLOADED]


async def test_a_cut_stream_has_no_ending() -> None:
    """`cut_after` sends this many words and no end mark."""
    assert await _pieces("simulated:tokens=5,cut_after=2") == ["word1 ", "word2 "]


async def test_garbage_takes_the_place_of_the_ending() -> None:
    """`garbage` ends with bytes that are no line of ours."""
    assert isinstance((await _pieces("simulated:garbage=1"))[-1], Garbage)


@pytest.mark.parametrize(
    "options", ["tokens", "tokens=x", "tokens=-1", "colour=1", "fail=nothing", "tokens=1,,", "fail=not_found", "=", " "]
)
def test_a_bad_option_is_refused(options: str) -> None:
    """A wrong name or value is `invalid_request`, never a guess."""
    with pytest.raises(OrchestraError) as refused:
        parse_options(f"simulated:{options}")

    assert refused.value.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("tokens=x", "tokens has a wrong value"),
        ("gap_ms=1,fail=nothing", "fail has a wrong value"),
        ("secret=1", "there are only latency_ms, gap_ms, tokens"),
    ],
)
def test_the_wrong_option_is_named(options: str, told: str) -> None:
    """A known option is named, an unknown one is answered by those that there are, and nothing of it is repeated."""
    with pytest.raises(OrchestraError, match=told) as refused:
        parse_options(f"simulated:{options}")

    assert "secret" not in refused.value.detail


async def test_an_answer_of_nothing_is_an_error() -> None:
    """`tokens=0` is a model that ends without a word."""
    with pytest.raises(OrchestraError) as failed:
        await _pieces("simulated:tokens=0")

    assert failed.value.code == ErrorCode.EMPTY_REPLY


@given(st.text(max_size=80))
def test_any_options_are_read_or_refused(options: str) -> None:
    """No text behind the name can do worse than be refused."""
    try:
        assert isinstance(parse_options(f"simulated:{options}"), SimulatedOptions)
    except OrchestraError as error:
        assert error.code == ErrorCode.INVALID_REQUEST


def _tool(name: str, **properties: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


_TOOLS = [_tool("weather", city={"type": "string"}), _tool("clock"), {"type": "function", "function": {"name": "bare"}}]


def _called(id: str, name: str, result: str) -> list[dict[str, object]]:
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": id, "content": result},
    ]


async def _answer(
    said: str | list[dict[str, object]], model: str = "simulated", max_tokens: int = 100, **options: object
) -> tuple[list[Piece], EndOfText]:
    dialogue = [{"role": "user", "content": said}] if isinstance(said, str) else said
    ask = GenerateRequest.model_validate({"messages": dialogue, **options})
    call = Call(model, ask.messages, max_tokens, options=ask, text_only=ask.text_only)
    *pieces, ending = [piece async for piece in Simulated().stream(call)]
    assert isinstance(ending, EndOfText)
    return pieces, ending


async def _calls(said: str | list[dict[str, object]], **options: object) -> list[tuple[str, str]]:
    items = items_in((await _answer(said, tools=_TOOLS, **options))[0]) or []
    return [(item["name"], item["arguments"]) for item in items if item["type"] == "function_call"]


_NAMED = {"type": "function", "function": {"name": "clock"}}


@pytest.mark.parametrize(
    ("said", "options", "calls"),
    [
        ("hello", {}, []),
        ("please call clock.", {}, [("clock", "{}")]),
        ("call weather and call clock, call nothing", {}, [("weather", '{"city": ""}'), ("clock", "{}")]),
        ("call weather and call clock", {"parallel_tool_calls": False}, [("weather", '{"city": ""}')]),
        ("call weather", {"tool_choice": "none"}, []),
        ("hello", {"tool_choice": "required"}, [("weather", '{"city": ""}')]),
        ("hello", {"tool_choice": _NAMED}, [("clock", "{}")]),
        ("call bare", {}, [("bare", "{}")]),
    ],
)
async def test_it_calls_the_tools_that_it_is_asked_for(
    said: str, options: dict[str, object], calls: list[tuple[str, str]]
) -> None:
    """By the choice, or by `call NAME` in what the user said; with the smallest arguments that fit."""
    assert await _calls(said, **options) == calls


async def test_a_call_comes_in_pieces_with_an_id_of_its_own() -> None:
    """The same call has the same id, another place in the dialogue another; arguments come in two pieces or more."""
    (head, *pieces), ending = await _answer("call clock", tools=_TOOLS)
    again = (await _answer("call clock", tools=_TOOLS))[0][0]
    later = (
        await _answer([{"role": "user", "content": "hi"}, {"role": "user", "content": "call clock"}], tools=_TOOLS)
    )[0][0]

    assert isinstance(head, Item)
    assert (head.kind, head.index, head.name) == ("tool_call", 0, "clock")
    assert pieces == [Item("tool_arguments", "{", 0), Item("tool_arguments", "}", 0)]
    assert head == again != later
    assert (ending.finish_reason, ending.usage.output_tokens) == ("tool_calls", 3)


async def test_behind_the_results_it_quotes_them() -> None:
    """A tool is called once for each message of the user; then the answer is what came of all of them."""
    dialogue: list[dict[str, object]] = [
        {"role": "user", "content": "call weather, call clock"},
        *_called("a", "weather", "mild"),
    ]
    assert await _calls(dialogue) == [("clock", "{}")]
    dialogue += _called("b", "clock", "noon")
    text, ending = await _answer(dialogue, tools=_TOOLS)
    again = await _calls([*dialogue, {"role": "user", "content": "call clock"}])

    assert "".join(map(str, text)) == "weather: mild\nclock: noon"
    assert ending.finish_reason == "stop"
    assert again == [("clock", "{}")]


async def test_its_answers_have_the_form_that_is_asked_for() -> None:
    """The smallest JSON that fits a schema, or an object with the echo."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    fitting, _ = await _answer("hi", response_format=form)
    echo, _ = await _answer('say "hi"', response_format={"type": "json_object"})

    assert json.loads("".join(map(str, fitting))) == {"n": 2}
    assert json.loads("".join(map(str, echo))) == {"echo": 'say "hi"'}


async def test_it_reasons_where_that_is_wanted() -> None:
    """Before the answer; an option says how long. Only those who ask see it, but it counts."""
    asked, _ = await _answer("hi", reasoning="include")
    longer, ending = await _answer("hi", "simulated:reasoning=5", reasoning="include")
    hidden, counted = await _answer("hi", "simulated:reasoning=5", response_format={"type": "json_object"})
    text, plain = await _answer("hi", "simulated:reasoning=5")

    assert [piece.kind for piece in asked[:3] if isinstance(piece, Item)] == ["reasoning"] * 3
    assert (asked[3:], longer[5:]) == (["echo: ", "hi"], ["echo: ", "hi"])
    assert (ending.usage.reasoning_tokens, ending.usage.output_tokens) == (5, 7)
    assert (counted.usage.reasoning_tokens, hidden) == (5, ['{"echo": ', '"hi"}'])
    assert (plain.usage.reasoning_tokens, text) == (None, ["echo: ", "hi"])


@pytest.mark.parametrize(("limit", "text"), [(2, ""), (4, "echo: "), (5, "echo: hi")])
async def test_the_limit_cuts_it_off(limit: int, text: str) -> None:
    """Inside of the reasoning or of the text, and the reason says so; reasoning alone is an answer then."""
    pieces, ending = await _answer("hi", max_tokens=limit, reasoning="include")

    assert "".join(piece for piece in pieces if isinstance(piece, str)) == text
    assert ending.finish_reason == ("stop" if text == "echo: hi" else "length")


async def test_delays_and_faults_hold_for_calls_too() -> None:
    """A stream can be cut inside of the arguments of a call, or fail there."""
    ask = GenerateRequest.model_validate({"messages": [{"role": "user", "content": "call clock"}], "tools": _TOOLS})
    cut = Call("simulated:cut_after=2", ask.messages, 100, options=ask, text_only=False)
    failing = Call("simulated:fail=overloaded,fail_after=1", ask.messages, 100, options=ask, text_only=False)

    assert [each.kind async for each in Simulated().stream(cut) if isinstance(each, Item)] == [
        "tool_call",
        "tool_arguments",
    ]
    with pytest.raises(OrchestraError, match=ERRORS[ErrorCode.OVERLOADED].title):
        _ = [piece async for piece in Simulated().stream(failing)]


async def test_its_count_of_the_input_grows_with_it() -> None:
    """Messages, tools, calls and their results count, and nothing is cached."""
    said: list[dict[str, object]] = [{"role": "user", "content": "hi"}]
    asked = [
        (said, {}),
        (said, {"tools": _TOOLS}),
        ([*said, *_called("a", "clock", "noon")], {"tools": _TOOLS}),
        (
            [
                *said,
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
                },
            ],
            {"tools": _TOOLS},
        ),
    ]
    usages = [(await _answer(dialogue, **options))[1].usage for dialogue, options in asked]

    counts = [usage.input_tokens for usage in usages]
    assert counts == sorted(set(counts))
    assert {usage.cached_tokens for usage in usages} == {None}


async def test_the_hash_covers_calls_results_and_parts() -> None:
    """A message that is not a text alone has a third element; the campaign of faults computes the same."""
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    dialogue: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "look"}, part]},
        *_called("a", "clock", "noon"),
        {"role": "assistant", "refusal": "no"},
    ]
    messages = [ChatMessage.model_validate(each) for each in dialogue]
    parts = [{"text": "look", "type": "text"}, part]
    pairs = [
        ["user", "look", parts],
        ["assistant", "", [["a", "clock", "{}"]]],
        ["tool", "noon", "a"],
        ["assistant", "", "no"],
    ]

    form = json.dumps(pairs, separators=(",", ":"), sort_keys=True)
    assert conversation_hash(messages) == hashlib.sha256(form.encode()).hexdigest()
