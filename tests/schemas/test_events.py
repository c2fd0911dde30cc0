"""Promises of schemas/events.py: every event says which attempt it belongs to."""

import pytest
from pydantic import ValidationError

from schemas.events import ENDING_TYPES, EVENT_TYPES, Event
from schemas.status import ENDINGS


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_every_event_has_its_attempt(name: str) -> None:
    """An event without an attempt, which could not be distinguished from an old one, is refused."""
    with pytest.raises(ValidationError, match="attempt"):
        EVENT_TYPES[name].model_validate({})


def test_endings_are_the_endings_of_a_request() -> None:
    """There is one ending event for each ending state, by the same word."""
    assert {name.rsplit(".", 1)[1] for name in ENDING_TYPES} == {ending.value for ending in ENDINGS}


def test_each_type_has_a_class_of_its_own() -> None:
    """No two types share a class, so that a class tells the type."""
    assert len(EVENT_TYPES) == len(set(EVENT_TYPES.values()))
    assert Event not in EVENT_TYPES.values()
