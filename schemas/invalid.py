"""What is wrong with a value that pydantic refuses: where, and in words that are ours."""

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MISSING = "is required"
UNKNOWN_FIELD = "unknown field"

# Where pydantic's own words quote the input, or name its classes.
_PLAIN = {
    "missing": MISSING,
    "extra_forbidden": UNKNOWN_FIELD,
    "uuid_parsing": "must be a UUID",
    "uuid_type": "must be a UUID",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be a text",
    "union_tag_invalid": "this type is not supported",
    "union_tag_not_found": "its type is missing",
}
# How it begins: before the words of our own validators, and of its own.
_OURS = "Value error, "
_SUBJECT = re.compile(r"^(Input|String|List|Value|Tuple|Set|Data) should ")
# What it adds: how it came to its opinion, and how long the input was.
_ASIDE = re.compile(r", (unable to|got) .*| after validation, not \d+$")


def problems_of(error: ValidationError) -> list[ErrorDetails]:
    """The problems of a refused value, without the value."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return [{**each, "msg": wording(each)} for each in found]


def wording(problem: ErrorDetails) -> str:
    """What a problem is called, to be read after the name of its field, without repeating any of the value."""
    plain = _PLAIN.get(problem["type"])
    return plain or _ASIDE.sub("", _SUBJECT.sub("must ", problem["msg"].removeprefix(_OURS)))
