"""A JSON Schema (2020-12) that the answers of an agent must fit."""

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

# An answer of 256 KiB needs fewer. What takes more was made for that: some schemas double the work with each level.
MOST_STEPS = 500_000
# Keywords within keywords. Far from Python's own limit, for the library does not survive that one.
MOST_DEPTH = 150

_REFERENCES = ("$ref", "$dynamicRef")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_Keyword = Callable[[Any, Any, Any, Any], Any]


class AnswerSchema:
    """A schema, checked and compiled once. Checking an answer reads nothing but the schema itself.

    Raises ``ValueError`` with one line for what is no schema, or refers to what is not in it.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        _check(schema)
        self.text = json.dumps(schema, ensure_ascii=False)
        self._names = {name for name, _ in _members(schema)}
        self._spent = threading.local()
        # Without its own name and dialect every reference is one within it, followed by the class made here.
        nameless = {name: value for name, value in schema.items() if name not in ("$id", "$schema")}
        self._validator = self._made()(nameless, registry=Registry())

    def mismatch(self, answer: str) -> str | None:
        """Why an answer does not fit, without any of its text; None when it fits. Any thread may ask."""
        self._spent.steps = self._spent.depth = 0
        try:
            error = next(self._validator.iter_errors(parse_json(answer.encode())), None)
        except OrchestraError:
            return "it is not JSON"
        except (RecursionError, _TooMuchError):
            return "it is too deep or too intricate to check"
        except ArithmeticError:
            return "it has a number that is too large"
        return error and f"{self._path(error)} is not as `{error.validator or 'false'}` wants it"

    def _path(self, error: ValidationError) -> str:
        # A name that the schema does not know is text of the answer.
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
                if spent.steps > MOST_STEPS or spent.depth > MOST_DEPTH:
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
        raise ValueError("has a value that JSON has not, such as a date") from None
    if schema.get("$schema", _DIALECT).rstrip("#") != _DIALECT:
        raise ValueError("$schema must be that of JSON Schema 2020-12, or absent")
    root = {name: value for name, value in schema.items() if name not in ("$id", "$schema")}
    resolver = Registry().resolver_with_root(DRAFT202012.create_resource(root))
    for name, value in _members(root):
        if isinstance(value, str) and name in ("$id", "$schema"):
            raise ValueError(f"{name} may stand at the top only")
        if isinstance(value, str) and name in _REFERENCES:
            if not value.startswith("#"):
                raise ValueError(f"{name} must begin with '#': nothing outside of the schema is read")
            try:
                resolver.lookup(value)
            except Unresolvable:
                raise ValueError(f"{name} {value} leads nowhere") from None


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of everything in objects, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _members(each)


def _unique_items(_validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    # The library compares each object with each other one, which for some thousands takes minutes.
    if unique and isinstance(instance, list) and len({_hashable(each) for each in instance}) < len(instance):
        yield ValidationError("has the same item twice")


def _hashable(value: Any) -> Any:
    """Equal for equal JSON values, and for those alone: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(each)) for name, each in value.items())
    if isinstance(value, list):
        return (list, *map(_hashable, value))
    return (bool, value) if isinstance(value, bool) else value
