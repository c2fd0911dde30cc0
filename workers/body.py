"""A turn's body as a worker runs it: what is asked, how, and what of it is stored."""

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict

from orchestra.store.endings import Said
from schemas.generation import ChatMessage, Options
from schemas.requests import Context
from workers.weights import NO_FILES, Sizes, weight


class TurnBody(Options):
    """The stored body of a request. Its other fields matter only to intake."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    messages: list[ChatMessage]
    agent: str | None = None
    task_type: str | None = None
    context: Context | None = None
    store_from: int | None = None
    asked: dict[str, Any] | None = None

    @property
    def may_be_cut(self) -> bool:
        """Whether its oldest messages may be left out if they do not fit (`truncation` of the Responses API)."""
        return self.asked is not None and self.asked.get("truncation") == "auto"

    @property
    def wants_history(self) -> bool:
        """Whether the model sees the conversation's stored messages, too."""
        match self.context:
            case "given":
                return False
            case "stored":
                return True
            case _:  # auto: a client that sends assistant turns carries its own history.
                return not any(message.role == "assistant" for message in self.messages)

    def said(self, sizes: Sizes = NO_FILES) -> Sequence[Said]:
        """The messages to store, in order. ``sizes``: the weights of the files that they name, by id.

        Only messages after the last assistant message are new. With ``store_from`` they are stored from that index on.
        Without it only the tool results and the last user message among them are. If there are none of these, the last
        user message of the whole body is stored, or else its last message.
        """
        if self.store_from is not None:
            answered = max((at for at, each in enumerate(self.messages, 1) if each.role == "assistant"), default=0)
            return [_said(message, sizes) for message in self.messages[max(answered, self.store_from) :]]
        kept: list[ChatMessage] = []
        asked = False
        for message in reversed(self.messages):
            if message.role == "assistant":
                break
            if message.role == "tool" or (message.role == "user" and not asked):
                kept.append(message)
                asked = asked or message.role == "user"
        if not kept:
            users = (message for message in reversed(self.messages) if message.role == "user")
            kept = [next(users, self.messages[-1])]
        return [_said(message, sizes) for message in reversed(kept)]


def _said(message: ChatMessage, sizes: Sizes) -> Said:
    said: Said = {"role": message.role, "content": message.text}
    if isinstance(message.content, list):
        said |= {"parts": message.content, "weight": weight(message, sizes)}
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    return said
