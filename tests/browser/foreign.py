"""Answers of the API in which each text is a stranger's. Their shapes are those of the API's own document."""

import base64
from collections.abc import Callable
from typing import Any

SAMPLES: dict[str, Any] = {
    "date-time": "2026-01-31T12:00:00Z",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "integer": 2000,
    "number": 2000.5,
    "boolean": True,
}
# What the gateway made up itself and takes back: a page that could not give it back would show nothing.
_OWN = {"next", "newest"}
_TYPES: dict[str, Any] = {"string": str, "array": list, "object": dict, "integer": int, "number": (int, float)}
_NOTHING: Any = object()


class Stranger:
    """Writes answers. ``text`` gives the text of a field by its name: `Schema.field`."""

    def __init__(self, document: dict[str, Any], text: Callable[[str], str]) -> None:
        self._paths = document["paths"]
        self._schemas = document["components"]["schemas"]
        self._text = text

    def answer(self, path: str, method: str, real: Any = None) -> Any:
        """What a route answers; None: no JSON. ``real``: an answer of it, whose ids, states, numbers and times stay."""
        for status, response in self._paths[path][method]["responses"].items():
            found = response.get("content", {}).get("application/json")
            if status.startswith("2") and found:
                return self._fill(found["schema"], _NOTHING if real is None else real, "")
        return None

    def one(self, name: str, **known: Any) -> Any:
        """What has this schema, with these values."""
        return {**self._fill(self._schemas[name], _NOTHING, name), **known}

    def _fill(self, schema: dict[str, Any], real: Any, field: str) -> Any:
        """The real value with another text in the place of each, or, where there is none, all that there could be."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return self._fill(self._schemas[name], real, name)
        if kinds := schema.get("anyOf") or schema.get("oneOf"):
            return self._one_of(kinds, real, field)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0]) if real is _NOTHING else real
        match schema.get("type"):
            case "string":
                return self._string(schema, real, field)
            case "array":
                return self._list(schema.get("items", {}), real, field)
            case "object":
                return self._object(schema, real, field)
            case None:
                return self._anything(real, field)
            case other:
                return SAMPLES.get(other) if real is _NOTHING else real

    def _one_of(self, kinds: list[dict[str, Any]], real: Any, field: str) -> Any:
        some = [each for each in kinds if each.get("type") != "null"]
        # A text that could be several parts is made of parts.
        some.sort(key=lambda each: each.get("type") != "array")
        if real is None and some[0].get("type") != "string":
            return None
        return self._fill(next((each for each in some if self._fits(each, real)), some[0]), real, field)

    def _string(self, schema: dict[str, Any], real: Any, field: str) -> Any:
        name = field.rpartition(".")[2]
        if "format" in schema or name in _OWN:
            return SAMPLES.get(schema.get("format", "")) if real is _NOTHING else real
        if name.endswith("_base64"):
            # It is there in the place of a text that is not UTF-8.
            return base64.b64encode(self._text(field).encode()).decode() if isinstance(real, str) else None
        return self._text(field)

    def _list(self, items: dict[str, Any], real: Any, field: str) -> list[Any]:
        """Behind what there is, one of each kind that there could be."""
        kinds = items.get("anyOf") or items.get("oneOf") or [items]
        found = [] if real is _NOTHING else real
        return [self._fill(items, each, field) for each in found] + [
            self._fill(each, _NOTHING, field) for each in kinds
        ]

    def _object(self, schema: dict[str, Any], real: Any, field: str) -> dict[str, Any]:
        known, more = schema.get("properties", {}), schema.get("additionalProperties", not schema.get("properties"))
        found, rest = ({}, _NOTHING) if real is _NOTHING else (real, None)
        made = {
            name: None if found.get(f"{name}_base64") else self._fill(each, found.get(name, rest), f"{field}.{name}")
            for name, each in known.items()
        }
        if not more:
            return made
        value = more if isinstance(more, dict) else {}
        others = {name: self._fill(value, each, f"{field}.*") for name, each in found.items() if name not in known}
        return {**made, **others, self._text(f"{field}.name"): self._fill(value, _NOTHING, f"{field}.*")}

    def _anything(self, real: Any, field: str) -> Any:
        if isinstance(real, dict):
            return {name: self._anything(each, field) for name, each in real.items()}
        if isinstance(real, list):
            return [self._anything(each, field) for each in real]
        return self._text(field) if real is _NOTHING or isinstance(real, str) else real

    def _fits(self, schema: dict[str, Any], real: Any) -> bool:
        if "$ref" in schema:
            return self._fits(self._schemas[schema["$ref"].rpartition("/")[2]], real)
        if not isinstance(real, _TYPES.get(schema.get("type", ""), object)):
            return False
        closed = {name: each["const"] for name, each in schema.get("properties", {}).items() if "const" in each}
        return all(real.get(name, value) == value for name, value in closed.items())


def fields_of(document: dict[str, Any], path: str, method: str) -> set[str]:
    """The names of the fields in which an answer of this route can have a text."""
    found: set[str] = set()

    def note(field: str) -> str:
        found.add(field)
        return field

    Stranger(document, note).answer(path, method)
    return found
