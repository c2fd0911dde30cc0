"""What a change of the published schemas breaks, for those who write what we read and those who read what we write.

A checker that compares the sets of valid documents calls every added field a break, and names no place.
``python -m tests.support.compatibility`` takes the present schemas as those of a release.
"""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from schemas.publish import documents

BASELINE = Path(__file__).parents[1] / "contracts/baseline.json"
NOT_A_SCHEMA = "asyncapi.json"
# Bodies that callers write and we read; records and what our services tell each other go both ways.
_WRITTEN_BY_CALLERS = tuple(
    "http.post- http.create- http.change- http.edit- http.replay- http.task-filter file.".split()
)
_UNIONS = ("anyOf", "oneOf")
_AT_LEAST = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_AT_MOST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")

Schema = dict[str, Any]


def present() -> dict[str, Schema]:
    """The schemas of the code as it is, by name."""
    return {name.removesuffix(".json"): json.loads(text) for name, text in documents() if name != NOT_A_SCHEMA}


def released() -> dict[str, Schema]:
    """The schemas of the last release, by name."""
    found: dict[str, Schema] = json.loads(BASELINE.read_text("utf-8"))
    return found


def breaks(before: dict[str, Schema], now: dict[str, Schema]) -> list[str]:
    """Every change that breaks a client, each as a line that says where and what."""
    lines = [f"{name}: is gone" for name in before.keys() - now.keys()]
    for name in before.keys() & now.keys():
        read = name.startswith(_WRITTEN_BY_CALLERS) or not name.startswith("http.")
        told = not name.startswith(_WRITTEN_BY_CALLERS)
        comparison = Comparison(before[name], now[name], read=read, told=told)
        lines += [f"{name}{line}" for line in comparison.lines]
    return sorted(lines)


class Comparison:
    """Two versions of one schema. ``read``: documents of the first come to us; ``told``: ours go to its readers."""

    def __init__(self, before: Schema, now: Schema, *, read: bool, told: bool) -> None:
        self._before = before
        self._now = now
        self._read = read
        self._told = told
        self._known: dict[tuple[int, int], list[str]] = {}

    @cached_property
    def lines(self) -> list[str]:
        """What breaks, each line beginning with the place."""
        return list(dict.fromkeys(self._compare(self._before, self._now, "")))

    def _compare(self, before: Schema, now: Schema, at: str) -> list[str]:
        # A schema that several places share is reported once, by its own name.
        at = f" {before['$ref'].rsplit('/', 1)[1]}" if "$ref" in before else at
        before, now = _resolve(self._before, before), _resolve(self._now, now)
        pair = (id(before), id(now))
        if pair not in self._known:
            self._known[pair] = []  # A schema within itself is compared once.
            self._known[pair] = list(self._differences(before, now, at))
        return self._known[pair]

    def _differences(self, before: Schema, now: Schema, at: str) -> Iterator[str]:
        olds, news = _kinds(self._before, before), _kinds(self._now, now)
        for kind, old in olds.items():
            new = news.get(kind) or (news.get("number") if kind == "integer" else None) or news.get("anything")
            if new is None:
                yield f"{at}: may be {kind} no more"
            else:
                yield from self._of_one_kind(old, new, at)
        if self._told:
            yield from (f"{at}: may be {kind} now" for kind in news if kind not in olds and "anything" not in olds)

    def _of_one_kind(self, before: Schema, now: Schema, at: str) -> Iterator[str]:
        if self._read:
            yield from _narrowed(before, now, at)
        yield from self._required(before, now, at)
        for name, old in before.get("properties", {}).items():
            if name in now.get("properties", {}):
                yield from self._compare(old, now["properties"][name], f"{at}.{name}")
            else:
                yield f"{at}.{name}: is gone"
        for inner, mark in (("items", "[]"), ("additionalProperties", ".*")):
            if isinstance(before.get(inner), dict) and isinstance(now.get(inner), dict):
                yield from self._compare(before[inner], now[inner], at + mark)

    def _required(self, before: Schema, now: Schema, at: str) -> Iterator[str]:
        olds, news = set(before.get("required", [])), set(now.get("required", []))
        if self._read:
            yield from (f"{at}.{name}: is required now" for name in news - olds)
        if self._told:
            yield from (f"{at}.{name}: may be missing now" for name in olds - news if name in now.get("properties", {}))


def _narrowed(before: Schema, now: Schema, at: str) -> Iterator[str]:
    values, left = _values(before), _values(now)
    if left is not None:
        gone = sorted(map(json.dumps, values or [])) if values is not None else ["anything else"]
        yield from (f"{at}: may be {value} no more" for value in gone if value not in map(json.dumps, left))
    for limit in _AT_LEAST:
        if limit in now and (limit not in before or now[limit] > before[limit]):
            yield f"{at}: {limit} is {now[limit]}, was {before.get(limit, 'none')}"
    for limit in _AT_MOST:
        if limit in now and (limit not in before or now[limit] < before[limit]):
            yield f"{at}: {limit} is {now[limit]}, was {before.get(limit, 'none')}"
    for form in ("pattern", "format"):
        if form in now and now[form] != before.get(form):
            yield f"{at}: {form} is {now[form]}, was {before.get(form, 'none')}"
    if now.get("additionalProperties") is False and before.get("additionalProperties") is not False:
        yield f"{at}: unknown fields are refused now"


def _resolve(root: Schema, schema: Schema) -> Schema:
    while "$ref" in schema:
        found = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def _kinds(root: Schema, schema: Schema) -> dict[str, Schema]:
    """The alternatives of a schema by their type; what is equal to a value counts as of the value's type."""
    found: dict[str, Schema] = {}
    for each in _alternatives(root, schema):
        kind = each.get("type") or _type_of(_values(each))
        # A text of a form or the empty one: the form is what counts.
        if kind not in found or "const" in found[kind]:
            found[kind] = each
    return found


def _alternatives(root: Schema, schema: Schema) -> Iterator[Schema]:
    """The schemas of a union, those of unions within it too."""
    schema = _resolve(root, schema)
    # Beside properties a union says which of them go together, not what else a value may be.
    union = next((schema[name] for name in _UNIONS if name in schema and "properties" not in schema), None)
    if union is None:
        yield schema
    for each in union or ():
        yield from _alternatives(root, each)


def _values(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _type_of(values: list[Any] | None) -> str:
    if not values:
        return "anything"
    return {str: "string", bool: "boolean", int: "integer", float: "number"}.get(type(values[0]), "null")


if __name__ == "__main__":
    BASELINE.write_text(json.dumps(present(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
