"""Promises of workers/prompt.py: what the model is sent."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.agents.catalogue import Agents
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, ModelInfo
from tests.support.records import claimed
from tests.support.store import to_store
from workers.prompt import NOT_EXECUTED, Prompt, generation, prepare, with_results
from workers.weights import BYTES_A_TOKEN

MODEL = ModelInfo(name="m", provider="p", context_tokens=100, max_output_tokens=20)
HELD = MODEL.model_copy(update={"structured_output": True})
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


def texts(asked: Prompt, history: list[ChatMessage]) -> list[Any]:
    """The contents that the model is sent."""
    return [each.content for each in generation(claimed(), asked, history).messages]


def said(*texts: str) -> list[ChatMessage]:
    """A history."""
    return [ChatMessage(role="user" if at % 2 == 0 else "assistant", content=text) for at, text in enumerate(texts)]


def test_history_goes_between_leading_system_messages_and_the_rest() -> None:
    """The history goes between the leading system messages and the rest."""
    asked = prompt(("system", "s1"), ("developer", "s2"), ("user", "u"), ("system", "s3"))

    assert ["s1", "s2", "h1", "h2", "u", "s3"] == texts(asked, said("h1", "h2"))
    assert ["s1", "h1"] == texts(prompt(("system", "s1")), said("h1"))


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


CUT = {"asked": {"truncation": "auto"}}


def test_the_oldest_messages_are_left_out_where_the_request_allows_it() -> None:
    """Instructions stay and the oldest messages behind them go, only as many as must, with the whole history."""
    whole, half = "x" * (100 - 20) * BYTES_A_TOKEN, "x" * (100 - 20) * (BYTES_A_TOKEN // 2)
    asked = prompt(("system", "s"), ("user", whole), ("assistant", half), ("user", "third"), context="stored", **CUT)

    assert ["s", half, "third"] == texts(asked, [])
    assert (0, 4) == (asked.history_budget, len(asked.body.messages))
    for body in ({"asked": {"truncation": "disabled"}}, {}):
        with pytest.raises(OrchestraError):
            prompt(("user", whole), ("user", "third"), **body)


@pytest.mark.parametrize("fits", [False, True])
def test_a_result_is_left_out_with_its_call(fits: bool) -> None:
    """A result is never without its call, and what cannot be left out must fit."""
    big = "x" * (100 - 20) * BYTES_A_TOKEN
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "" if fits else big}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "r"}
    messages = [{"role": "user", "content": big}, called, result, {"role": "user", "content": "u"}]

    roles = [
        message.role for message in prepare(claimed(body={"messages": messages, **CUT}), MODEL, NO_AGENTS).messages
    ]
    assert roles == (["assistant", "tool", "user"] if fits else ["user"])
    if not fits:
        with pytest.raises(OrchestraError) as refused:
            prepare(claimed(body={"messages": messages[:-1], **CUT}), MODEL, NO_AGENTS)
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

    assert ["Be a poet.", "s1", "h1", "u"] == texts(asked, said("h1"))
    assert "system" == asked.messages[0].role
    assert [to_store("user", "u")] == asked.body.said()
    assert [to_store("system", "s1")] == prompt(("system", "s1"), agents=agents, agent="poet").body.said()


def test_a_task_type_names_an_agent(agents: Agents) -> None:
    """A task type selects the agent of that name."""
    task, message = (prompt(("user", "u"), agents=agents, **{name: "poet"}) for name in ("task_type", "agent"))

    assert task.messages == message.messages
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


def test_an_agents_schema_is_given_to_a_model_that_can_be_held_to_it(agents: Agents) -> None:
    """A model with structured output gets the schema as its format too, unless the request has one of its own."""
    own = {"type": "json_object"}

    def sent(model: ModelInfo | None, **body: object) -> Any:
        asked = prompt(("user", "u"), model=model, agents=agents, **body)
        return generation(claimed(), asked, []).response_format

    whole = {"type": "json_schema", "json_schema": {"name": "form", "schema": {"type": "object"}}}
    assert whole == sent(HELD, agent="form")
    assert [None, None, None] == [sent(MODEL, agent="form"), sent(None, agent="form"), sent(HELD, agent="poet")]
    assert own == sent(HELD, agent="form", response_format=own) == sent(MODEL, response_format=own)


def test_options_reach_the_model() -> None:
    """What the model may and must do reaches it unchanged."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    options = {
        "tools": [tool], "tool_choice": "required", "parallel_tool_calls": False, "seed": 7, "user": "u-17",
        "reasoning": "include", "reasoning_effort": "low", "frequency_penalty": 0.5, "presence_penalty": -0.5,
        "response_format": {"type": "json_object"},
    }  # fmt: skip

    sent = generation(claimed(), prompt(("user", "x"), **options), []).model_dump(exclude_none=True)

    assert options == {name: sent[name] for name in options}


def test_a_request_for_text_is_sent_as_before() -> None:
    """The body for the LLM service has no field that release 0.1.0 does not know."""
    turn = claimed(body={"messages": [{"role": "user", "content": "x"}], "temperature": 0.5, "context": "given"})

    sent = generation(turn, prepare(turn, MODEL, NO_AGENTS), []).model_dump_json(exclude_none=True)

    message = '[{"role":"user","content":"x"}]'
    assert f'{{"temperature":0.5,"model":"llama3","messages":{message},"stream":true}}' == sent


def calls(*ids: str) -> ChatMessage:
    """An answer that calls tools."""
    wanted = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    return ChatMessage.model_validate({"role": "assistant", "tool_calls": wanted})


def result(id: str, content: str = "done") -> ChatMessage:
    """The result of a call."""
    return ChatMessage(role="tool", tool_call_id=id, content=content)


USER = ChatMessage(role="user", content="u")
GIVEN: dict[str, Any] = {"context": "given"}


def with_tools(*messages: ChatMessage, history: list[ChatMessage] | None = None, **more: Any) -> list[ChatMessage]:
    """The prompt of a turn with these messages."""
    body = {"messages": [each.model_dump(exclude_none=True) for each in messages], **more}
    turn = claimed(body=body, has_history=bool(history))
    return generation(turn, prepare(turn, None, NO_AGENTS), history).messages


def test_results_meet_their_calls_in_the_history() -> None:
    """The results of a stored answer's calls come right behind it, in any order, and the new message after them."""
    history = [USER, calls("a", "b")]

    assert [*history, result("b"), result("a"), USER] == with_tools(result("b"), result("a"), USER, history=history)


def test_a_conversation_that_goes_on_without_results_says_so() -> None:
    """Each call that was never answered gets a result that says so, stored or brought along."""
    unanswered = [USER, calls("a", "b"), USER]
    told = [*unanswered[:2], result("a", NOT_EXECUTED), result("b", NOT_EXECUTED), USER]

    assert told == with_tools(USER, history=unanswered[:2])
    assert told == with_tools(*unanswered, **GIVEN)


@pytest.mark.parametrize(
    "messages",
    [
        [result("a")],
        [USER, calls("a", "b"), result("a")],
        [USER, calls("a"), result("a"), result("a")],
        [USER, calls("a"), result("b")],
        [USER, calls("a"), USER, result("a")],
        [USER, calls("a"), result("a"), result("b"), USER],
        [USER, ChatMessage(role="assistant", content="x"), result("a")],
    ],
)
def test_results_that_do_not_match_their_calls_are_refused(messages: list[ChatMessage]) -> None:
    """Some results but not all, or a result without its call: the request fails by name."""
    with pytest.raises(OrchestraError) as refused:
        with_tools(*messages, **GIVEN)

    assert ErrorCode.TOOL_RESULTS_MISSING is refused.value.code


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([USER, calls("a", "b", "c"), result("a")], "2 of 3 tool calls have no tool message"),
        ([USER, calls("a"), result("b")], "a tool message answers no call of the message before it"),
        ([USER, calls("a"), result("a"), result("a")], "or a call that another one answers"),
        ([USER, calls("a"), result("a"), ChatMessage(role="assistant", content="x"), result("a")], "answered already"),
    ],
)
def test_a_refusal_of_results_says_what_is_wrong_with_them(messages: list[ChatMessage], why: str) -> None:
    """A caller can tell a missing result from one that was sent before, or belongs to no call."""
    with pytest.raises(OrchestraError) as refused:
        with_tools(*messages, **GIVEN)

    assert why in refused.value.detail


def test_tools_and_schemas_take_their_part_of_the_context() -> None:
    """A request is too long if its messages fit, but not together with the tools that are offered."""
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 100 * BYTES_A_TOKEN}}

    with pytest.raises(OrchestraError) as refused:
        prompt(("user", "hi"), tools=[tool])

    assert ErrorCode.CONTEXT_TOO_LONG is refused.value.code


def test_what_was_deleted_since_fails_no_later_request() -> None:
    """Stored results whose call is gone are left out, and stored calls whose results are gone are not executed."""
    history = [USER, result("gone"), USER, calls("a", "b"), result("a"), result("gone too"), calls("c")]

    told = [USER, USER, calls("a", "b"), result("a"), result("b", NOT_EXECUTED), calls("c"), result("c"), USER]
    assert told == with_tools(result("c"), USER, history=history)


def test_a_result_whose_call_does_not_fit_is_too_long() -> None:
    """A result is never sent without its call: a history without room for that, a branch's too, makes it too long."""
    body = {"messages": [result("a").model_dump(exclude_none=True)]}
    for own, found, code in (
        (True, [], ErrorCode.CONTEXT_TOO_LONG),
        (False, [], ErrorCode.CONTEXT_TOO_LONG),
        (False, None, ErrorCode.TOOL_RESULTS_MISSING),
    ):
        turn = claimed(body=body, has_history=own)
        with pytest.raises(OrchestraError) as refused:
            generation(turn, prepare(turn, MODEL, NO_AGENTS), found)

        assert code is refused.value.code


@given(
    st.lists(
        st.sampled_from([USER, calls("a"), calls("a", "b"), calls("c", "c"), result("a"), result("b"), result("c")])
    )
)
def test_every_prompt_has_each_call_answered_once(messages: list[ChatMessage]) -> None:
    """Whatever is stored: behind each call, and nowhere else, are its results, and other messages stay as they were."""
    messages = [message.model_copy() for message in messages]

    told = with_results(messages, history=messages)

    assert [each for each in messages if each.role != "tool"] == [each for each in told if each.role != "tool"]
    for at, message in enumerate(told):
        behind = told[at + 1 :]
        upto = next((place for place, each in enumerate(behind) if each.role != "tool"), len(behind))
        if message.role != "tool":
            ids = [call["id"] for call in message.tool_calls or ()]
            assert Counter(ids) == Counter(each.tool_call_id for each in behind[:upto])
    assert not told or told[0].role != "tool"
