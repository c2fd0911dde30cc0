"""Promises of gateway/openai/items.py and asked.py: what clients of the Responses API may send and get back."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from openai.types.responses import ResponseInputItem, ResponseItem
from pydantic import TypeAdapter

from gateway.openai.asked import items_in, read_response, record_of
from gateway.openai.errors import DoorError
from gateway.openai.items import (
    answer_items,
    input_item_id,
    input_items,
    item_id,
    items_of_message,
    messages_of,
    read_item_id,
    read_stored_item_id,
    stored_item_id,
)
from gateway.openai.response_object import AskedFor
from schemas.requests import MessageRequested

ID = UUID("019b0a52-c1d8-8d3e-9f0a-4b6c8d2e1f30")
SHOWN: TypeAdapter[Any] = TypeAdapter(ResponseItem)
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}
PDF = {"file_data": "data:a;base64,AA", "filename": "a.pdf"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
ASKS, ASKED = {"type": "input_text", "text": "what?"}, {"type": "text", "text": "what?"}
IMAGE = "data:image/png;base64,AAAA"


def messages(*items: Any, **named: Any) -> list[dict[str, Any]]:
    return [each.message for each in messages_of(items, named)]


def call(name: str = "call_1") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def record(**body: Any) -> MessageRequested:
    read = read_response(orjson.dumps({"model": "simulated", "input": "hi", **body}))
    return record_of(read, messages_of(items_in(read), {}), conversation_id=ID, stored_context=False)


def shown(**body: Any) -> dict[str, Any]:
    kept = record(**body).model_dump(mode="json", exclude_none=True)
    return (
        AskedFor(ID, ID, kept, body.get("instructions"), 1_795_000_000, "llama3")
        .shown("queued")
        .model_dump(mode="json")
    )


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        (
            {"type": "message", "id": "msg_of_another", "status": "completed", "role": "assistant",
             "content": [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}]},
            {"role": "assistant", "content": "hello"},
        ),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot"}]},
            {"role": "assistant", "refusal": "I cannot"},
        ),
        (
            {"role": "user", "content": [ASKS, {"type": "input_image", "image_url": IMAGE}]},
            {"role": "user", "content": [ASKED, {"type": "image_url", "image_url": {"url": IMAGE}}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "file-1", "detail": "original"}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"file_id": "file-1", "detail": "high"}}]},
        ),
        (
            {"role": "user", "content": [{"type": "input_file", **PDF}]},
            {"role": "user", "content": [{"type": "file", "file": {**PDF}}]},
        ),
        ({**CALL, "id": "fc_of_another", "status": "completed"}, {"role": "assistant", "tool_calls": [call()]}),
        (RESULT, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}),
        (
            {**RESULT, "output": [{"type": "input_text", "text": "rain"}]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "rain"}]},
        ),
    ],
)  # fmt: skip
def test_input_is_read_leniently(item: dict[str, Any], message: dict[str, Any]) -> None:
    """Ids and states of items are ignored, and each kind of item that is offered becomes its chat message."""
    assert [message] == messages(item)


def test_calls_become_one_message_with_the_text_before_them() -> None:
    """Items of one answer become one message of the assistant; reasoning, whosever it is, is left out."""
    text = {"role": "assistant", "content": "let me look"}
    reasoning = {"type": "reasoning", "id": "rs_of_another", "summary": [], "encrypted_content": "gAAAA"}
    second = {**CALL, "call_id": "call_2"}

    found = messages(reasoning, text, CALL, reasoning, second, RESULT, {**RESULT, "call_id": "call_2"}, text)

    assert {"role": "assistant", "content": "let me look", "tool_calls": [call(), call("call_2")]} == found[0]
    assert ["assistant", "tool", "tool", "assistant"] == [message["role"] for message in found]


def test_a_text_behind_its_calls_joins_them() -> None:
    """A text between calls and their results does not part them."""
    found = messages(CALL, {"role": "assistant", "content": "looking"}, RESULT)

    assert [{"role": "assistant", "tool_calls": [call()], "content": "looking"}] == found[:1]
    assert "tool" == found[1]["role"]


def test_texts_without_calls_stay_messages() -> None:
    """Messages of the assistant without calls are not joined."""
    text = {"role": "assistant", "content": "a"}

    assert [text, text] == messages(text, text)


def test_a_reference_stands_for_its_item() -> None:
    """An item that is named by its id is read as if it had been sent; an unknown id is refused."""
    id = item_id("function_call", ID, 0)

    assert messages(CALL) == messages({"type": "item_reference", "id": id}, **{id: CALL})
    with pytest.raises(DoorError) as refused:
        messages({"type": "item_reference", "id": "fc_unknown"})
    assert "input[0].id" == refused.value.param


@pytest.mark.parametrize(
    ("item", "code", "param"),
    [
        ("hi", "invalid_type", "input"),
        ({"type": "web_search_call"}, "unsupported_value", "input[0].type"),
        ({"content": "hi"}, "unsupported_value", "input[0].type"),
        ({"role": "critic", "content": "hi"}, "invalid_value", "input[0].role"),
        ({"role": "user"}, "invalid_type", "input[0].content"),
        ({"role": "user", "content": [{"type": "video"}]}, "unsupported_value", "input[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "missing_required_parameter", "input[0].content[0].text"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "ftp:"}]}, "unsupported_value", "input[0]"),
        ({"role": "system", "content": [{"type": "input_image", "image_url": IMAGE}]}, "unsupported_value", "input[0]"),
        ({"role": "user", "content": "\0"}, "invalid_value", "input[0]"),
        ({"type": "function_call", "name": "f", "arguments": ""}, "missing_required_parameter", "input[0].call_id"),
        ({"type": "function_call_output", "call_id": "a"}, "missing_required_parameter", "input[0].output"),
        ({**RESULT, "output": [{"type": "input_image", "image_url": IMAGE}]}, "unsupported_value", "input[0].output"),
    ],
)  # fmt: skip
def test_bad_input_names_its_item(item: Any, code: str, param: str) -> None:
    """What cannot be taken is refused with the place of the item, before anything is accepted."""
    with pytest.raises(DoorError) as refused:
        record(input=[item], instructions="Be brief.")

    assert (code, param) == (refused.value.said, refused.value.param)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": []}, "missing_required_parameter", "input"),
        ({"input": 7}, "invalid_type", "input"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_value", "tools[0].type"),
        ({"tools": [{"type": "function", "name": "no space"}]}, "invalid_value", "tools[0]"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, "unsupported_value", "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "unsupported_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "invalid_value", "text.format"),
        ({"text": {"verbosity": "low"}}, "unsupported_value", "text.verbosity"),
        ({"prompt": {"id": "pmpt_1"}}, "unsupported_parameter", "prompt"),
        ({"top_logprobs": 2}, "unsupported_parameter", "top_logprobs"),
        ({"nonsense": 1}, "unknown_parameter", "nonsense"),
        ({"temperature": 3}, "invalid_value", "temperature"),
        ({"max_output_tokens": "7"}, "invalid_value", "max_output_tokens"),
        ({"include": ["file_search_call.results"]}, "unsupported_value", "include[0]"),
        ({"service_tier": "scale"}, "unsupported_value", "service_tier"),
        ({"reasoning": {"effort": "endless"}}, "unsupported_value", "reasoning.effort"),
        ({"background": True, "store": False}, "invalid_value", "background"),
        ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "invalid_value", "previous_response_id"),
    ],
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(body: dict[str, Any], code: str, param: str) -> None:
    """A parameter that is unknown, wrong or not offered is a 400 that names it."""
    with pytest.raises(DoorError) as refused:
        record(**body)

    assert (code, param, 400) == (refused.value.said, refused.value.param, refused.value.status)


def test_neutral_values_are_taken() -> None:
    """Parameters that change nothing are no reason to refuse a call."""
    neutral = {"top_logprobs": 0, "max_tool_calls": None, "prompt_cache_retention": "24h", "stream_options": {}}

    assert record() == record(**neutral, include=["reasoning.encrypted_content"], service_tier=None)


def test_a_response_is_shown_as_it_was_asked_for() -> None:
    """Every parameter that was sent is in the response object again; defaults have OpenAI's values."""
    tool = {"type": "function", "name": "weather", "description": "d", "parameters": {"type": "object"}, "strict": True}
    format = {"type": "json_schema", "name": "a", "description": None, "schema": {"type": "object"}, "strict": None}
    asked = {
        "model": "agent:poet", "instructions": "Be brief.", "background": True, "previous_response_id": "resp_1",
        "truncation": "auto", "tools": [tool], "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": False, "metadata": {"a": "b"}, "max_output_tokens": 7, "temperature": 0.5, "top_p": 0.5,
        "service_tier": "flex", "user": "u", "safety_identifier": "s", "prompt_cache_key": "p",
    }  # fmt: skip

    echo = shown(**asked, text={"format": format}, reasoning={"effort": "low", "summary": "auto"})

    assert asked == {name: echo[name] for name in asked}
    assert {"format": format, "verbosity": "medium"} == echo["text"]
    assert {"effort": "low", "summary": "auto"} == echo["reasoning"]
    defaults = shown()
    assert (1.0, 1.0, "auto", [], True, "disabled", "default", True) == tuple(
        defaults[name]
        for name in ("temperature", "top_p", "tool_choice", "tools", "parallel_tool_calls", "truncation",
                     "service_tier", "store")
    )  # fmt: skip
    assert "user" not in defaults
    assert "conversation" not in defaults


def test_the_record_is_an_ordinary_request() -> None:
    """Flat tools, formats and options become those of a chat request; instructions come first, an agent by its name."""
    made = record(
        model="agent:poet", instructions="Be brief.", tools=[{"type": "function", "name": "f", "parameters": None}],
        tool_choice={"type": "function", "name": "f"}, text={"format": {"type": "json_object"}}, max_output_tokens=7,
        reasoning={"summary": "auto"}, service_tier="priority", safety_identifier="u", store=False,
    )  # fmt: skip

    assert ("poet", None, "responses", False, "given", 8, 7) == (
        made.agent, made.model, made.door, made.store, made.context, made.priority, made.max_tokens,
    )  # fmt: skip
    assert [("system", "Be brief."), ("user", "hi")] == [(each.role, each.text) for each in made.messages]
    assert ("f", "f") == (made.tools[0]["function"]["name"], made.tool_choice["function"]["name"])  # type: ignore[index]
    assert ({"type": "json_object"}, "include", "u") == (made.response_format, made.reasoning, made.user)


def test_shown_input_has_all_fields_and_stable_ids() -> None:
    """Input items are shown as the SDK's types require, each with an id that names its request."""
    sent = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": IMAGE},
                                     {"type": "input_file", "file_id": "file-1"}]},
        {"role": "assistant", "content": "b"}, CALL, RESULT,
    ]  # fmt: skip

    found = input_items(messages(*sent), ID)

    for item in found:
        SHOWN.validate_python(item, strict=True)
    assert ["message", "message", "function_call", "function_call_output"] == [item["type"] for item in found]
    assert [input_item_id(item["type"], ID, at) for at, item in enumerate(found)] == [item["id"] for item in found]
    assert messages(*sent) == messages(*found)


def test_ids_of_items_name_their_place() -> None:
    """An id of an item leads back to its request or message; a golden one stays what it was."""
    assert item_id("message", ID, 0) == "msg_019b0a52c1d88d3e9f0a4b6c8d2e1f300000"
    assert (ID, 3, False) == read_item_id(item_id("message", ID, 3))
    assert (ID, 3, True) == read_item_id(input_item_id("function_call_output", ID, 3))
    assert 17 == read_stored_item_id(stored_item_id("message", 17, 0))
    for foreign in ("msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b", "msg_1", "", "rs_" + "g" * 36):
        assert read_item_id(foreign) is None
        assert read_stored_item_id(foreign) is None


def test_messages_of_the_assistant_are_stored_as_answers() -> None:
    """What a client adds to a conversation as the assistant's is stored like an answer, and shown as it was sent."""
    [message] = messages({"role": "assistant", "content": "a"}, CALL)

    stored = answer_items(message)

    assert ["message", "function_call"] == [item["type"] for item in stored]
    assert ["message", "function_call"] == [item["type"] for item in items_of_message(message)]


def test_every_input_item_of_the_sdk_is_read_or_refused() -> None:
    """No type of item that the SDK knows makes a call fail in another way than by its name."""
    kinds = [
        kind
        for member in ResponseInputItem.__args__[0].__args__  # type: ignore[attr-defined]
        for kind in getattr(member.model_fields["type"].annotation, "__args__", ())
        if isinstance(kind, str)
    ]
    assert len(kinds) > 20
    for kind in kinds:
        try:
            messages({"type": kind, "id": "x"})
        except DoorError as error:
            assert error.param
            assert error.param.startswith("input[0]")
