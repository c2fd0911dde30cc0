from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from schemas.api.tasks import CreateTask, PostTask, TaskFilter, prompt_and_history
from schemas.requests import Message


def said(roles: str) -> list[Message]:
    """Messages of these roles, by first letter, that say their place."""
    names = {"u": "user", "a": "assistant", "s": "system"}
    return [Message.model_validate({"role": names[role], "content": str(n)}) for n, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "prompt", "before"),
    [("", None, 0), ("u", "0", 0), ("uau", "2", 2), ("su", "1", 1), ("ua", "0", 0), ("sa", "1", 1)],
)
def test_prompt_and_history(roles: str, prompt: str | None, before: int) -> None:
    """The prompt is the last message of a user, or the last of all, and the history what came before it."""
    messages = said(roles)
    assert prompt_and_history(messages) == (prompt, messages[:before])


def test_what_is_unknown() -> None:
    """The old body passes by unknown fields, the new one refuses them."""
    body = {"task_type": "analyst", "prompt": "x", "unknown": 1}
    assert PostTask.model_validate(body).prompt == "x"
    with pytest.raises(ValidationError):
        CreateTask.model_validate(body)


def test_times_are_in_utc() -> None:
    """A time without a zone is UTC, in tasks and in filters."""
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert PostTask(task_type="analyst", prompt="x", not_before=datetime(2026, 1, 1, 12)).not_before == noon
    assert TaskFilter(created_after=datetime(2026, 1, 1, 12)).created_after == noon


@pytest.mark.parametrize("filter", [{"user": "a\0"}, {"user": "\ud800"}, {"user": "u" * 201}, {"status": "waiting"}])
def test_filters_that_mean_nothing(filter: dict[str, str]) -> None:
    """A name that nothing can have, and an internal state, are refused."""
    with pytest.raises(ValidationError):
        TaskFilter.model_validate(filter)


def test_an_empty_filter() -> None:
    """A filter is empty when it names nothing, or nothing but nulls."""
    assert TaskFilter().empty
    assert TaskFilter.model_validate({"user": None}).empty
    assert not TaskFilter(type="analyst").empty
