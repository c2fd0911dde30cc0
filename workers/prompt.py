"""What the model is sent: context rules, budgets, results of tool calls, the agent's options."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from orchestra.agents.answer_schema import AnswerSchema
from orchestra.agents.catalogue import Agents
from orchestra.store.claims import Claimed
from schemas.agents import Agent
from schemas.content import file_ids_in
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest, ModelInfo, Sampling
from workers.body import TurnBody
from workers.weights import BYTES_A_TOKEN, NO_FILES, Sizes, weight, weight_of_options

_UNKNOWN_CONTEXT_TOKENS = 8192
_UNKNOWN_OUTPUT_TOKENS = 1024
_INSTRUCTIONS = ("system", "developer")
# What the model reads as the result of a call when the conversation went on without one.
NOT_EXECUTED = "not executed"


@dataclass(frozen=True)
class Prompt:
    """A turn's body, parsed once, with the options of its agent, and its messages with the agent's instructions first.

    ``history_budget``: bytes of history that fit; 0 if no history is wanted. ``output_tokens``: the requested limit,
    capped at the model's own; None leaves the choice to the LLM service. ``schema``: the schema for the answer.
    ``sizes``: what the files that the messages name count, once they are known; None if they name none.
    """

    body: TurnBody
    messages: list[ChatMessage]
    history_budget: int
    output_tokens: int | None
    schema: AnswerSchema | None
    sizes: Sizes | None

    @property
    def lead(self) -> int:
        """How many of the messages are leading instructions. The history comes behind them."""
        return _lead(self.messages)

    @property
    def answers_a_call(self) -> bool:
        """Whether it begins with the result of a tool call. The call itself must then be in the history."""
        rest = self.messages[self.lead :]
        return bool(rest) and rest[0].role == "tool"


def prepare(turn: Claimed, model: ModelInfo | None, agents: Agents, sizes: Sizes = NO_FILES) -> Prompt:
    """Parse a turn's body. ``sizes``: of the files that its messages name.

    If the messages alone do not fit, the oldest are left out, where the request allows it.
    Raises ``OrchestraError``: ``UNKNOWN_AGENT``, or ``CONTEXT_TOO_LONG`` if what must not be left out does not fit.
    """
    body = TurnBody.model_validate(turn.body)
    name = body.agent or body.task_type
    agents.check(name)
    agent, schema = agents.find(name), agents.answer_schema(name)
    messages = body.messages
    if agent:
        body = body.model_copy(update=_options(agent, body, model))
        messages = [_instructions(agent, schema), *messages]
    asked = body.max_tokens
    max_output = model.max_output_tokens if model else _UNKNOWN_OUTPUT_TOKENS
    output_tokens = min(asked, max_output) if asked else max_output
    context_tokens = model.context_tokens if model else _UNKNOWN_CONTEXT_TOKENS
    used = sum(map(weight, messages, repeat(sizes))) + weight_of_options(body)
    room = (context_tokens - output_tokens) * BYTES_A_TOKEN - used
    if room < 0 and model:
        if not body.may_be_cut:
            raise OrchestraError(ErrorCode.CONTEXT_TOO_LONG)
        messages = _without_oldest(messages, -room, sizes)
    budget = max(room, 0) if body.wants_history else 0
    named = sizes if file_ids_in(body.messages) else None
    return Prompt(body, messages, budget, output_tokens if asked else None, schema, named)


def generation(turn: Claimed, prompt: Prompt, history: Sequence[ChatMessage] | None) -> GenerateRequest:
    """The request body for the LLM service. ``history``: what fits of it; None if there is none.

    Raises ``OrchestraError``: ``TOOL_RESULTS_MISSING``, or ``CONTEXT_TOO_LONG`` if the call that a result belongs to
    does not fit.
    """
    messages = prompt.messages
    if history:
        messages = [*messages[: prompt.lead], *history, *messages[prompt.lead :]]
    elif (turn.has_history or history is not None) and prompt.body.wants_history and prompt.answers_a_call:
        raise OrchestraError(ErrorCode.CONTEXT_TOO_LONG)
    return GenerateRequest(
        **{
            **vars(prompt.body),
            "model": turn.model,
            "messages": with_results(messages, history or ()),
            "stream": True,
            "max_tokens": prompt.output_tokens,
        }
    )


def _lead(messages: Sequence[ChatMessage]) -> int:
    roles = enumerate(message.role for message in messages)
    return next((at for at, role in roles if role not in _INSTRUCTIONS), len(messages))


def _without_oldest(messages: Sequence[ChatMessage], excess: int, sizes: Sizes) -> list[ChatMessage]:
    """The messages without the oldest that weigh at least ``excess`` bytes. Results go with the call before them.

    Leading instructions and the last message stay. Raises ``OrchestraError(CONTEXT_TOO_LONG)`` if these do not fit.
    """
    lead = kept = _lead(messages)
    while excess > 0:
        begin, kept = kept, kept + 1
        while kept < len(messages) and messages[kept].role == "tool":
            kept += 1
        if kept >= len(messages):
            raise OrchestraError(ErrorCode.CONTEXT_TOO_LONG)
        excess -= sum(weight(message, sizes) for message in messages[begin:kept])
    return [*messages[:lead], *messages[kept:]]


def with_results(messages: list[ChatMessage], history: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages with one result right behind each tool call.

    If a message with calls has no results at all, each call gets the result ``NOT_EXECUTED``. ``history``: those of the
    messages that come from earlier requests. Some of their calls or results may have been deleted since. Then a result
    without its call is left out, and a call without its result gets ``NOT_EXECUTED``.
    Raises ``OrchestraError(TOOL_RESULTS_MISSING)`` if the request brings some results of a message but not all, or
    results without their call.
    """
    if all(message.role != "tool" and not message.tool_calls for message in messages):
        return messages
    earlier = set(map(id, history))
    return list(_with_results(messages, earlier))


def _with_results(messages: Sequence[ChatMessage], earlier: Collection[int]) -> Iterator[ChatMessage]:
    at = 0
    while at < len(messages):
        message = messages[at]
        results: list[ChatMessage] = []
        at += message.role != "tool"
        while at < len(messages) and messages[at].role == "tool":
            results.append(messages[at])
            at += 1
        calls = [call["id"] for call in message.tool_calls or ()]
        open: Counter[str | None] = Counter(calls)
        given = Counter(result.tool_call_id for result in results)
        complete = open == given
        if results and not complete and id(results[-1]) not in earlier:
            raise OrchestraError(ErrorCode.TOOL_RESULTS_MISSING, _why(open, given))
        if message.role != "tool":
            yield message
        by_id = {result.tool_call_id: result for result in results}
        yield from results if complete else (by_id.get(call) or _not_executed(call) for call in calls)


def _why(open: Counter[str | None], given: Counter[str | None]) -> str:
    """Why these results are not those of the open calls."""
    if not open:
        return "a tool message does not come right behind the calls that it answers, or they are answered already"
    if given - open:
        return "a tool message answers no call of the message before it, or a call that another one answers"
    return f"{(open - given).total()} of {open.total()} tool calls have no tool message"


def _not_executed(call_id: str) -> ChatMessage:
    return ChatMessage.model_construct(role="tool", content=NOT_EXECUTED, tool_call_id=call_id)


def _instructions(agent: Agent, schema: AnswerSchema | None) -> ChatMessage:
    asked = f"Answer with JSON alone, which fits this JSON Schema: {schema.text}" if schema else ""
    return ChatMessage(role="system", content=f"{agent.system.strip()}\n\n{asked}".strip())


def _options(agent: Agent, body: TurnBody, model: ModelInfo | None) -> dict[str, Any]:
    """The agent's options, in the place of those that the request leaves out."""
    options = {name: getattr(agent, name) for name in Sampling.model_fields if getattr(body, name) is None}
    if agent.answer_schema is not None and body.response_format is None and model and model.structured_output:
        answer = {"name": agent.name, "schema": agent.answer_schema}
        options["response_format"] = {"type": "json_schema", "json_schema": answer}
    return options
