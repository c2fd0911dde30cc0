"""Booleans of bodies: only `true` and `false` are any."""

import importlib
import pkgutil
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


def _booleans(body: type[BaseModel]) -> dict[str, TypeAdapter[Any]]:
    fields = {
        name: TypeAdapter(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)
        for name, field in body.model_fields.items()
    }
    return {name: field for name, field in fields.items() if '"boolean"' in repr(field.json_schema()).replace("'", '"')}


@pytest.mark.parametrize("name", sorted(name for name, body in BODIES.items() if _booleans(body)))
@pytest.mark.parametrize("value", [0, 1, "no", "false", "true", ""])
def test_nothing_else_is_read_as_a_boolean(name: str, value: object) -> None:
    """What is not a boolean is refused: `"dry_run": "no"` must not delete anything."""
    for field in _booleans(BODIES[name]).values():
        with pytest.raises(ValidationError):
            field.validate_python(value)
