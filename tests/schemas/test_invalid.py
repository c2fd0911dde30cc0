"""Promises of schemas/invalid.py: what is wrong is said in our words."""

from uuid import UUID

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from schemas.invalid import problems_of


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
    assert {"text": "must be empty", "id": "Input should be a valid UUID"} == {
        each["loc"][0]: each["msg"] for each in problems
    }
    assert "canary" not in str(problems)
