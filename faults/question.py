"""The text of a campaign's request, recognisable from the prompt alone, and the rule of its reply."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

FAIL = "please:fail"
SLOW = "please:slow"
TOOL = "please:tool"
IMPOSTOR = "impostor"
# The tool that questions offer which ask for its call. The result is the conversation's next question.
TOOL_NAME = "look_up"
OFFER = {"type": "function", "function": {"name": TOOL_NAME, "parameters": {"type": "object"}}}
# The result that a prompt has for a call without one.
NOT_EXECUTED = "not executed"
Said = tuple[Any, ...]
"""A message as it is hashed: role and text, then the calls in it or the id of the call that it answers, if any."""
# A question that comes as a task is answered by this agent.
TASK_TYPE = "question"
INSTRUCTIONS = "Answer the question."
_AGENT = f'description = "Questions that come as tasks."\nsystem = "{INSTRUCTIONS}"\n'
_TEXT = re.compile(r"(?P<conversation>[0-9a-f-]{36})/(?P<ordinal>\d+)/(?P<key>[^\s/]+)(?: (?P<note>\S+:\S+|impostor))?")


@dataclass(frozen=True)
class Question:
    """A user message: its conversation, its number in it as the client means it, and its key.

    ``note``: ``FAIL``, ``SLOW`` or ``TOOL`` ask the oracle for it; ``IMPOSTOR`` marks another body under an existing
    key.
    """

    conversation: UUID
    ordinal: int
    key: str
    note: str = ""

    def text(self, padding: int = 0) -> str:
        """The message, with this many characters after it."""
        words = [f"{self.conversation}/{self.ordinal}/{self.key}", self.note, "." * padding]
        return " ".join(word for word in words if word)


def read(text: str) -> Question | None:
    """The question in a message; None if the message is not one of the campaign's."""
    match = _TEXT.match(text)
    if not match:
        return None
    return Question(UUID(match["conversation"]), int(match["ordinal"]), match["key"], match["note"] or "")


def write_agent(folder: Path) -> None:
    """Make a folder for ``AGENTS_DIR`` with the agent of tasks."""
    folder.mkdir()
    (folder / f"{TASK_TYPE}.toml").write_text(_AGENT, "utf-8")


def said(message: Mapping[str, Any]) -> Said:
    """A message of OpenAI's chat API, as it is hashed."""
    calls = [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in _calls(message)]
    more = calls or message.get("tool_call_id")
    return (message["role"], message.get("content") or "", *([more] if more else ()))


def _calls(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return message.get("tool_calls") or ()


def call_id(key: str) -> str:
    """The id of the call with which the oracle answers the question of this key."""
    return f"call_{key}"


def arguments(hash: str) -> str:
    """The arguments of that call. ``hash``: of the messages before it."""
    return json.dumps({"hash": hash})


def telling(reply: str | None, output: Sequence[Mapping[str, Any]] | None) -> str:
    """All that an answer says: its text, or the arguments of its call."""
    return (reply or "") + "".join(item["arguments"] for item in output or () if item["type"] == "function_call")


def history_hash(messages: Sequence[Said]) -> str:
    """SHA-256, in hex, of messages as a JSON array, for plain ones of ``[role, content]``, UTF-8 without spaces."""
    pairs = [list(message) for message in messages]
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
