"""The text of a campaign's request, recognisable from the prompt alone, and the rule of its reply."""

import base64
import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

FAIL = "please:fail"
SLOW = "please:slow"
TOOL = "please:tool"
# With a document that is uploaded before, and with an image that makes the body larger than a record.
FILE = "please:file"
LARGE = "please:large"
IMPOSTOR = "impostor"
# The tool that questions offer which ask for its call. The result is the conversation's next question.
TOOL_NAME = "look_up"
OFFER = {"type": "function", "function": {"name": TOOL_NAME, "parameters": {"type": "object"}}}
# The result that a prompt has for a call without one.
NOT_EXECUTED = "not executed"
Said = tuple[Any, ...]
"""A message as it is hashed: role and text, then the calls in it, the id of the call that it answers, or the digests of
its media, if any."""
# A question that comes as a task is answered by this agent.
TASK_TYPE = "question"
INSTRUCTIONS = "Answer the question."
# As a record it exceeds 2 MiB.
_IMAGE_BYTES = 1_700_000
_DOCUMENT_BYTES = 100_000
_AGENT = f'description = "Questions that come as tasks."\nsystem = "{INSTRUCTIONS}"\n'
_TEXT = re.compile(r"(?P<conversation>[0-9a-f-]{36})/(?P<ordinal>\d+)/(?P<key>[^\s/]+)(?: (?P<note>\S+:\S+|impostor))?")


@dataclass(frozen=True)
class Question:
    """A user message: its conversation, its number in it as the client means it, and its key.

    ``note``: ``FAIL``, ``SLOW`` or ``TOOL`` ask the oracle for it; ``FILE`` and ``LARGE`` have media; ``IMPOSTOR``
    marks another body under an existing key.
    """

    conversation: UUID
    ordinal: int
    key: str
    note: str = ""

    def text(self, padding: int = 0) -> str:
        """The message, with this many characters after it."""
        words = [f"{self.conversation}/{self.ordinal}/{self.key}", self.note, "." * padding]
        return " ".join(word for word in words if word)


def document(key: str) -> bytes:
    """The file that a question with this key names."""
    return b"%PDF-1.7\n" + random.Random(key).randbytes(_DOCUMENT_BYTES)


def data_url(key: str, note: str) -> str:
    """The data of the media of a question, as the model gets it."""
    kind = "application/pdf" if note == FILE else "image/png"
    data = document(key) if note == FILE else random.Random(key).randbytes(_IMAGE_BYTES)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


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
    """A message of OpenAI's chat API, as it is hashed. Media that it only names count as those of its question."""
    content = message.get("content") or ""
    parts = content if isinstance(content, list) else ()
    text = "".join(part["text"] for part in parts if part["type"] == "text") if parts else content
    calls = [[call["id"], call["function"]["name"], call["function"]["arguments"]] for call in _calls(message)]
    more = calls or message.get("tool_call_id") or digests(text, parts)
    return (message["role"], text, *([more] if more else ()))


def digests(text: str, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hashes of the data in the parts of a message with this text."""
    found = []
    for part in parts:
        if part["type"] != "text":
            media = part[part["type"]]
            data = media.get("url") or media.get("file_data")
            found.append(_digest(data) if data else _expected(text))
    return found


def _digest(data: str) -> str:
    return hashlib.sha256(data.encode()).hexdigest()


@lru_cache(100_000)
def _expected(text: str) -> str:
    question = read(text)
    return _digest(data_url(question.key, question.note)) if question else ""


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
