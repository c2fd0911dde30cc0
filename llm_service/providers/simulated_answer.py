"""What the simulated model answers: the same pieces for the same call."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from llm_service.providers.base import Call, storable
from llm_service.providers.smallest_json import smallest
from orchestra.transcript import Piece
from schemas.content import Tool
from schemas.generation import ChatMessage

_WORDS = re.compile(r"\S+\s*|\s+")
_ASKED = re.compile(r"\bcall ([a-zA-Z0-9_-]{1,64})")
# How many words it reasons if a caller wants to see some.
_REASONING_WORDS = 3
_ARGUMENTS_PIECE = 8


def conversation_hash(messages: Sequence[ChatMessage]) -> str:
    """SHA-256, in hex, of the messages as a JSON array, UTF-8 without spaces and with sorted keys.

    A message is ``[role, text]``. One that is not a text alone has a third element: its calls, each as
    ``[id, name, arguments]``, or the id of the call that it is the result of, or its parts, or its refusal.
    """
    return hashlib.sha256(orjson.dumps([*map(_hashed, messages)], option=orjson.OPT_SORT_KEYS)).hexdigest()


def _hashed(message: ChatMessage) -> list[Any]:
    if message.plain:
        return [message.role, message.content]
    calls = [[call["id"], *_function(call)] for call in message.tool_calls or ()]
    return [message.role, message.text, calls or message.tool_call_id or message.parts or message.refusal]


def _function(call: Any) -> tuple[str, str]:
    return call["function"]["name"], call["function"]["arguments"]


def answer(call: Call, *, words: int | None, hashed: bool, reasoning: int | None) -> Iterator[Piece]:
    """The pieces of its answer.

    ``words``: that many in place of the echo; ``hashed``: `conversation_hash` in its place; ``reasoning``: this many
    words of it, by default none unless the caller wants to see it.
    """
    if reasoning is None:
        reasoning = 0 if call.options.reasoning is None else _REASONING_WORDS
    for word in _numbered("thought", reasoning):
        yield Piece("reasoning", word)
    called = [] if call.text_only else _due(call)
    for index, tool in enumerate(called):
        yield Piece("tool_call", "", index, _call_id(call, index), tool["function"]["name"])
        for text in _in_pieces(_json(smallest(tool["function"].get("parameters") or {"type": "object"}))):
            yield Piece("tool_arguments", text, index)
    if not called:
        for word in _text(call, words=words, hashed=hashed):
            yield Piece("text", word)


def _numbered(word: str, count: int) -> Iterator[str]:
    for place in range(1, count + 1):
        yield f"{word}{place}{' ' if place < count else ''}"


def _text(call: Call, *, words: int | None, hashed: bool) -> Iterable[str]:
    form = call.options.response_format
    if form and form["type"] == "json_schema":
        return _WORDS.findall(_json(smallest(form["json_schema"]["schema"])))
    if form:
        return _WORDS.findall(_json({"echo": _said(call)}))
    if words is not None:
        return _numbered("word", words)
    if hashed:
        digest = conversation_hash(call.messages)
        return [digest[at : at + 8] for at in range(0, len(digest), 8)]
    return _WORDS.findall(storable(_results(call) or f"echo: {_said(call)}"))


def _json(value: Any) -> str:
    return storable(json.dumps(value, ensure_ascii=False))


def _said(call: Call) -> str:
    return next((message.text for message in reversed(call.messages) if message.role == "user"), "")


def _results(call: Call) -> str:
    """The results of the calls since the last message of the user, each with the name of its tool."""
    if call.messages[-1].role != "tool":
        return ""
    since = _since_the_question(call)
    names = {each["id"]: each["function"]["name"] for message in since for each in message.tool_calls or ()}
    results = [message for message in since if message.role == "tool"]
    return "\n".join(f"{names.get(each.tool_call_id or '', 'tool')}: {each.text}" for each in results)


def _since_the_question(call: Call) -> Sequence[ChatMessage]:
    asked = [at for at, message in enumerate(call.messages) if message.role == "user"]
    return call.messages[asked[-1] + 1 :] if asked else call.messages


def _due(call: Call) -> list[Tool]:
    """The tools that it calls now."""
    tools, choice = call.options.tools or [], call.options.tool_choice
    if choice == "required":
        return tools[:1]
    if isinstance(choice, dict):
        return [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    if choice == "none":
        return []
    called = {each["function"]["name"] for message in _since_the_question(call) for each in message.tool_calls or ()}
    offered = {tool["function"]["name"]: tool for tool in tools}
    asked = [name for name in dict.fromkeys(_ASKED.findall(_said(call))) if name in offered.keys() - called]
    return [offered[name] for name in (asked[:1] if call.options.parallel_tool_calls is False else asked)]


def _call_id(call: Call, index: int) -> str:
    return f"call_{hashlib.sha256(f'{conversation_hash(call.messages)} {index}'.encode()).hexdigest()[:24]}"


def _in_pieces(arguments: str) -> Iterator[str]:
    """The arguments in two pieces or more."""
    size = min(_ARGUMENTS_PIECE, -(-len(arguments) // 2))
    for at in range(0, len(arguments), size):
        yield arguments[at : at + size]
