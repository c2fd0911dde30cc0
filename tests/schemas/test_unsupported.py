"""Promises of schemas/unsupported.py: a field without effect is refused or named, never dropped in silence."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api.messages import PostMessage
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MessageRequested
from schemas.unsupported import (
    _ELSEWHERE,
    _NOT_YET,
    _NOT_YET_IN_MESSAGES,
    MAX_WARNINGS,
    ignored_fields,
    refuse_unsupported,
)
from tests.support.bodies import any_json, bodies

HELLO = {"role": "user", "content": "hi"}
TEXT = {"type": "text", "text": "hi"}
BODY: dict[str, Any] = {"messages": [HELLO]}
KNOWN = PostMessage.model_fields


def ignored(body: dict[str, Any]) -> list[str]:
    """Names of the fields of a body that have no effect."""
    return ignored_fields(body, KNOWN, PostMessage.model_validate(body))


def refused(body: Any) -> str:
    """Why a body is refused."""
    with pytest.raises(OrchestraError) as caught:
        refuse_unsupported(body)
    assert ErrorCode.NOT_SUPPORTED is caught.value.code
    return caught.value.detail


@pytest.mark.parametrize(
    ("field", "detail"),
    [
        ({"functions": [{"name": "f"}]}, "functions: not supported yet"),
        ({"function_call": {"name": "f"}}, "function_call: not supported yet"),
        ({"n": 3}, "n: not supported yet"),
        ({"logprobs": True}, "logprobs: not supported yet"),
        ({"top_k": 0}, "top_k: not supported yet"),
        ({"modalities": ["text", "audio"]}, "modalities: not supported yet"),
        ({"system": "Be brief."}, "system: send it in messages, with the role system"),
        ({"input": "hi"}, "input: send it in messages"),
        ({"messages": [HELLO, {"role": "function", "content": "4"}]}, "messages.1.role: function is not supported yet"),
        ({"messages": [{**HELLO, "images": ["x"]}]}, "messages.0.images: not supported yet"),
        ({"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, "messages.0.audio: not supported yet"),
        ({"functions": [1], "n": 2}, "functions: not supported yet; n: not supported yet"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(field: dict[str, Any], detail: str) -> None:
    """Each with its place, and none of its value."""
    assert detail == refused({**BODY, **field})


@pytest.mark.parametrize(
    "field",
    [
        {"n": 1}, {"tools": []}, {"tool_choice": "none"}, {"tool_choice": "auto"},
        {"response_format": {"type": "text"}},
        {"presence_penalty": 0}, {"frequency_penalty": 0.0}, {"logprobs": False}, {"logit_bias": {}}, {"system": ""},
        {"modalities": ["text"]}, {"parallel_tool_calls": False}, {"top_logprobs": 0}, {"functions": []},
        {"messages": [{**HELLO, "tool_calls": [], "refusal": None}]},
        {"messages": [{**HELLO, "refusal": ""}]}, {"parallel_tool_calls": True}, {"seed": None, "reasoning": None},
        *({name: None} for name in (*_NOT_YET, *_ELSEWHERE, "user", "colour")),
        *({"messages": [{**HELLO, name: None}]} for name in _NOT_YET_IN_MESSAGES),
    ],
    ids=str,
)  # fmt: skip
def test_what_asks_for_nothing_is_let_through_in_silence(field: dict[str, Any]) -> None:
    """A value that is the default anyway, or null, is neither refused nor warned of."""
    body = {**BODY, **field}

    refuse_unsupported(body)

    assert [] == ignored(body)


def test_the_rest_is_named() -> None:
    """Fields without effect and unknown fields are ignored and named, once each, at most ten of them."""
    body = {
        "author": "ada", "store": True, "stream_options": {"include_usage": True}, "max_token": 5,
        "messages": [{**HELLO, "id": "a"}, {**HELLO, "id": "b", "x-y": 1}],
    }  # fmt: skip

    assert ["author", "store", "stream_options", "max_token", "messages.id", "other"] == ignored(body)
    assert [f"f{at}" for at in range(MAX_WARNINGS)] == ignored_fields({f"f{at}": 1 for at in range(30)}, (), None)


def test_what_has_no_effect_is_named_at_any_depth() -> None:
    """An unknown field of a part, a tool, a call or a format is named with its place, and a schema is passed whole."""
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    image = {"type": "image_url", "image_url": {"url": "data:,", "detail": "low", "size": 3, "width": None}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "parsed": {}}, "index": 0}
    schema = {"type": "object", "x-mine": {"y": [1]}}
    body = {
        "messages": [
            {"role": "user", "content": [part, image]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "4"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "examples": []}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}, "mode": "x"},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "x y": 1}},
    }

    assert {
        "messages.content.cache_control", "messages.content.image_url.size", "messages.tool_calls.function.parsed",
        "messages.tool_calls.index", "tools.function.examples", "tool_choice.mode", "other",
    } == set(ignored(body))  # fmt: skip


@pytest.mark.parametrize("name", ["max-tokens", "x" * 65, "", "ümlaut", "a b", "<script>", "a\n"])
def test_a_name_that_is_not_repeated_still_counts(name: str) -> None:
    """The caller learns that something was ignored, once, wherever in the body it is, and nothing of the name."""
    assert ["colour", "other"] == ignored({**BODY, "colour": 1, name: 1, f"{name}!": 1})
    assert ["other"] == ignored({"messages": [{**HELLO, name or "-": 1}, {**HELLO, f"{name}!": 1}]})
    assert ["other"] == ignored({"messages": [{**HELLO, "content": [{**TEXT, name or "-": 1, f"{name}!": 1}]}]})
    assert [] == ignored({**BODY, name: None})


@given(st.dictionaries(st.text(), any_json().filter(lambda value: value is not None), min_size=1, max_size=3))
def test_no_field_is_dropped_in_silence(body: dict[str, Any]) -> None:
    """Under any name, an unknown field with a value leaves a warning."""
    assert ignored_fields({f"!{name}": value for name, value in body.items()}, (), None)


@given(st.dictionaries(st.text(), any_json(), max_size=4))
def test_nothing_but_plain_names_is_repeated(body: dict[str, Any]) -> None:
    """Whatever a body holds, its warnings are words of 64 letters, digits, dots and underscores at most."""
    for name in ignored_fields({**body, "messages": [HELLO]}, (), PostMessage.model_validate(BODY)):
        assert 1 <= len(name) <= 64
        assert name.replace("_", "a").replace(".", "a").isalnum()
        assert name.isascii()


@given(
    any_json() | st.dictionaries(st.sampled_from(sorted([*_NOT_YET, *_ELSEWHERE, "messages"])), any_json(), max_size=4)
)
def test_any_json_is_judged(body: Any) -> None:
    """Of whatever shape it is: refused by a name of the table, or let through, and nothing else."""
    try:
        refuse_unsupported(body)
    except OrchestraError as error:
        assert ErrorCode.NOT_SUPPORTED is error.code


@given(bodies())
def test_a_good_body_is_none_of_its_business(body: dict[str, Any]) -> None:
    """Nothing of ours is refused or warned of."""
    refuse_unsupported(body)

    assert [] == ignored(body)


def test_no_field_of_ours_is_in_the_table() -> None:
    """What is offered one day is taken out; only Kafka's records have more fields than a POST."""
    assert not KNOWN.keys() & {*_NOT_YET, *_ELSEWHERE}
    assert not MessageRequested.model_fields.keys() & _NOT_YET.keys()


def test_a_long_list_of_refusals_is_cut() -> None:
    """Of ten thousand messages that are all refused, five are named and the others counted."""
    detail = refused({"messages": [{"role": "function"}] * 10_000})

    assert (5, True) == (detail.count("function is not supported"), detail.endswith("; and 9995 more"))
