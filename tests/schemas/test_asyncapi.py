"""Promises of schemas/asyncapi.py: the document says what the topics, models and headers are."""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT7

from schemas import asyncapi, dead_letters, envelope
from schemas.topics import TOPICS

DOCUMENT = asyncapi.document()
MESSAGES = DOCUMENT["components"]["messages"]
EXAMPLES = [(name, example) for name, message in MESSAGES.items() for example in message["examples"]]
REGISTRY: Registry[Any] = Registry().with_resource("urn:document", DRAFT7.create_resource(DOCUMENT))
NOT_HEADERS = {"DEFAULT_TENANT"}


def validator(schema: Any) -> Draft7Validator:
    """A validator whose references lead into the document."""
    text = json.dumps(schema).replace('"#/', '"urn:document#/')
    return Draft7Validator(json.loads(text), registry=REGISTRY, format_checker=FormatChecker())


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {value["$ref"]} if "$ref" in value else set().union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_topic_is_told_with_its_settings() -> None:
    """Each topic is a channel with its name, partitions, retention and the kinds of records on it."""
    told = {
        channel["address"]: (
            channel["bindings"]["kafka"]["partitions"],
            channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"],
            len(channel["messages"]),
        )
        for channel in DOCUMENT["channels"].values()
    }

    assert told == {topic.name: (topic.partitions, topic.retention_ms, len(topic.carries)) for topic in TOPICS}


def test_references_lead_somewhere() -> None:
    """Each reference of the document leads to a place within it."""
    for reference in references(DOCUMENT):
        place = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        assert place


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_examples_are_right(name: str, example: dict[str, Any]) -> None:
    """Each example is right by the schemas of its headers and its value."""
    validator(MESSAGES[name]["headers"]).validate(example.get("headers", {}))
    validator(MESSAGES[name]["payload"]).validate(example["payload"])


def test_every_header_is_told() -> None:
    """Each header that we read or write is described at some record."""
    ours = {
        value
        for module in (envelope, dead_letters)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and name not in NOT_HEADERS
    }
    told = {header for message in MESSAGES.values() for header in message["headers"]["properties"]}

    assert ours == told
