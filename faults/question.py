"""The text of a campaign's request, recognisable from the prompt alone, and the rule of its reply."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

FAIL = "please:fail"
SLOW = "please:slow"
IMPOSTOR = "impostor"
# A question that comes as a task is answered by this agent.
TASK_TYPE = "question"
INSTRUCTIONS = "Answer the question."
_AGENT = f'description = "Questions that come as tasks."\nsystem = "{INSTRUCTIONS}"\n'
_TEXT = re.compile(r"(?P<conversation>[0-9a-f-]{36})/(?P<ordinal>\d+)/(?P<key>[^\s/]+)(?: (?P<note>\S+:\S+|impostor))?")


@dataclass(frozen=True)
class Question:
    """A user message: its conversation, its number in it as the client means it, and its key.

    ``note``: ``FAIL`` or ``SLOW`` ask the oracle for it; ``IMPOSTOR`` marks another body under an existing key.
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


def history_hash(messages: Sequence[tuple[str, str]]) -> str:
    """SHA-256, in hex, of messages as a JSON array of ``[role, content]`` pairs, UTF-8 without spaces."""
    pairs = [list(message) for message in messages]
    return hashlib.sha256(json.dumps(pairs, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
