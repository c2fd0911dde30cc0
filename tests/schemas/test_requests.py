"""Promises of schemas/requests.py: what a request body may be, and when two bodies are the same."""

import json
import re
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import (
    CANCEL_REQUESTED,
    CONVERSATION_DELETE_REQUESTED,
    CancelRequested,
    ConversationDeleteRequested,
    MessageRequested,
    read_record,
)
from tests.support.bodies import TEXTS, any_json, bodies

SECRET = "zq-secret-zq"


def refusal(value: Any, type_name: str | None = None) -> OrchestraError:
    with pytest.raises(OrchestraError) as caught:
        read_record(type_name, value)
    return caught.value


def body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], **fields}


@given(bodies(), st.randoms())
def test_hash_ignores_the_order_of_fields(fields: dict[str, Any], random: Any) -> None:
    """The same body with its fields in another order has the same hash."""
    shuffled = list(fields.items())
    random.shuffle(shuffled)

    assert MessageRequested.model_validate(fields).body_hash() == MessageRequested(**dict(shuffled)).body_hash()


@given(bodies(), st.sampled_from([True, False, None]))
def test_hash_ignores_how_to_answer(fields: dict[str, Any], stream: bool | None) -> None:
    """Asking for a stream, or giving the id, does not make another request of it."""
    plain = MessageRequested.model_validate(fields)
    other = MessageRequested.model_validate({**fields, "stream": stream, "id": str(uuid4())})

    assert plain.body_hash() == other.body_hash()


@given(bodies(), TEXTS)
def test_hash_tells_other_text_apart(fields: dict[str, Any], text: str) -> None:
    """A body with one more message has another hash."""
    more = {**fields, "messages": [*fields["messages"], {"role": "user", "content": text}]}

    assert MessageRequested.model_validate(fields).body_hash() != MessageRequested.model_validate(more).body_hash()


@given(bodies())
def test_canonical_body_is_a_body(fields: dict[str, Any]) -> None:
    """The canonical body, read again, is the same request."""
    first = MessageRequested.model_validate(fields)

    assert first.canonical() == MessageRequested.model_validate_json(first.canonical()).canonical()


# Computed with the code of release 0.1.0 (b5bf80d).
HASH_OF_HELLO = "19e21ad5462e808b27165af1d6f50bd3a1eff3a04bb4a4cd080a9871cbfa0929"
HASH_OF_MORE = "4739602f623a7f45818c4128a0eb2276d57f537e000de6f15424d50bc12d15c4"


@pytest.mark.parametrize(
    "neutral",
    [
        {"frequency_penalty": 0},
        {"frequency_penalty": -0.0},
        {"presence_penalty": 0.0},
        {"parallel_tool_calls": True},
        {"parallel_tool_calls": False},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none"},
        {"tool_choice": "auto"},
        {"tools": []},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        dict.fromkeys("frequency_penalty presence_penalty seed reasoning reasoning_effort response_format".split()),
        dict.fromkeys("tool_choice tools parallel_tool_calls user max_completion_tokens".split()),
        *({"messages": [{"role": "user", "content": "hi", **more}]} for more in (
            {"refusal": ""}, {"tool_calls": []}, dict.fromkeys(("refusal", "tool_calls", "tool_call_id", "name")),
        )),
    ],
    ids=str,
)  # fmt: skip
def test_what_meant_nothing_in_release_0_1_0_still_means_nothing(neutral: dict[str, Any]) -> None:
    """A body with a neutral value is the same request as in that release, in which it was passed over."""
    assert HASH_OF_HELLO == MessageRequested.model_validate(body(**neutral)).body_hash()


def test_a_body_of_release_0_1_0_is_the_same_request() -> None:
    """Its hash is the one that release computed, so that a repeat is recognised across an upgrade."""
    said = [("system", "s"), ("user", "hi"), ("assistant", "a"), ("user", "größer")]
    more = {
        "messages": [{"role": role, "content": text} for role, text in said],
        "max_completion_tokens": 5,
        "temperature": 0.5,
        "stop": ["x"],
        "metadata": {"a": "b"},
        "priority": 3,
        "model": "m",
        "conversation_id": "3f9d2c74-51aa-4e0b-b0f7-8c6d1e2a4b90",
    }

    assert HASH_OF_MORE == MessageRequested.model_validate(more).body_hash()


def test_null_and_absent_are_the_same() -> None:
    """A field that is null is a field that was left out."""
    assert MessageRequested(**body()).body_hash() == MessageRequested(**body(model=None, stop=None)).body_hash()


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"messages": [{"role": "user", "content": "{}"}]}, "messages.0.content"),
        (body(model="a{}"), "model"),
        (body(stop=["{}"]), "stop"),
        (body(metadata={"key": "{}"}), "metadata"),
        (body(metadata={"{}": "value"}), "metadata"),
    ],
)
@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800", "x\\udfffy"])
def test_text_that_nobody_can_keep_is_refused_by_name(fields: dict[str, Any], where: str, bad: str) -> None:
    """U+0000 and lone surrogates are refused, with the field that has them."""
    raw = json.dumps(fields).replace("{}", bad)

    error = refusal(parse_json(raw.encode()))

    assert ErrorCode.INVALID_REQUEST == error.code
    assert where in error.detail


def test_paired_surrogates_are_a_character() -> None:
    """An escaped character outside of the basic plane is text like any other."""
    record = read_record(None, parse_json(rb'{"messages":[{"role":"user","content":"\ud83d\ude00"}]}'))

    assert isinstance(record, MessageRequested)
    assert record.messages[0].content == "\N{GRINNING FACE}"


@given(any_json(), st.sampled_from([None, "", CANCEL_REQUESTED, CONVERSATION_DELETE_REQUESTED, "other", "llm.reply"]))
def test_any_json_is_read_or_refused(value: Any, type_name: str | None) -> None:
    """Whatever JSON a producer writes, it becomes a record that can be kept, or an error of the closed list."""
    try:
        record = read_record(type_name, value)
    except OrchestraError as error:
        error.detail.encode()
        assert "\0" not in error.detail
    else:
        assert re.search(r"(?<!\\)(\\\\)*\\u0000", record.model_dump_json()) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": SECRET},
        {"messages": [{"role": SECRET, "content": "hi"}]},
        {"messages": [{"role": "user", "content": {SECRET: 1}}]},
        body(conversation_id=SECRET),
        body(id="\0" + SECRET),
        body(context=SECRET),
        body(priority=SECRET),
        body(deadline=SECRET),
        body(metadata={SECRET: 1}),
        body(metadata={SECRET * 20: "x"}),
        body(temperature=SECRET),
        SECRET,
        [SECRET],
    ],
)
def test_refusals_echo_nothing(fields: Any) -> None:
    """What was sent does not come back in the text of the error, not one telling character of it."""
    detail = refusal(fields).detail

    assert SECRET not in detail
    assert "\0" not in detail


def test_many_problems_are_counted_not_listed() -> None:
    """A body that is wrong in a thousand places gets a short answer."""
    detail = refusal({"messages": [{}] * 1000}).detail

    assert detail.endswith("; and 995 more")
    assert len(detail) < 400


@pytest.mark.parametrize("absent", ["", None])
def test_empty_names_are_absent(absent: str | None) -> None:
    """Old clients send an empty conversation id or model for none."""
    request = MessageRequested(**body(conversation_id=absent, model=absent))

    assert (None, None) == (request.conversation_id, request.model)


def test_unknown_fields_are_ignored() -> None:
    """A newer producer's field does not stop an older worker, nor change the hash."""
    assert MessageRequested(**body()).body_hash() == MessageRequested.model_validate(body(of_the_future=1)).body_hash()


@pytest.mark.parametrize("text", ["2030-01-02T03:04:05", "2030-01-02T05:04:05+02:00"])
def test_deadlines_are_moments(text: str) -> None:
    """The same moment is the same deadline however its zone is written; none means UTC."""
    other = MessageRequested.model_validate(body(deadline=text))

    assert MessageRequested.model_validate(body(deadline="2030-01-02T03:04:05Z")).body_hash() == other.body_hash()


@pytest.mark.parametrize(
    "given",
    ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "tomorrow", 1_900_000_000, "1900000000", 0.5, True],
)
@pytest.mark.parametrize("name", ["deadline", "not_before"])
def test_times_that_are_no_moments_are_refused(name: str, given: Any) -> None:
    """A time that UTC has no year for would be a trap for every database driver, a number is of an unknown unit."""
    assert refusal(body(**{name: given})).code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("priority", [-1, 10, 1.5, "high", "5", True])
def test_priorities_are_0_to_9(priority: Any) -> None:
    """A priority outside of 0 to 9, or that is no whole number, is refused."""
    assert refusal(body(priority=priority)).code == ErrorCode.INVALID_REQUEST


def test_types_choose_the_record() -> None:
    """The type names the record; without one it is a message."""
    some_id = str(uuid4())

    assert isinstance(read_record(None, body()), MessageRequested)
    assert isinstance(read_record(CANCEL_REQUESTED, {"request_id": some_id}), CancelRequested)
    assert isinstance(
        read_record(CONVERSATION_DELETE_REQUESTED, {"conversation_id": some_id}), ConversationDeleteRequested
    )
    assert refusal(body(), SECRET).code == ErrorCode.UNKNOWN_TYPE
    assert SECRET not in refusal(body(), SECRET).detail
