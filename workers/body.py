"""A turn's body as a worker runs it: what is asked, how, and what of it is stored."""

from collections.abc import Sequence
from typing import Any

from pydantic import ConfigDict

from orchestra.store.endings import Said
from schemas.generation import ChatMessage, Options
from schemas.requests import Context, Door
from workers.weights import NO_FILES, Sizes, weight


class TurnBody(Options):
    """The stored body of a request. Its other fields matter only to intake."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    messages: list[ChatMessage]
    agent: str | None = None
    task_type: str | None = None
    context: Context | None = None
    door: Door | None = None
    asked: dict[str, Any] | None = None

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
        """The messages to store, in order. ``sizes``: of the files that they name.

        Those after the last assistant message: all results of tools, and the last message of a user. If it has neither,
        the last message of a user before it, or else the last message. Of a response of OpenAI's Responses API: all
        after the last assistant message except its instructions, because a later one goes on from all of them.
        """
        if self.door == "responses":
            return [_said(message, sizes) for message in self._own]
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

    @property
    def _own(self) -> Sequence[ChatMessage]:
        """The messages after the last assistant message, without the instructions."""
        last = max((at for at, message in enumerate(self.messages, 1) if message.role == "assistant"), default=0)
        return self.messages[max(last, bool(self.asked and self.asked.get("instructions"))) :]


def _said(message: ChatMessage, sizes: Sizes) -> Said:
    said: Said = {"role": message.role, "content": message.text}
    if isinstance(message.content, list):
        said |= {"parts": message.content, "weight": weight(message, sizes)}
    if message.tool_call_id is not None:
        said["tool_call_id"] = message.tool_call_id
    return said
