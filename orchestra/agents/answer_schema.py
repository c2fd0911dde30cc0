"""A JSON Schema (2020-12) that an agent's answers must match."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from schemas.envelope import parse_json
from schemas.errors import OrchestraError

# An answer of 256 KiB needs fewer. More is a sign of an attack: some schemas double the work with each level.
MAX_STEPS = 500_000
# Nesting of keywords. Far below Python's recursion limit, which the library does not survive.
MAX_DEPTH = 150

_REFERENCES = ("$ref", "$dynamicRef")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Keyword = Callable[[Any, Any, Any, Any], Any]


class AnswerSchema:
    """A schema, checked and compiled once. Checking an answer reads nothing but the schema.

    Raises ``ValueError`` with a one-line message for an invalid schema, or one that refers to something outside it.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        _check(schema)
        self.text = json.dumps(schema, ensure_ascii=False)
        self._names = {name for name, _ in _members(schema)}
        self._spent = threading.local()
        # Without $id and $schema every reference is internal, and is resolved by the class made here.
        nameless = {name: value for name, value in schema.items() if name not in ("$id", "$schema")}
        self._validator = self._made()(nameless, registry=Registry())

    def mismatch(self, answer: str) -> str | None:
        """Why an answer does not match, without quoting it; None if it matches. Safe to call from any thread."""
        self._spent.steps = self._spent.depth = 0
        try:
            error = next(self._validator.iter_errors(parse_json(answer.encode())), None)
        except OrchestraError:
            return "it is not JSON"
        except (RecursionError, _TooMuchError):
            return "it is too deep or too complex to check"
        except ArithmeticError:
            return "it has a number that is too large"
        return error and f"{self._path(error)} does not match `{error.validator or 'false'}`"

    def _path(self, error: ValidationError) -> str:
        # A name that the schema does not contain is text of the answer.
        parts = (
            f"[{part}]" if isinstance(part, int) else f".{part if part in self._names else '*'}"
            for part in error.absolute_path
        )
        return "$" + "".join(parts)

    def _made(self) -> Any:
        keywords: dict[str, _Keyword] = {**Draft202012Validator.VALIDATORS, "uniqueItems": _unique_items}
        counted = {name: self._counted(keyword) for name, keyword in keywords.items()}
        return extend(Draft202012Validator, counted)  # type: ignore[no-untyped-call]

    def _counted(self, keyword: _Keyword) -> _Keyword:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            spent = self._spent
            spent.steps += 1
            spent.depth += 1
            try:
                if spent.steps > MAX_STEPS or spent.depth > MAX_DEPTH:
                    raise _TooMuchError
                yield from keyword(validator, value, instance, schema) or ()
            finally:
                spent.depth -= 1

        return counted


class _TooMuchError(Exception):
    pass


def _check(schema: dict[str, Any]) -> None:
    try:
        json.dumps(schema, allow_nan=False)
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"at {error.json_path}: {error.message}") from None
    except (TypeError, ValueError, RecursionError):
        raise ValueError("has a value that JSON does not have, such as a date") from None
    if schema.get("$schema", _DIALECT).rstrip("#") != _DIALECT:
        raise ValueError("$schema must be that of JSON Schema 2020-12, or absent")
    root = {name: value for name, value in schema.items() if name not in ("$id", "$schema")}
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
    for name, value in _members(root):
        if isinstance(value, str) and name in ("$id", "$schema"):
            raise ValueError(f"{name} is allowed at the top level only")
        if isinstance(value, str) and name in _REFERENCES:
            if not value.startswith("#"):
                raise ValueError(f"{name} must begin with '#': nothing outside the schema is read")
            try:
                resolver.lookup(value)
            except Unresolvable:
                raise ValueError(f"{name} {value} does not exist in the schema") from None


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of every member of an object, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _members(each)


def _unique_items(_validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    # The library compares each object with every other, which takes minutes for a few thousand.
    if unique and isinstance(instance, list) and len({_hashable(each) for each in instance}) < len(instance):
        yield ValidationError("has the same item twice")


def _hashable(value: Any) -> Any:
    """A key that is equal for equal JSON values only: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(each)) for name, each in value.items())
    if isinstance(value, list):
        return (list, *map(_hashable, value))
    return (bool, value) if isinstance(value, bool) else value
