import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.base import (
    arguments_to_send,
    estimate_input,
    estimate_tokens,
    storable,
    worth_sending,
)
from schemas.generation import ChatMessage


def test_what_cannot_be_stored_becomes_a_replacement_character() -> None:
    """U+0000 and lone surrogates go, everything else stays."""
    assert storable("a\x00b\ud800c\udfffd\N{FOX FACE}\n") == "a\ufffdb\ufffdc\ufffdd\N{FOX FACE}\n"


def test_tokens_are_estimated_from_bytes() -> None:
    """Three bytes of UTF-8 count as a token, a part of three as a whole."""
    assert [estimate_tokens(size) for size in (0, 1, 3, 4)] == [0, 1, 1, 2]
    assert (
        estimate_input([ChatMessage(role="user", content="\N{FOX FACE}"), ChatMessage(role="user", content="ab")]) == 2
    )


_CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}


def test_all_that_is_sent_is_estimated() -> None:
    """Calls, results and tools count by their length, a picture by a fixed number whatever its bytes."""
    call = ChatMessage.model_validate({"role": "assistant", "tool_calls": [_CALL]})
    picture = ChatMessage.model_validate({"role": "user", "content": [{"type": "text", "text": "abc"}, _PICTURE]})

    assert estimate_input([call]) == 1
    assert estimate_input([picture]) == 1001
    assert estimate_input([call], [{"type": "function", "function": {"name": "f"}}]) > 10


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
        {"role": "assistant", "tool_calls": [_CALL]},
        {"role": "assistant", "content": "", "refusal": "no"},
        {"role": "tool", "tool_call_id": "a", "content": ""},
        {"role": "user", "content": [_PICTURE]},
    ],
)
def test_a_message_that_is_more_than_a_text_is_sent(message: dict[str, Any]) -> None:
    """However empty its text is: without a call its result would be refused, and the other way round."""
    said = [ChatMessage.model_validate(each) for each in (message, {"role": "user", "content": "well?"})]

    assert worth_sending(said) == said
    assert worth_sending([ChatMessage(role="assistant", content=" "), *said]) == said


@given(st.text() | st.dictionaries(st.text(), st.integers()).map(json.dumps))
def test_arguments_are_sent_as_an_object(arguments: str) -> None:
    """As they came if they are one, else wrapped in one; nothing is lost."""
    sent = json.loads(arguments_to_send(arguments))

    assert isinstance(sent, dict)
    assert arguments_to_send(arguments) == arguments or sent in ({}, {"unreadable": arguments})
