"""What the model is sent and what is stored of it: context rules, budgets, the message to store."""

from dataclasses import dataclass
from typing import Any

from orchestra.agents.answer_schema import AnswerSchema
from orchestra.agents.catalogue import Agents
from orchestra.store.claims import Claimed
from schemas.agents import Agent
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest, ModelInfo

# An estimate, because every model has its own tokenizer; 3 bytes per token is on the safe side for most texts.
BYTES_A_TOKEN = 3
_UNKNOWN_CONTEXT_TOKENS = 8192
_UNKNOWN_OUTPUT_TOKENS = 1024


@dataclass(frozen=True)
class Prompt:
    """A turn's messages, parsed once, with its agent's instructions first.

    ``history_budget``: bytes of history that fit; 0 if no history is wanted. ``output_tokens``: the requested limit,
    capped at the model's own; None leaves the choice to the LLM service. ``schema``: the schema for the answer.
    """

    messages: list[ChatMessage]
    history_budget: int
    output_tokens: int | None
    agent: Agent | None
    schema: AnswerSchema | None

    @property
    def question(self) -> tuple[str, str]:
        """Role and content of the message to store: the last one from a user, or else the last one."""
        last = next((message for message in reversed(self.messages) if message.role == "user"), self.messages[-1])
        return last.role, last.content

    def with_history(self, history: list[ChatMessage]) -> list[ChatMessage]:
        """The messages with the history inserted after the leading system messages."""
        lead = next((at for at, message in enumerate(self.messages) if message.role != "system"), len(self.messages))
        return [*self.messages[:lead], *history, *self.messages[lead:]]


def prepare(turn: Claimed, model: ModelInfo | None, agents: Agents) -> Prompt:
    """Parse a turn's body.

    Raises ``OrchestraError``: ``UNKNOWN_AGENT``, or ``CONTEXT_TOO_LONG`` if the messages alone do not fit.
    """
    body = turn.body
    name = body.get("agent") or body.get("task_type")
    agents.check(name)
    agent, schema = agents.find(name), agents.answer_schema(name)
    messages = [ChatMessage(role=m["role"], content=m["content"]) for m in body["messages"]]
    messages = [*_instructions(agent, schema), *messages]
    asked = _said(body, agent, "max_tokens")
    max_output = model.max_output_tokens if model else _UNKNOWN_OUTPUT_TOKENS
    output_tokens = min(asked, max_output) if asked else max_output
    context_tokens = model.context_tokens if model else _UNKNOWN_CONTEXT_TOKENS
    room = (context_tokens - output_tokens) * BYTES_A_TOKEN - sum(len(m.content.encode()) for m in messages)
    if room < 0 and model:
        raise OrchestraError(ErrorCode.CONTEXT_TOO_LONG)
    budget = max(room, 0) if _wants_history(body, messages) else 0
    return Prompt(messages, budget, output_tokens if asked else None, agent, schema)


def generation(turn: Claimed, prompt: Prompt, history: list[ChatMessage]) -> GenerateRequest:
    """The request body for the LLM service."""
    return GenerateRequest(
        model=turn.model,
        messages=prompt.with_history(history),
        stream=True,
        temperature=_said(turn.body, prompt.agent, "temperature"),
        top_p=_said(turn.body, prompt.agent, "top_p"),
        max_tokens=prompt.output_tokens,
        stop=_said(turn.body, prompt.agent, "stop"),
    )


def _instructions(agent: Agent | None, schema: AnswerSchema | None) -> list[ChatMessage]:
    if agent is None:
        return []
    asked = f"Answer with JSON alone, which fits this JSON Schema: {schema.text}" if schema else ""
    return [ChatMessage(role="system", content=f"{agent.system.strip()}\n\n{asked}".strip())]


def _said(body: dict[str, Any], agent: Agent | None, name: str) -> Any:
    """The request's own value, or else its agent's."""
    own = body.get(name)
    return own if own is not None or agent is None else getattr(agent, name)


def _wants_history(body: dict[str, Any], messages: list[ChatMessage]) -> bool:
    match body.get("context"):
        case "given":
            return False
        case "stored":
            return True
        case _:  # auto: a client that sends assistant turns carries its own history.
            return not any(message.role == "assistant" for message in messages)
