"""What the model sees and what is kept of it: context rules, budgets, the message to store."""

from dataclasses import dataclass
from typing import Any

from orchestra.store.claims import Claimed
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, GenerateRequest, ModelInfo

# Estimated, for every model has a tokenizer of its own; 3 bytes a token errs on the safe side for most texts.
BYTES_A_TOKEN = 3
_UNKNOWN_CONTEXT_TOKENS = 8192
_UNKNOWN_OUTPUT_TOKENS = 1024


@dataclass(frozen=True)
class Prompt:
    """A turn's messages, read once. ``history_budget``: bytes of history that fit; 0 when none is wanted."""

    messages: list[ChatMessage]
    history_budget: int
    output_tokens: int | None

    @property
    def question(self) -> tuple[str, str]:
        """Role and content of the message to store: the last from a user, else the last."""
        last = next((message for message in reversed(self.messages) if message.role == "user"), self.messages[-1])
        return last.role, last.content

    def with_history(self, history: list[ChatMessage]) -> list[ChatMessage]:
        """Leading system messages, the history, the rest."""
        lead = next((at for at, message in enumerate(self.messages) if message.role != "system"), len(self.messages))
        return [*self.messages[:lead], *history, *self.messages[lead:]]


def prepare(turn: Claimed, model: ModelInfo | None) -> Prompt:
    """Read a turn's body. Raises ``OrchestraError(CONTEXT_TOO_LONG)`` when what was sent does not fit by itself."""
    body = turn.body
    messages = [ChatMessage.model_construct(role=m["role"], content=m["content"]) for m in body["messages"]]
    asked = body.get("max_tokens")
    most_output = model.max_output_tokens if model else _UNKNOWN_OUTPUT_TOKENS
    output_tokens = min(asked, most_output) if asked else most_output
    context_tokens = model.context_tokens if model else _UNKNOWN_CONTEXT_TOKENS
    room = (context_tokens - output_tokens) * BYTES_A_TOKEN - sum(len(m.content.encode()) for m in messages)
    if room < 0 and model:
        raise OrchestraError(ErrorCode.CONTEXT_TOO_LONG)
    budget = max(room, 0) if _wants_history(body, messages) else 0
    return Prompt(messages, budget, output_tokens if asked or model else None)


def generation(turn: Claimed, prompt: Prompt, history: list[ChatMessage]) -> GenerateRequest:
    """The body for the LLM service."""
    body = turn.body
    return GenerateRequest.model_construct(
        model=turn.model,
        messages=prompt.with_history(history),
        stream=True,
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        max_tokens=prompt.output_tokens,
        stop=body.get("stop"),
    )


def _wants_history(body: dict[str, Any], messages: list[ChatMessage]) -> bool:
    match body.get("context"):
        case "given":
            return False
        case "stored":
            return True
        case _:  # auto: a client that sends assistant turns carries its own history.
            return not any(message.role == "assistant" for message in messages)
