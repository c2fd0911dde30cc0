from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from llm_service.providers.smallest_json import smallest
from schemas.errors import ErrorCode, OrchestraError

_NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["next"],
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["b"]},
            {"b": 0},
        ),
        (
            {"type": "object", "minProperties": 2, "additionalProperties": {"type": "boolean"}},
            {"p0": False, "p1": False},
        ),
        ({"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 2}, ["xx", "xx"]),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"type": "null"}, "minItems": 2}, [1, None]),
        ({"enum": ["red", "green"]}, "red"),
        ({"const": {"a": []}}, {"a": []}),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ""),
        ({"oneOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["integer", "null"], "minimum": 3}, 3),
        ({"type": "integer", "exclusiveMinimum": 3, "multipleOf": 5}, 10),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"type": "number", "maximum": -2.5}, -2.5),
        ({"type": "string", "format": "date"}, "2026-01-31"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "minimum": 1}}}, 1),
        (
            {
                "properties": {"a": {"$ref": "#/definitions/x~1y"}},
                "required": ["a"],
                "definitions": {"x/y": {"const": 1}},
            },
            {"a": 1},
        ),
        (
            {
                "allOf": [
                    {"properties": {"a": {"const": 1}}, "required": ["a"]},
                    {"properties": {"b": {"const": 2}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/node", "$defs": {"node": _NODE}}, {"next": None}),
        ({}, None),
        ({"type": "array", "items": False}, []),
    ],
)
def test_the_smallest_value_fits(schema: dict[str, Any], value: Any) -> None:
    """Required properties only, the first alternative, the lowest number; schemas may refer to parts of themselves."""
    assert smallest(schema) == value
    Draft202012Validator(schema).validate(value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "array", "items": {}, "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "object", "minProperties": 10**9},
        {"type": "colour"},
        {"enum": []},
        {"required": 7},
        {"allOf": [{"anyOf": [{"$ref": "#"}] * 50}] * 50},
    ],
)
def test_a_schema_that_cannot_be_filled_is_refused(schema: dict[str, Any]) -> None:
    """Endless, too large or senseless ones are the request's fault, and cost a bounded effort."""
    with pytest.raises(OrchestraError) as refused:
        smallest(schema)

    assert refused.value.code == ErrorCode.INVALID_REQUEST


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["#", "#/a/0", "object", "array", "string", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            "$ref type properties required items minItems anyOf allOf enum const minimum exclusiveMaximum multipleOf "
            "minLength format minProperties additionalProperties".split()
        ),
        inner,
        max_size=4,
    ),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["$ref", "type", "properties", "anyOf", "allOf", "items", "minItems"]), _ANY))
def test_any_schema_is_filled_or_refused(schema: dict[str, Any]) -> None:
    """No schema can do worse than be refused."""
    try:
        smallest(schema)
    except OrchestraError as error:
        assert error.code == ErrorCode.INVALID_REQUEST
