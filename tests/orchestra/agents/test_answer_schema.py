"""Promises of orchestra/agents/answer_schema.py: what fits, what is said of what does not, and no endless work."""

import json
from typing import Any

import pytest

from orchestra.agents.answer_schema import AnswerSchema

CANARY = "canary-5e0a"
PEOPLE = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
            },
        }
    },
    "required": ["people"],
    "additionalProperties": {"type": "integer"},
}
_NODES = [
    {"properties": {"op": {"const": name}, "args": {"items": {"$ref": "#"}}}, "required": ["op"]}
    for name in ("and", "or")
]
# An ordinary schema of formulas, whose check doubles with each level of an `or`.
FORMULA = {"anyOf": [*_NODES, {"type": "string"}]}
TOO_MUCH = "it is too deep or too complex to check"


def formula(depth: int) -> str:
    """A formula that is so deep."""
    found: Any = "x"
    for _ in range(depth):
        found = {"op": "or", "args": [found]}
    return json.dumps(found)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"people": []}', None),
        (' {"people": [{"name": "Ada", "age": 36}], "n": 1}\n', None),
        (f"Here it is: {CANARY}", "it is not JSON"),
        ('```json\n{"people": []}\n```', "it is not JSON"),
        ('{"people": [NaN]}', "it is not JSON"),
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        (f'"{CANARY}"', "$ does not match `type`"),
        ("{}", "$ does not match `required`"),
        (f'{{"people": [{{"name": "{CANARY}", "age": -1}}]}}', "$.people[0].age does not match `minimum`"),
        (f'{{"people": [], "{CANARY}": "x"}}', "$.* does not match `type`"),
    ],
)
def test_an_answer_fits_or_it_is_told_where_not(answer: str, why: str | None) -> None:
    """Place and keyword; nothing of the answer itself, not even a name that it made up."""
    assert why == AnswerSchema(PEOPLE).mismatch(answer)


def test_references_within_a_schema_are_followed() -> None:
    """By path and by anchor; also when the schema has a name of its own and says its dialect."""
    schema = AnswerSchema(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": "https://example.com/s",
            "$defs": {"n": {"$anchor": "number", "type": "integer"}},
            "properties": {"a": {"$ref": "#/$defs/n"}, "b": {"$ref": "#number"}, "$ref": {"type": "string"}},
        }
    )

    assert schema.mismatch('{"a": 1, "b": 2, "$ref": "https://example.com/"}') is None
    assert "$.a does not match `type`" == schema.mismatch('{"a": "x"}')
    assert "$.b does not match `type`" == schema.mismatch('{"b": "x"}')


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "strng"}, "at $.type: "),
        ({"properties": {"a": {"pattern": "("}}}, "at $.properties.a.pattern: "),
        ({"properties": []}, "at $.properties: "),
        ({"items": {"$ref": "https://example.com/s"}}, "$ref must begin with '#'"),
        ({"allOf": [{"$dynamicRef": "file:///etc/passwd"}]}, "$dynamicRef must begin with '#'"),
        ({"$ref": "#/$defs/gone"}, "$ref #/$defs/gone does not exist in the schema"),
        ({"properties": {"a": {"$id": "b"}}}, "$id is allowed at the top level only"),
        (
            {"items": {"$schema": "https://json-schema.org/draft/2020-12/schema"}},
            "$schema is allowed at the top",
        ),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema must be"),
        ({"const": float("inf")}, "has a value that JSON does not have"),
        ({"const": {1, 2}}, "has a value that JSON does not have"),
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused(schema: dict[str, Any], why: str) -> None:
    """When it is read, in one line, and not at the first answer."""
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refused:
        AnswerSchema(schema)

    assert str(refused.value).startswith(why)


@pytest.mark.parametrize(
    ("items", "unique"),
    [
        ([{"a": 1, "b": 2}, {"b": 2, "a": 1}], False),
        ([1, 1.0], False),
        ([[1], [1]], False),
        ([1, True, "1", [1], [True], {"1": 1}, None, 0, False, "true"], True),
        ([{"a": [1]}, {"a": [True]}, {"a": {}}, {"a": []}], True),
    ],
    ids=str,
)
def test_equal_is_what_is_equal_in_json(items: list[Any], unique: bool) -> None:
    """The order of names does not matter; 1 and 1.0 are the same number, and true is not a number."""
    assert unique == (AnswerSchema({"uniqueItems": True}).mismatch(json.dumps(items)) is None)


def test_many_different_items_are_checked() -> None:
    """Twenty thousand objects, which compared one by one would take minutes."""
    answer = json.dumps([{"n": number} for number in range(20_000)])

    assert AnswerSchema({"uniqueItems": True, "items": {"type": "object"}}).mismatch(answer) is None


def test_a_check_has_an_end() -> None:
    """An answer that doubles the work with each level, or a schema that never ends, does not fit."""
    schema = AnswerSchema(FORMULA)

    assert schema.mismatch(formula(8)) is None
    assert TOO_MUCH == schema.mismatch(formula(30))
    assert TOO_MUCH == schema.mismatch(formula(300))
    assert TOO_MUCH == AnswerSchema({"items": {"$ref": "#"}}).mismatch("[" * 300 + "]" * 300)
    assert TOO_MUCH == AnswerSchema({"$ref": "#"}).mismatch("1")
    assert schema.mismatch('"x"') is None


def test_a_huge_number_is_no_crash() -> None:
    """A number beyond what can be divided does not fit."""
    schema = AnswerSchema({"multipleOf": 0.5})

    assert "it has a number that is too large" == schema.mismatch("1" + "0" * 400)
    assert "it has a number that is too large" == schema.mismatch("1e400")
    assert "it is not JSON" == schema.mismatch("1" * 5000)
    assert schema.mismatch("1.5") is None
