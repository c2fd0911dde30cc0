"""Reads what a service of a newer release has written: values that are new, such as a status, are kept as they came."""

import copy
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

_FIRST_OF = re.compile("'([^']*)'")


class _New(NamedTuple):
    """A value that is new: where it is, itself, and what is wrong with it."""

    path: tuple[int | str, ...]
    value: Any
    problem: ErrorDetails


def read_json(model: type[Model], body: bytes) -> Model:
    """The body as this model. Raises ``ValidationError``.

    A text that its enumeration does not have stays a text, and an object of an unknown type a dict.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if any(problem["type"] == "json_invalid" for problem in error.errors(include_url=False)):
            raise
        return _read(model, json.loads(body), error)


def read_value(model: type[Model], value: Any) -> Model:
    """Parsed JSON as this model, like ``read_json``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        return _read(model, value, error)


def _read(model: type[Model], value: Any, error: ValidationError) -> Model:
    """Read the value with others in the place of those that are new, and put these back."""
    new = [_New(_path(value, each["loc"]), each["input"], each) for each in error.errors(include_url=False)]
    new.sort(key=lambda each: each.path)
    known = copy.deepcopy(value)
    # Backwards, because an object that is taken out of a list moves those behind it.
    for each in reversed(new):
        if not _is_replaced(known, each):
            raise error
    found = model.model_validate(known)
    for each in new:
        _put_back(found, each)
    return found


def _path(value: Any, loc: Sequence[int | str]) -> tuple[int | str, ...]:
    """Where a problem is in the value. In a union the type comes first, which is no place."""
    path: list[int | str] = []
    for step in loc:
        if isinstance(step, int) or (isinstance(value, dict) and step in value):
            path.append(step)
            value = value[step]
    return tuple(path)


def _is_replaced(known: Any, new: _New) -> bool:
    """Put a known value in the place of a new one, or take it out of its list. False: it is not new, but wrong."""
    if not new.path:
        return False
    *above, last = new.path
    for step in above:
        known = known[step]
    match new.problem, new.value:
        case {"type": "enum" | "literal_error", "ctx": {"expected": str(expected)}}, str():
            known[last] = _FIRST_OF.findall(expected)[0]
            return True
        case {"type": "union_tag_invalid"}, dict():
            del known[last]
            return isinstance(last, int)
    return False


def _put_back(found: Any, new: _New) -> None:
    path: Any = new.path  # Steps fit what they lead through.
    *above, last = path
    for step in above:
        found = found.__dict__[step] if isinstance(found, BaseModel) else found[step]
    if isinstance(found, BaseModel):
        found.__dict__[last] = new.value  # Also of a frozen one.
    elif isinstance(new.value, dict):
        found.insert(last, new.value)
    else:
        found[last] = new.value
