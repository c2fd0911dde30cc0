"""What is wrong with a value that pydantic refuses: where, and in words that are ours."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

# pydantic's own words quote the input.
_PLAIN = {"uuid_parsing": "Input should be a valid UUID", "union_tag_invalid": "this type is not supported"}
# It puts this before the words of our own validators.
_PREFIX = "Value error, "


def problems_of(error: ValidationError) -> list[ErrorDetails]:
    """The problems of a refused value, without the value."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [{**each, "msg": wording(each)} for each in found]


def wording(problem: ErrorDetails) -> str:
    """What a problem is called, without repeating any of the value."""
    return _PLAIN.get(problem["type"]) or problem["msg"].removeprefix(_PREFIX)
