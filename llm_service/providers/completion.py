"""A chat completion of an OpenAI-compatible server, streamed or whole → its content, its usage, its end.

Everything readable is read, wherever a server puts it. The rest is an error, never an empty answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from llm_service.providers.assembly import Assembly
from llm_service.providers.base import (
    MAX_TOKENS,
    Call,
    EndOfText,
    answered,
    counted,
    estimate_input,
    estimate_tokens,
    storable,
)
from llm_service.providers.error_document import is_error
from llm_service.providers.refusals import stated
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import FinishReason, Usage

_TOOLS = ("tool_calls", "function_call")
# Fields of a message that are not part of its text. Any other field may be an answer that we cannot read.
_NO_TEXT = frozenset(
    "role name reasoning reasoning_content reasoning_details thinking thinking_blocks provider_specific_fields".split()
)
_KNOWN = _NO_TEXT | {"content", "refusal", *_TOOLS}
_THOUGHTS = ("thinking", "redacted_thinking", "reasoning")
# Where servers put reasoning. Some send it under two names.
_REASONING = ("reasoning_content", "reasoning", "thinking")
_DETAILS, _EXTRA = "reasoning_details", "extra_content"
_KEPT = (*_REASONING, _DETAILS, _EXTRA)
_IN_PIECES = ("reasoning.text", "reasoning.summary")
_TOO_LONG = ("length", "max_tokens", "model_length")
_NOT_ENDED = {
    "content_filter": ErrorCode.CONTENT_FILTER,
    "safety": ErrorCode.CONTENT_FILTER,
    "sensitive": ErrorCode.CONTENT_FILTER,
    "error": ErrorCode.BAD_UPSTREAM,
    "network_error": ErrorCode.BAD_UPSTREAM,
    # vLLM's and DeepSeek's.
    "abort": ErrorCode.BAD_UPSTREAM,
    "insufficient_system_resource": ErrorCode.OVERLOADED,
}


class Completion:
    """An answer that is one text. Feed it each document; ``finish`` is why it ended, None until the server says so."""

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self._usage: dict[str, object] = {}
        self._spoken = self._tools = self._skipped = False

    @property
    def kept(self) -> dict[str, Any]:
        """What the server wants back with an answer that calls tools: nothing."""
        return {}

    def read(self, document: dict[str, Any]) -> str:
        """The text in a document, perhaps none. Raises `OrchestraError`, or ``TypeError`` and similar."""
        choices = document.get("choices")
        if document.get("error") or (choices is None and is_error(document)):
            raise stated(document)
        if "usage" in document and isinstance(usage := document["usage"], dict) and any(usage.values()):
            self._usage = usage
        if choices:
            choice = choices[0]
            if choice.get("index"):  # Of several choices the first is ours, wherever it is in the list.
                choice = next((each for each in choices if not each.get("index")), {})
            return self._choice(choice)
        return ""

    def ending(self, call: Call, text_bytes: int) -> EndOfText:
        """How the answer ended. ``text_bytes``: length of its text. Raises what `answered` raises."""
        ending = EndOfText(self._spent(call, text_bytes), self.finish or "stop")
        return answered(ending, text=text_bytes > 0, tools=self._tools, skipped=self._skipped)

    def _spent(self, call: Call, size: int) -> Usage:
        told = self._usage
        return Usage(
            input_tokens=counted(told.get("prompt_tokens")) or estimate_input(call.messages, call.options.tools),
            output_tokens=counted(told.get("completion_tokens")) or estimate_tokens(size),
        )

    def _choice(self, choice: dict[str, Any]) -> str:
        if choice.get("finish_reason"):
            self._end(choice["finish_reason"])
        delta = choice.get("delta")
        if isinstance(delta, dict) and isinstance(content := delta.get("content"), str) and content:
            self._spoken = True
            return content
        if choice.get("error"):
            raise stated(choice["error"])
        if text := self._said(delta):
            self._spoken = True
            return text
        # Some servers put pieces into ``message``; others repeat the whole text in the last one.
        return "" if self._spoken else self._said(choice.get("message")) or self._said(choice.get("text"))

    def _end(self, reason: object) -> None:
        finish = _finish(reason)
        self.finish = "length" if self.finish == "length" else finish
        self._tools = self._tools or reason in _TOOLS

    def _said(self, message: object) -> str:
        """The text of a message. Other content is noted."""
        if message is None or isinstance(message, str):
            return message or ""
        if not isinstance(message, dict):
            raise TypeError
        if not message:
            return ""
        self._tools = self._tools or any(message.get(name) for name in _TOOLS)
        self._skipped = self._skipped or any(message[name] for name in message.keys() - _KNOWN)
        return self._text(message.get("content")) or self._text(message.get("refusal"))

    def _text(self, content: object) -> str:
        """A text, or the texts among the parts of a content. Reasoning is not part of the answer."""
        if content is None or isinstance(content, str):
            return content or ""
        if not isinstance(content, list):
            raise TypeError
        return "".join([self._part(part) for part in content])

    def _part(self, part: object) -> str:
        if isinstance(part, str):
            return part
        if not isinstance(part, dict):
            raise TypeError
        kind = part.get("type")
        text = "" if kind in _THOUGHTS else part.get("text") or part.get("refusal")
        if isinstance(text, str):
            return text
        self._skipped = True
        return ""


class ItemCompletion(Completion):
    """An answer of any items. They go to ``assembly``, and `read` returns nothing."""

    def __init__(self, assembly: Assembly) -> None:
        super().__init__()
        self._assembly = assembly
        self._reasoning: dict[str, list[str]] = {}
        self._details = _Details()
        self._extra: dict[str, Any] = {}
        self._extra_of_calls: dict[str, Any] = {}

    @property
    def kept(self) -> dict[str, Any]:
        """What the server wants back with an answer that calls tools, as `with_state` takes it."""
        details = self._details.items
        reasoning = {} if details else {name: storable("".join(texts)) for name, texts in self._reasoning.items()}
        kept = {**reasoning, _DETAILS: details, _EXTRA: self._extra, "calls": self._extra_of_calls}
        return {name: value for name, value in kept.items() if value}

    def ending(self, call: Call, text_bytes: int) -> EndOfText:
        """How the answer ended. Raises what `answered` raises."""
        finish = self.finish or "stop"
        if self._assembly.has_calls and finish == "stop":
            finish = "tool_calls"
        usage = self._spent(call, text_bytes).model_copy(update=usage_details(self._usage))
        return answered(EndOfText(usage, finish), text=self._assembly.answered, skipped=self._skipped)

    def _choice(self, choice: dict[str, Any]) -> str:
        if choice.get("finish_reason"):
            self._end(choice["finish_reason"])
        if choice.get("error"):
            raise stated(choice["error"])
        if self._heard(choice.get("delta"), whole=False):
            self._spoken = True
        elif not self._spoken and not self._heard(choice.get("message"), whole=True):
            self._assembly.say("text", self._said(choice.get("text")))
        return ""

    def _heard(self, message: object, *, whole: bool) -> bool:
        """Whether there is anything in a message, ``whole`` or a piece of one."""
        if message is None or isinstance(message, str):
            self._assembly.say("text", message or "")
            return bool(message)
        if not isinstance(message, dict):
            raise TypeError
        before = self._assembly.size
        self._reason(message)
        self._content(message.get("content"))
        self._assembly.say("refusal", self._text(message.get("refusal")))
        self._call_tools(message, whole=whole)
        if isinstance(extra := message.get(_EXTRA), dict):
            self._assembly.count(len(orjson.dumps(extra)))
            self._extra |= extra
        self._skipped = self._skipped or any(message[name] for name in message.keys() - _KNOWN - {_EXTRA})
        return self._assembly.size > before

    def _reason(self, message: dict[str, Any]) -> None:
        for detail in message.get(_DETAILS) or ():
            if isinstance(detail, dict):
                self._assembly.count(len(orjson.dumps(detail)))
                self._details.add(detail)
        for name in _REASONING:
            if isinstance(text := message.get(name), str) and text:
                self._reasoning.setdefault(name, []).append(text)
                self._assembly.say("reasoning", text)
                return

    def _content(self, content: object) -> None:
        if not isinstance(content, list):
            self._assembly.say("text", self._text(content))
            return
        for part in content:
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in _THOUGHTS:
                for text in _thoughts(part):
                    self._assembly.say("reasoning", text)
            else:
                refused = kind == "refusal"
                self._assembly.say("refusal" if refused else "text", self._part(part))

    def _call_tools(self, message: dict[str, Any], *, whole: bool) -> None:
        calls = message.get("tool_calls") or ()
        for at, each in enumerate(calls):
            number = each.get("index")
            if type(number) is not int:
                number = at if whole or len(calls) > 1 else None
            id = each.get("id")
            own = self._called(number, str(id) if id else None, each.get("function") or {})
            if extra := each.get(_EXTRA):
                self._assembly.count(len(orjson.dumps(extra)))
                self._extra_of_calls[own] = extra
        if legacy := message.get("function_call"):
            self._called(None, None, legacy)

    def _called(self, number: int | None, id: str | None, function: dict[str, Any]) -> str:
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(arguments, str | None):
            arguments = orjson.dumps(arguments).decode()  # Ollama's own format.
        return self._assembly.call(number, id, str(name) if name else None, arguments or "")


def with_state(message: dict[str, Any], state: Mapping[str, Any]) -> dict[str, Any]:
    """An earlier answer as it is sent, with what the server wants back. ``state``: see `ItemCompletion.kept`."""
    extra = state["calls"] if isinstance(state.get("calls"), dict) else {}
    calls = [{**call, _EXTRA: extra[call["id"]]} if call["id"] in extra else call for call in message["tool_calls"]]
    return {**message, "tool_calls": calls, **{name: state[name] for name in _KEPT if name in state}}


def usage_details(usage: Mapping[str, object]) -> dict[str, int]:
    """The details of the usage beside the totals, as far as a server reports them. DeepSeek names one differently."""
    told = {
        "cached_tokens": _inside(usage, "prompt_tokens_details", "cached_tokens", usage.get("prompt_cache_hit_tokens")),
        "reasoning_tokens": _inside(usage, "completion_tokens_details", "reasoning_tokens"),
    }
    return {name: count for name, count in told.items() if type(count) is int and 0 <= count <= MAX_TOKENS}


def _inside(usage: Mapping[str, object], details: str, name: str, otherwise: object = None) -> object:
    inside = usage.get(details)
    told = inside.get(name) if isinstance(inside, dict) else None
    return otherwise if told is None else told


class _Details:
    """OpenRouter's list of reasoning. Texts in it come in pieces, of one type and index."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self._texts: list[dict[str, list[str]]] = []

    @property
    def items(self) -> list[dict[str, Any]]:
        """The whole items."""
        joined = ({name: storable("".join(texts)) for name, texts in each.items()} for each in self._texts)
        return [item | texts for item, texts in zip(self._items, joined, strict=True)]

    def add(self, piece: dict[str, Any]) -> None:
        """Add an item, or a piece of the last one."""
        last = self._items[-1] if self._items else {}
        if piece.get("type") not in _IN_PIECES or any(piece.get(name) != last.get(name) for name in ("type", "index")):
            self._items.append({})
            self._texts.append({})
        for name, value in piece.items():
            if name in ("text", "summary") and isinstance(value, str):
                self._texts[-1].setdefault(name, []).append(value)
            elif value is not None or name not in self._items[-1]:
                self._items[-1][name] = value


def _thoughts(part: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a part with reasoning, which Mistral nests."""
    inside = part.get("thinking") or part.get("reasoning") or part.get("text")
    for each in inside if isinstance(inside, list) else [inside]:
        text = each.get("text") if isinstance(each, dict) else each
        if isinstance(text, str):
            yield text


def _finish(reason: object) -> FinishReason:
    said = str(reason).lower()
    if said in _NOT_ENDED:
        raise OrchestraError(_NOT_ENDED[said], f"The model's provider ended the answer as {said}.")
    return "length" if said in _TOO_LONG else "stop"
