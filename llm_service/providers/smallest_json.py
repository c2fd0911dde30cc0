"""The smallest JSON that fits a JSON Schema, so that a simulated model can give structured answers."""

from collections.abc import Callable, Mapping
from typing import Any

from schemas.errors import ErrorCode, OrchestraError

# Far more than any real schema needs. A schema may ask for a list of a billion items, or refer to itself in many ways.
_MAX_STEPS = 10_000
_MAX_DEPTH = 50
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "a@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_ALTERNATIVES = ("anyOf", "oneOf")
_BY_KEYWORD = {
    "properties": "object",
    "required": "object",
    "additionalProperties": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minLength": "string",
    "pattern": "string",
    "format": "string",
    "minimum": "number",
    "maximum": "number",
}


def smallest(schema: Mapping[str, Any]) -> Any:
    """A value that fits: required properties only, the first alternative, the lowest number that is not negative.

    ``pattern`` and ``not`` are passed over. Raises ``invalid_request`` for a schema that only endless values fit, that
    needs too large a value, or that refers to something that is not there.
    """
    try:
        return _Filling(schema).value(schema, 0)
    except (_UnfitError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "The simulated model cannot fill the JSON Schema.") from None


class _UnfitError(Exception):
    """No value was found."""


class _Filling:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._steps = 0
        # The references that are being filled: one inside of itself would go on forever.
        self._inside: list[str] = []

    def value(self, schema: Any, depth: int) -> Any:
        self._spend(1)
        if depth > _MAX_DEPTH or schema is False:
            raise _UnfitError
        if schema is True:
            return None
        known = len(self._inside)
        try:
            return self._filled(self._whole(schema), depth)
        finally:
            del self._inside[known:]

    def _filled(self, schema: Mapping[str, Any], depth: int) -> Any:
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        for name in _ALTERNATIVES:
            if name in schema:
                return self._first(schema, name, depth)
        return self._MAKERS[_kind(schema)](self, schema, depth)

    def _spend(self, steps: int) -> None:
        self._steps += steps
        if self._steps > _MAX_STEPS:
            raise _UnfitError

    def _first(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        """The value of the first alternative that has one; a schema may refer to itself in another one."""
        rest = {key: value for key, value in schema.items() if key != name}
        for alternative in schema[name]:
            try:
                return self.value({"allOf": [rest, alternative]}, depth + 1)
            except _UnfitError:
                self._spend(0)
        raise _UnfitError

    def _whole(self, schema: Any) -> dict[str, Any]:
        """The schema with what it refers to, and with all of ``allOf``."""
        self._spend(1)
        whole = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        if reference := schema.get("$ref"):
            if reference in self._inside:
                raise _UnfitError
            self._inside.append(reference)
            whole = _merged(whole, self._whole(self._found(reference)))
        for each in schema.get("allOf", ()):
            whole = _merged(whole, self._whole(each))
        return whole

    def _found(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
        return found

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        filled = {name: self.value(properties.get(name, {}), depth + 1) for name in schema.get("required", ())}
        for at in range(schema.get("minProperties", 0) - len(filled)):
            self._spend(1)
            filled[f"p{at}"] = self.value(schema.get("additionalProperties", {}), depth + 1)
        return filled

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        return [
            self.value(first[at] if at < len(first) else schema.get("items", {}), depth + 1)
            for at in range(schema.get("minItems", 0))
        ]

    def _string(self, schema: Mapping[str, Any], _depth: int) -> str:
        length = int(schema.get("minLength", 0))
        self._spend(length)
        return _FORMATS.get(schema.get("format", ""), "").ljust(length, "x")

    _MAKERS: Mapping[str, Callable[["_Filling", Mapping[str, Any], int], Any]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "integer": lambda _self, schema, _depth: _number(schema, whole=True),
        "number": lambda _self, schema, _depth: _number(schema, whole=False),
        "boolean": lambda _self, _schema, _depth: False,
        "null": lambda _self, _schema, _depth: None,
    }


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type") or next((kind for name, kind in _BY_KEYWORD.items() if name in schema), "null")
    return str(kind[0] if isinstance(kind, list) else kind)


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas as one, as far as the smallest value depends on them."""
    merged = {**first, **second}
    for name in ("properties", "$defs"):
        if name in first and name in second:
            merged[name] = {**first[name], **second[name]}
    if "required" in first and "required" in second:
        merged["required"] = list(dict.fromkeys([*first["required"], *second["required"]]))
    return merged


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """Zero, or the number next to it that fits."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf", 1)
    number: Any = 0
    if above is not None and number <= above:
        number = above + step
    if low is not None:
        number = max(number, low)
    if below is not None and number >= below:
        number = below - step
    if high is not None:
        number = min(number, high)
    if whole or "multipleOf" in schema:
        number = -(-number // step) * step
        if (high is not None and number > high) or (below is not None and number >= below):
            number -= step
    if above is not None and below is not None and not above < number < below:
        number = (above + below) / 2
    return int(number) if number == int(number) else float(number)
