"""The AsyncAPI document is right by AsyncAPI's own schema.

`asyncapi-3.0.0.schema.json` is `schemas/3.0.0-without-$id.json` of the npm package @asyncapi/specs 6.11.1 (Apache-2.0,
AsyncAPI Initiative), with the spaces taken out.
"""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from schemas.publish import PUBLISHED

OFFICIAL = Draft7Validator(json.loads(Path(__file__).with_name("asyncapi-3.0.0.schema.json").read_text("utf-8")))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PUBLISHED / "asyncapi.json").read_text("utf-8"))
    return found


def test_it_is_asyncapi_3(document: dict[str, Any]) -> None:
    """The published document is valid by the official schema of the version that it names."""
    assert document["asyncapi"] == "3.0.0"
    assert [f"{'/'.join(map(str, each.path))}: {each.message}" for each in OFFICIAL.iter_errors(document)] == []


@pytest.mark.parametrize("place", ["channels/requests/bindings/kafka", "operations/answer", "components/messages"])
def test_the_schema_is_not_blind(document: dict[str, Any], place: str) -> None:
    """The check reaches down to bindings, operations and messages: what is wrong there is refused."""
    wrong = copy.deepcopy(document)
    *way, last = place.split("/")
    holder = wrong
    for step in way:
        holder = holder[step]
    holder[last] = {"action": "shout", "partitions": "many", "bindingVersion": "0.5.0", "llm.reply": {"tags": 1}}

    assert not OFFICIAL.is_valid(wrong)
