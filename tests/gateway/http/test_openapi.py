"""Promises of gateway/http/openapi.py: the document reads well, and so do the clients that are generated from it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.app import create_app
from gateway.settings import GatewaySettings
from schemas.api.keys import Scope

DOCUMENT = create_app(GatewaySettings.model_validate({"orchestra_secret": "s" * 32})).openapi()
OPERATIONS = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
VERBS = (
    "branch cancel change check copy count create delete drain get list pause replay resume retry revoke stream "
    "update".split()
)
IMPERATIVE = {verb.capitalize() for verb in VERBS} | {"Edit", "Send", "Sign", "Upload"}
SCHEMAS = DOCUMENT["components"]["schemas"]
ids = pytest.mark.parametrize("operation", [pytest.param(each, id=each["operationId"]) for each in OPERATIONS])


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of every schema, those of a form too, and every parameter, by its place."""
    for name, schema in SCHEMAS.items():
        yield from ((f"{name}.{field}", each) for field, each in schema.get("properties", {}).items())
    for operation in OPERATIONS:
        name = operation["operationId"]
        for each in operation.get("parameters", ()):
            yield f"{name} {each['name']}", {**each["schema"], **each}
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield from ((f"{name}.{field}", each) for field, each in content["schema"].get("properties", {}).items())


def is_open(schema: dict[str, Any]) -> bool:
    """True if it takes texts or numbers that are not listed."""
    kinds = schema.get("anyOf", [schema])
    return any(
        each.get("type") in {"string", "number", "integer"} and not {"enum", "const"} & each.keys() for each in kinds
    )


def test_operation_ids_are_unique() -> None:
    """No two operations become the same method of a generated client."""
    found = [operation["operationId"] for operation in OPERATIONS]

    assert sorted(set(found)) == sorted(found)


@ids
def test_an_operation_id_is_a_verb_and_its_object(operation: dict[str, Any]) -> None:
    """An operation is named, in camel case, by one of a few verbs and what it concerns."""
    assert re.fullmatch(rf"({'|'.join(VERBS)})([A-Z][a-z]+)+(V0)?", operation["operationId"])


@ids
def test_an_operation_names_its_scopes(operation: dict[str, Any]) -> None:
    """Where credentials are required, the document has the scopes of which a caller needs one."""
    scopes = set(operation.get("x-scopes", ()))

    assert scopes <= set(Scope)
    assert bool(scopes) != (operation.get("security") == [])


@ids
def test_a_summary_is_imperative(operation: dict[str, Any]) -> None:
    """A summary is one line without a full stop, and begins with what the call does."""
    summary = operation["summary"]

    assert summary.split()[0] in IMPERATIVE
    assert not re.search(r"[.\n]$|\n", summary)


def test_the_summary_of_a_list_names_what_is_listed() -> None:
    """No list has the summary of another one: it contains each noun of its operation id."""
    lists = [each for each in OPERATIONS if each["operationId"].startswith("list")]

    assert [
        each["operationId"]
        for each in lists
        for noun in re.findall("[A-Z][a-z]+", each["operationId"])
        if noun.lower() not in each["summary"]
    ] == []


@ids
def test_an_operation_has_one_described_tag(operation: dict[str, Any]) -> None:
    """Each operation belongs to one group, and the group has a description."""
    described = {tag["name"] for tag in DOCUMENT["tags"] if tag["description"]}

    assert 1 == len(operation["tags"])
    assert set(operation["tags"]) <= described


def test_every_tag_is_used() -> None:
    """No described group is empty."""
    assert [
        tag["name"] for tag in DOCUMENT["tags"] if not any(tag["name"] in each["tags"] for each in OPERATIONS)
    ] == []


@ids
def test_every_response_is_described(operation: dict[str, Any]) -> None:
    """Each response says what it means."""
    assert [status for status, each in operation["responses"].items() if not each["description"].strip()] == []


def test_every_field_is_described() -> None:
    """Each field of each body, and each parameter, says what it means."""
    assert [place for place, schema in fields() if not schema.get("description")] == []


def test_every_field_has_an_example() -> None:
    """Each text or number whose values are not listed has an example."""
    assert [place for place, schema in fields() if is_open(schema) and not schema.get("examples")] == []


def test_schemas_have_plain_names() -> None:
    """A schema has a name that is a class in any language."""
    assert [name for name in SCHEMAS if not re.fullmatch(r"[A-Z][A-Za-z]+", name)] == []


def test_every_reference_leads_somewhere() -> None:
    """Each schema that a route or another schema refers to is in the document."""
    named = set(re.findall(r"'#/components/schemas/(\w+)'", repr(DOCUMENT)))

    assert set() == named - SCHEMAS.keys()
