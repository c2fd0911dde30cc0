"""Promises of workers/prompt.py: what the model is sent, and what is stored of it."""

from pathlib import Path

import pytest

from orchestra.agents.catalogue import Agents
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, ModelInfo
from tests.support.records import claimed
from workers.prompt import BYTES_A_TOKEN, Prompt, generation, prepare

MODEL = ModelInfo(name="m", provider="p", context_tokens=100, max_output_tokens=20)
NO_AGENTS = Agents([])
POET = """
description = "Writes poems."
system = "Be a poet.\\n"
temperature = 0.9
top_p = 0.8
max_tokens = 7
stop = ["END"]
"""


@pytest.fixture
def agents(tmp_path: Path) -> Agents:
    """The built-in agents, a poet, and an agent with an answer schema."""
    (tmp_path / "poet.toml").write_text(POET)
    (tmp_path / "form.toml").write_text('description = "d"\nsystem = "s"\n[answer_schema]\ntype = "object"\n')
    return Agents.load(tmp_path)


def prompt(
    *messages: tuple[str, str], model: ModelInfo | None = MODEL, agents: Agents = NO_AGENTS, **body: object
) -> Prompt:
    """The prompt of a turn with these messages."""
    sent = [{"role": role, "content": content} for role, content in messages]
    return prepare(claimed(body={"messages": sent, **body}), model, agents)


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
    """The last message of a user is stored, or else the last message."""
    messages = [(role, f"text {at}") for at, role in enumerate(roles)]

    assert messages[question] == prompt(*messages).question


def test_history_goes_between_leading_system_messages_and_the_rest() -> None:
    """The history goes between the leading system messages and the rest."""
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
    """`auto` adds history unless the client sends assistant turns; `given` and `stored` decide explicitly."""
    messages = [("user", "a"), ("assistant", "b"), ("user", "c")] if carries_its_own else [("user", "a")]
    body = {} if context is None else {"context": context}

    assert wanted == bool(prompt(*messages, **body).history_budget)


def test_the_budget_is_what_the_context_leaves() -> None:
    """The history's budget is the context less the answer's tokens, in bytes, less the UTF-8 size of the messages."""
    assert (100 - 20) * BYTES_A_TOKEN - 4 == prompt(("user", "üü")).history_budget
    assert (100 - 5) * BYTES_A_TOKEN - 4 == prompt(("user", "üü"), max_tokens=5).history_budget


def test_what_does_not_fit_by_itself_is_too_long() -> None:
    """Messages that exceed the context by a single byte are refused."""
    fits = (100 - 20) * BYTES_A_TOKEN
    assert 0 == prompt(("user", "x" * fits)).history_budget

    with pytest.raises(OrchestraError) as refused:
        prompt(("user", "x" * (fits + 1)))

    assert ErrorCode.CONTEXT_TOO_LONG is refused.value.code


def test_an_unknown_model_is_given_the_benefit_of_the_doubt() -> None:
    """For an unknown model no message is too long, and history fits a modest context."""
    asked = prompt(("user", "x" * 1_000_000), model=None)

    assert (0, None) == (asked.history_budget, asked.output_tokens)
    assert 0 < prompt(("user", "x"), model=None).history_budget <= 8192 * BYTES_A_TOKEN


def test_the_answer_is_limited_to_what_the_model_can_say() -> None:
    """The requested output is capped at the model's limit; without a request the LLM service decides."""
    limits = [prompt(("user", "x"), **body).output_tokens for body in ({"max_tokens": 7}, {"max_tokens": 700}, {})]

    assert [7, 20, None] == limits
    assert 700 == prompt(("user", "x"), model=None, max_tokens=700).output_tokens


def test_sampling_reaches_the_model() -> None:
    """Sampling values reach the model unchanged, and absent ones stay absent."""
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 0.5, "top_p": 0.9, "stop": ["end"]}
    turn = claimed(model="m", body={**body, "max_tokens": 30})

    sent = generation(turn, prepare(turn, MODEL, NO_AGENTS), said("h")).model_dump(exclude_none=True)

    assert ("m", True, 0.5, 0.9, ["end"], 20) == tuple(
        sent[name] for name in ("model", "stream", "temperature", "top_p", "stop", "max_tokens")
    )
    assert ["h", "x"] == [each["content"] for each in sent["messages"]]
    plain = claimed()
    assert (
        not {"temperature", "top_p", "stop", "max_tokens"}
        & generation(plain, prepare(plain, MODEL, NO_AGENTS), []).model_dump(exclude_none=True).keys()
    )


def test_an_agent_speaks_first(agents: Agents) -> None:
    """An agent's instructions come before all other messages, and only the question is stored."""
    asked = prompt(("system", "s1"), ("user", "u"), agents=agents, agent="poet")

    said_to_model = [(each.role, each.content) for each in asked.with_history(said("h1"))]
    assert [("system", "Be a poet."), ("system", "s1"), ("user", "h1"), ("user", "u")] == said_to_model
    assert ("user", "u") == asked.question
    assert ("system", "s1") == prompt(("system", "s1"), agents=agents, agent="poet").question


def test_a_task_type_names_an_agent(agents: Agents) -> None:
    """A task type selects the agent of that name."""
    task, message = (prompt(("user", "u"), agents=agents, **{name: "poet"}) for name in ("task_type", "agent"))

    assert task == message
    assert "Be a poet." == task.messages[0].content


def test_an_agent_with_a_schema_tells_it(agents: Agents) -> None:
    """An agent's schema follows its instructions in the same message and is used to check the answer."""
    asked = prompt(("user", "u"), agents=agents, agent="form")

    told = 's\n\nAnswer with JSON alone, which fits this JSON Schema: {"type": "object"}'
    assert told == asked.messages[0].content
    assert asked.schema is agents.answer_schema("form")
    assert prompt(("user", "u"), agents=agents, agent="poet").schema is None


@pytest.mark.parametrize("field", ["agent", "task_type"])
def test_an_agent_that_is_none_is_an_error(agents: Agents, field: str) -> None:
    """An unknown agent is an error, and no other agent answers instead."""
    with pytest.raises(OrchestraError) as refused:
        prompt(("user", "u"), agents=agents, **{field: "nobody"})

    assert ErrorCode.UNKNOWN_AGENT is refused.value.code


def test_what_a_request_says_itself_goes_before_its_agent(agents: Agents) -> None:
    """Each value that a request sets overrides its agent's."""

    def sent(**body: object) -> dict[str, object]:
        turn = claimed(body={"messages": [{"role": "user", "content": "x"}], "agent": "poet", **body})
        whole = generation(turn, prepare(turn, MODEL, agents), []).model_dump()
        return {name: whole[name] for name in ("temperature", "top_p", "max_tokens", "stop")}

    poets = {"temperature": 0.9, "top_p": 0.8, "max_tokens": 7, "stop": ["END"]}
    own = {"temperature": 0.0, "top_p": 0.1, "max_tokens": 9, "stop": []}
    assert poets == sent()
    assert own == sent(**own)
    assert {**poets, "temperature": 0.0} == sent(temperature=0.0)


def test_an_agent_takes_its_part_of_the_context(agents: Agents) -> None:
    """An agent's instructions and output limit count as if the client had sent them."""
    room = (100 - 7) * BYTES_A_TOKEN - len("Be a poet.")
    fits = "x" * room
    assert room - 1 == prompt(("user", "x"), agents=agents, agent="poet").history_budget
    assert 0 == prompt(("user", fits), agents=agents, agent="poet").history_budget

    with pytest.raises(OrchestraError) as refused:
        prompt(("user", fits + "x"), agents=agents, agent="poet")

    assert ErrorCode.CONTEXT_TOO_LONG is refused.value.code
