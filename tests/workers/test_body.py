"""Promises of workers/body.py: what of a request is stored."""

from typing import Any

import pytest

from tests.support.store import to_store
from workers.body import TurnBody

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TEXT = {"type": "text", "text": "What is it?"}


def body(*messages: dict[str, Any]) -> TurnBody:
    """A body with these messages."""
    return TurnBody.model_validate({"messages": messages})


def calls(*ids: str) -> dict[str, Any]:
    """An answer that calls tools."""
    return {
        "role": "assistant",
        "tool_calls": [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids],
    }


def result(id: str) -> dict[str, Any]:
    """The result of a call."""
    return {"role": "tool", "tool_call_id": id, "content": f"of {id}"}


@pytest.mark.parametrize(
    ("roles", "stored"),
    [
        (["user"], 0),
        (["user", "assistant", "user"], 2),
        (["system", "user", "assistant"], 1),
        (["user", "system"], 0),
        (["user", "user", "developer"], 1),
        (["system"], 0),
        (["system", "assistant"], 1),
    ],
)
def test_the_last_message_of_a_user_is_stored(roles: list[str], stored: int) -> None:
    """The last message of a user is stored, or else the last message."""
    messages = [{"role": role, "content": f"text {at}"} for at, role in enumerate(roles)]

    assert [to_store(roles[stored], f"text {stored}")] == body(*messages).said()


def test_results_of_tools_are_stored_before_the_message() -> None:
    """All results after the last answer are stored, one message each and in order, and the user's last message."""
    user = {"role": "user", "content": "and now?"}
    results = [to_store("tool", f"of {id}", None, id) for id in "ab"]

    assert [*results, to_store("user", "and now?")] == body(result("a"), result("b"), user, user).said()
    assert results == body(user, calls("a", "b"), result("a"), result("b")).said()


def test_what_the_caller_brings_of_earlier_turns_is_not_stored() -> None:
    """Neither answers nor anything before the last one becomes a row."""
    user = {"role": "user", "content": "again"}

    assert [to_store("user", "again")] == body(
        user, calls("a"), result("a"), calls("b"), result("b"), calls("c"), user
    ).said()


def test_a_call_without_a_question_is_stored_as_its_text() -> None:
    """A request that has only an answer stores its text, without the calls, which are the caller's own."""
    assert [to_store("assistant", "")] == body({"role": "system", "content": "s"}, calls("a")).said()


def test_parts_are_stored_beside_their_text() -> None:
    """A message of parts has them, its plain text, and what it weighs."""
    (said,) = body({"role": "user", "content": [TEXT, IMAGE, TEXT]}).said()

    weight = 2 * len("What is it?") + 3000
    assert to_store("user", "What is it?" * 2, [TEXT, IMAGE, TEXT], weight=weight) == said


def test_an_unreadable_body_is_not_quoted() -> None:
    """The error for a row that cannot be read has none of its content."""
    with pytest.raises(ValueError, match="messages") as error:
        body({"role": "canary", "content": ["canary"]})

    assert "canary" not in str(error.value)


def test_all_input_from_a_place_on_is_stored() -> None:
    """With ``store_from``, all that comes after the last answer is stored, from that message on; never an answer."""
    texts = [{"role": role, "content": role} for role in ("system", "developer", "user", "user")]
    stored = [to_store(role, role) for role in ("developer", "user", "user")]

    assert stored == TurnBody.model_validate({"store_from": 1, "messages": texts}).said()
    assert [to_store("system", "system"), *stored] == TurnBody.model_validate(
        {"store_from": 0, "messages": texts}
    ).said()
    assert [] == TurnBody.model_validate({"store_from": 2**40, "messages": texts}).said()
    behind = TurnBody.model_validate({"store_from": 1, "messages": [*texts, calls("a"), result("a"), texts[1]]})
    assert [to_store("tool", "of a", None, "a"), to_store("developer", "developer")] == behind.said()
