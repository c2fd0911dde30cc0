"""What a body's booleans and numbers are read from: nothing but booleans and numbers."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import schemas.api

_MODULES = [importlib.import_module(each.name) for each in pkgutil.walk_packages(schemas.api.__path__, "schemas.api.")]
# A body refuses fields that it does not know; an answer has none.
BODIES = {
    value.__name__: value
    for module in _MODULES
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, BaseModel) and value.model_config.get("extra") == "forbid"
}


BOOLEAN, NUMBER = {"boolean"}, {"integer", "number"}


def _fields(body: type[BaseModel], types: set[str]) -> dict[str, TypeAdapter[Any]]:
    """Its fields that may be of one of these types."""
    adapters = {
        name: TypeAdapter(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)
        for name, field in body.model_fields.items()
    }
    return {name: each for name, each in adapters.items() if types & set(_types(each.json_schema()))}


def _types(schema: dict[str, Any]) -> Iterator[str]:
    for each in [schema, *schema.get("anyOf", [])]:
        yield each.get("type", "")


def _with(types: set[str]) -> list[str]:
    # A query has only texts.
    return sorted(name for name, body in BODIES.items() if _fields(body, types) and not name.endswith("Query"))


@pytest.mark.parametrize("name", _with(BOOLEAN))
@pytest.mark.parametrize("value", [0, 1, "no", "false", "true", ""])
def test_nothing_else_is_read_as_a_boolean(name: str, value: object) -> None:
    """What is not a boolean is refused: `"dry_run": "no"` must not delete anything."""
    for field in _fields(BODIES[name], BOOLEAN).values():
        with pytest.raises(ValidationError):
            field.validate_python(value)


@pytest.mark.parametrize("name", _with(NUMBER))
@pytest.mark.parametrize("value", [False, True, "1", "1.5", ""])
def test_nothing_else_is_read_as_a_number(name: str, value: object) -> None:
    """What is not a number is refused: `"priority": true` is no priority of 1."""
    for field in _fields(BODIES[name], NUMBER).values():
        with pytest.raises(ValidationError):
            field.validate_python(value)
