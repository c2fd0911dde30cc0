"""Promises of schemas/invalid.py: what is wrong is said in our words."""

from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from schemas.invalid import problems_of
from schemas.requests import MessageRequested, describe


class Checked(BaseModel):
    text: str = ""
    id: UUID | None = None

    @field_validator("text")
    @classmethod
    def _text(cls, given: str) -> str:
        if given:
            raise ValueError("must be empty")
        return given


def test_problems_have_no_names_of_exceptions_and_no_input() -> None:
    """The texts are those of our validators, and those of pydantic that do not quote the value."""
    with pytest.raises(ValidationError) as caught:
        Checked.model_validate({"text": "canary", "id": "canary"})

    problems = problems_of(caught.value)
    assert {"text": "must be empty", "id": "must be a UUID"} == {each["loc"][0]: each["msg"] for each in problems}
    assert "canary" not in str(problems)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"messages": []}, "messages: must have at least 1 item"),
        ({"messages": [5]}, "messages.0: must be an object"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0: its type is missing"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: must be a text or a list of parts"),
        ({"metadata": 3}, "metadata: must be an object"),
        ({"model": 3}, "model: must be a text"),
        ({"model": "x" * 201}, "model: must have at most 200 characters"),
        ({"stop": 5}, "stop: must be a text or a list of texts"),
        ({"stop": ""}, "stop.0: must have at least 1 character"),
        ({"tools": [{}]}, "tools.0.type: is required; tools.0.function: is required"),
        ({"conversation_id": 5}, "conversation_id: must be a UUID"),
        ({"max_tokens": 1.5}, "max_tokens: must be a valid integer"),
        ({"on_busy": "x"}, "on_busy: must be 'enqueue', 'reject' or 'interrupt'"),
    ],
)
def test_a_detail_is_a_field_and_what_it_must_be(value: dict[str, object], said: str) -> None:
    """Every detail can be read as a sentence about the field, without names of classes or of Python's types."""
    with pytest.raises(ValidationError) as caught:
        MessageRequested.model_validate({"messages": [{"role": "user", "content": "x"}], **value})

    assert said == describe(caught.value)
