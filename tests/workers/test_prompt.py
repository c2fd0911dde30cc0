"""Promises of workers/prompt.py: what the model sees, and what is kept of it."""

import pytest

from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, ModelInfo
from tests.support.records import claimed
from workers.prompt import BYTES_A_TOKEN, Prompt, generation, prepare

MODEL = ModelInfo(name="m", provider="p", context_tokens=100, max_output_tokens=20)


def prompt(*messages: tuple[str, str], model: ModelInfo | None = MODEL, **body: object) -> Prompt:
    """The prompt of a turn with these messages."""
    sent = [{"role": role, "content": content} for role, content in messages]
    return prepare(claimed(body={"messages": sent, **body}), model)


def said(*texts: str) -> list[ChatMessage]:
    """A history."""
    return [ChatMessage(role="user" if at % 2 == 0 else "assistant", content=text) for at, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("roles", "question"),
    [
        (["user"], 0),
        (["user", "assistant", "user"], 2),
        (["system", "user", "assistant"], 1),
        (["user", "system"], 0),
        (["system"], 0),
        (["system", "assistant"], 1),
    ],
)
def test_the_last_message_of_a_user_is_stored(roles: list[str], question: int) -> None:
    """Else the last message, whoever's it is."""
    messages = [(role, f"text {at}") for at, role in enumerate(roles)]

    assert messages[question] == prompt(*messages).question


def test_history_goes_between_leading_system_messages_and_the_rest() -> None:
    """Instructions stay first, what is asked now stays last."""
    asked = prompt(("system", "s1"), ("system", "s2"), ("user", "u"), ("system", "s3"))

    assert ["s1", "s2", "h1", "h2", "u", "s3"] == [each.content for each in asked.with_history(said("h1", "h2"))]
    only_system = prompt(("system", "s1"))
    assert ["s1", "h1"] == [each.content for each in only_system.with_history(said("h1"))]


@pytest.mark.parametrize(
    ("context", "carries_its_own", "wanted"),
    [
        (None, False, True),
        (None, True, False),
        ("auto", False, True),
        ("auto", True, False),
        ("given", False, False),
        ("given", True, False),
        ("stored", False, True),
        ("stored", True, True),
    ],
)
def test_history_is_wanted_when_the_caller_does_not_bring_it(
    context: str | None, carries_its_own: bool, wanted: bool
) -> None:
    """auto: a caller who sends assistant turns carries the history; given and stored say so outright."""
    messages = [("user", "a"), ("assistant", "b"), ("user", "c")] if carries_its_own else [("user", "a")]
    body = {} if context is None else {"context": context}

    assert wanted == bool(prompt(*messages, **body).history_budget)


def test_the_budget_is_what_the_context_leaves() -> None:
    """Context less the answer's tokens, in bytes, less what was sent, in UTF-8."""
    assert (100 - 20) * BYTES_A_TOKEN - 4 == prompt(("user", "üü")).history_budget
    assert (100 - 5) * BYTES_A_TOKEN - 4 == prompt(("user", "üü"), max_tokens=5).history_budget


def test_what_does_not_fit_by_itself_is_too_long() -> None:
    """Exactly as long as the context is not."""
    fits = (100 - 20) * BYTES_A_TOKEN
    assert 0 == prompt(("user", "x" * fits)).history_budget

    with pytest.raises(OrchestraError) as refused:
        prompt(("user", "x" * (fits + 1)))

    assert ErrorCode.CONTEXT_TOO_LONG is refused.value.code


def test_an_unknown_model_is_given_the_benefit_of_the_doubt() -> None:
    """Nothing is refused for limits that nobody knows; history is kept within a modest context."""
    asked = prompt(("user", "x" * 1_000_000), model=None)

    assert (0, None) == (asked.history_budget, asked.output_tokens)
    assert 0 < prompt(("user", "x"), model=None).history_budget <= 8192 * BYTES_A_TOKEN


def test_the_answer_is_limited_to_what_the_model_can_say() -> None:
    """What was asked for up to the model's own limit; that, when nothing was asked for."""
    limits = [prompt(("user", "x"), **body).output_tokens for body in ({"max_tokens": 7}, {"max_tokens": 700}, {})]

    assert [7, 20, 20] == limits
    assert 700 == prompt(("user", "x"), model=None, max_tokens=700).output_tokens


def test_sampling_reaches_the_model() -> None:
    """As it was sent; what was not sent is not there."""
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 0.5, "top_p": 0.9, "stop": ["end"]}
    turn = claimed(model="m", body=body)

    sent = generation(turn, prepare(turn, MODEL), said("h")).model_dump(exclude_none=True)

    assert ("m", True, 0.5, 0.9, ["end"], 20) == tuple(
        sent[name] for name in ("model", "stream", "temperature", "top_p", "stop", "max_tokens")
    )
    assert ["h", "x"] == [each["content"] for each in sent["messages"]]
    plain = claimed()
    assert (
        not {"temperature", "top_p", "stop"}
        & generation(plain, prepare(plain, None), []).model_dump(exclude_none=True).keys()
    )
