"""The published contract of the last release holds: no producer and no reader is broken by accident."""

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.compatibility import breaks, present, released

ACCEPTED = Path(__file__).with_name("accepted_breaks.toml")
HOW = (
    "break those who use the contracts of the last release. If that is meant, write each line with its reason into "
    "tests/contracts/accepted_breaks.toml, tell it in CHANGELOG.md, and raise VERSION in schemas/asyncapi.py where it "
    "concerns a topic."
)
REQUEST, REPLY, RESOURCE = "llm.message.requested", "llm.reply", "http.request"


def test_nothing_that_was_released_is_broken() -> None:
    """Since the last release no schema has lost, narrowed or newly required anything, but what was accepted by name."""
    accepted = {each["break"] for each in tomllib.loads(ACCEPTED.read_text("utf-8"))["accepted"] if each["why"]}
    found = set(breaks(released(), present()))

    assert found - accepted == set(), f"These changes {HOW}"
    assert accepted - found == set(), "These are accepted breaks that there are no more."


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> list[str]:
    """What breaks when the released schema of this name is changed so."""
    now = copy.deepcopy(released())
    change(now[name])
    return breaks(released(), now)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda schema: schema["properties"].pop(name)


def require(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda schema: schema.setdefault("required", []).append(name)


def put(name: str, what: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda schema: schema["properties"].update({name: what})


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        (REQUEST, without("priority"), [f"{REQUEST}.priority: is gone"]),
        (REQUEST, require("model"), [f"{REQUEST}.model: is required now"]),
        (
            REQUEST,
            lambda schema: schema["$defs"]["Message"]["properties"]["content"].update(maxLength=9),
            [f"{REQUEST} Message.content: maxLength is 9, was none"],
        ),
        (
            REQUEST,
            put("context", {"enum": ["given", "stored"]}),
            [f'{REQUEST}.context: may be "auto" no more', f"{REQUEST}.context: may be null no more"],
        ),
        (REQUEST, put("stream", {"type": "boolean"}), [f"{REQUEST}.stream: may be null no more"]),
        ("http.create-key", put("name", {"type": "string", "pattern": "^[a-z]+$"}), None),
        (REPLY, put("attempts", {"type": "string"}), None),
        (REPLY, lambda schema: schema["required"].remove("status"), [f"{REPLY}.status: may be missing now"]),
        (
            RESOURCE,
            put("id", {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}),
            [f"{RESOURCE}.id: may be null now"],
        ),
    ],
)
def test_a_break_is_named(name: str, change: Callable[[dict[str, Any]], object], told: list[str] | None) -> None:
    """Anything removed, narrowed, newly required or no longer certain is reported with its place."""
    found = changed(name, change)

    assert found
    assert told is None or sorted(told) == found


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (REQUEST, put("mood", {"type": "string"})),
        (REQUEST, lambda schema: schema["$defs"]["Message"]["required"].remove("role")),
        (REPLY, put("cost", {"type": "number"})),
        ("http.problem", lambda schema: schema["$defs"]["ErrorCode"]["enum"].append("a_new_one")),
        (RESOURCE, lambda schema: (put("cost", {"type": "number"})(schema), require("cost")(schema))),
    ],
)
def test_growth_is_no_break(name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """One more field, one more value, or one requirement less breaks no client."""
    found = [line for line in changed(name, change) if "may be missing" not in line]

    assert found == []


def test_a_schema_that_is_gone_is_named() -> None:
    """A kind of record or body that is published no more is a break."""
    now = {name: schema for name, schema in released().items() if name != REPLY}

    assert breaks(released(), now) == [f"{REPLY}: is gone"]
