"""Features of other APIs that are not offered yet: rejected by name, never dropped silently.

Source of the names: OpenAI's reference ("Create chat completion", "Create a model response"), Anthropic's ("Create a
message"), and the additional fields of vLLM and Ollama. Fields that change the answer are listed here; other unknown
fields are ignored and listed in ``warnings``.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from schemas.content import DialogueMessage
from schemas.errors import ErrorCode, OrchestraError

Neutral = tuple[Any, ...]
"""Neutral values of a field. ``null`` is neutral for all."""

MAX_WARNINGS = 10
_MAX_REFUSALS = 5
_NAME = re.compile(r"[A-Za-z0-9_.]{1,64}")
# Replaces all names that must not be repeated.
_OTHER = "other"
_ROLES = frozenset({"function"})

_NOT_YET: dict[str, Neutral] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "format": ("", {"type": "text"}),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "generationConfig": ({},),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "json_schema": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "max_new_tokens": (),
    "max_output_tokens": (),
    "min_p": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "num_predict": (),
    "options": ({},),
    "previous_response_id": (),
    "repeat_penalty": (1,),
    "repetition_penalty": (1,),
    "stop_sequences": ([],),
    "suffix": ("",),
    "text": ({"format": {"type": "text"}},),
    "think": (False,),
    "thinking": ({"type": "disabled"},),
    "top_k": (),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
_NOT_YET_IN_MESSAGES: dict[str, Neutral] = {
    "audio": (),
    "function_call": (),
    "images": ([],),
}
# Fields whose feature exists here under another name.
_ELSEWHERE = {
    "history": "send it in messages",
    "input": "send it in messages",
    "instructions": "send it in messages, with the role system",
    "prompt": "send it in messages",
    "system": "send it in messages, with the role system",
    "task_type": "name an agent in agent, or use POST /v1/tasks",
}
# Fields with fields of their own.
_NESTED = frozenset({"response_format", "tool_choice", "tools"})
_NESTED_IN_MESSAGES = frozenset({"content", "tool_calls"})
_NEUTRAL: dict[str, Neutral] = {**_NOT_YET, **dict.fromkeys(_ELSEWHERE, ("", []))}


def refuse_unsupported(body: Any) -> None:
    """Check a body of ``POST /v1/messages``, valid or not, for unsupported fields.

    Raises ``OrchestraError(NOT_SUPPORTED)`` with the names of at most five of them.
    """
    refusals = [f"{name}: {reason}" for name, reason in _refusals(body)]
    if refusals:
        more = f"; and {len(refusals) - _MAX_REFUSALS} more" if len(refusals) > _MAX_REFUSALS else ""
        raise OrchestraError(ErrorCode.NOT_SUPPORTED, "; ".join(refusals[:_MAX_REFUSALS]) + more)


def ignored_fields(
    body: Mapping[str, Any], known: Collection[str], read: object, messages: str = "messages"
) -> list[str]:
    """The names of a valid body's fields that had no effect, for ``warnings``.

    ``known``: names of the body's own fields. ``read``: what was read of it. ``messages``: name of its list of
    messages. Fields of messages, tools and so on are prefixed with the names of what they are in. Names that are longer
    than 64 characters, or have characters other than letters, digits, dots and underscores, become one ``other``: the
    input is not repeated.
    """
    names = [name for name, value in body.items() if name not in known and not _neutral(name, value, _NEUTRAL)]
    for name in _NESTED & body.keys():
        names += _dropped(name, body[name], getattr(read, name, None))
    for message, kept in zip(body.get(messages) or (), getattr(read, messages, None) or (), strict=True):
        names += [
            f"{messages}.{name}"
            for name, value in message.items()
            if name not in DialogueMessage.model_fields and not _neutral(name, value, _NOT_YET_IN_MESSAGES)
        ]
        for name in _NESTED_IN_MESSAGES & message.keys():
            names += _dropped(f"{messages}.{name}", message[name], getattr(kept, name))
    plain = (name if _NAME.fullmatch(name) else _OTHER for name in names)
    return list(dict.fromkeys(plain))[:MAX_WARNINGS]


def _dropped(place: str, sent: Any, kept: Any) -> Iterator[str]:
    """The places of fields that were sent and are not among what was kept."""
    if sent is kept:
        return
    if isinstance(sent, dict) and isinstance(kept, dict):
        for name, value in sent.items():
            if name in kept:
                yield from _dropped(f"{place}.{name}", value, kept[name])
            elif value is not None:
                yield f"{place}.{name}"
    elif isinstance(sent, list) and isinstance(kept, list):
        for each, kept_of_it in zip(sent, kept, strict=True):
            yield from _dropped(place, each, kept_of_it)


def _refusals(body: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(body, dict):
        return
    for name, value in body.items():
        if name in _NEUTRAL and not _neutral(name, value, _NEUTRAL):
            yield name, _ELSEWHERE.get(name, "not supported yet")
    messages = body.get("messages")
    for place, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict):
            yield from ((f"messages.{place}.{name}", reason) for name, reason in _refusals_in(message))


def _refusals_in(message: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(role := message.get("role"), str) and role in _ROLES:
        yield "role", f"{role} is not supported yet"
    for name, value in message.items():
        if name in _NOT_YET_IN_MESSAGES and not _neutral(name, value, _NOT_YET_IN_MESSAGES):
            yield name, "not supported yet"


def _neutral(name: str, value: Any, table: Mapping[str, Neutral]) -> bool:
    return value is None or value in table.get(name, ())
