"""A call in the shapes that any-llm and the APIs behind it take. What an API cannot take is refused by name."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import orjson

from llm_service.providers.base import Call, arguments_to_send
from schemas.content import Tool, is_web_url
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Options

_GOOGLE = ("gemini", "vertexai")
_TAKE_URLS = (*_GOOGLE, "mistral")
_SYSTEM = ("system", "developer")
_DATA_URL = re.compile(r"data:([^;,]+)[^,]*;base64,(.+)", re.DOTALL)
_PENALTIES = frozenset({"frequency_penalty", "presence_penalty"})
# Options that an API does not have, or that the library drops or does not know for it.
_NOT_TAKEN: Mapping[str, frozenset[str]] = {
    "anthropic": _PENALTIES | {"seed"},
    "bedrock": _PENALTIES | {"seed", "parallel_tool_calls"},
    "cohere": frozenset({"parallel_tool_calls"}),
    "gemini": frozenset({"parallel_tool_calls"}),
    "mistral": frozenset({"seed"}),
    "vertexai": frozenset({"parallel_tool_calls"}),
}
_PASSED_ON = (
    "temperature",
    "top_p",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "tool_choice",
)


def arguments_of(kind: str, call: Call) -> dict[str, Any]:
    """The arguments of the library's ``acompletion``.

    Raises ``unsupported_option`` or ``unsupported_part``. The library itself refuses some options of some models.
    """
    options = call.options
    asked: dict[str, Any] = {name: getattr(options, name) for name in _PASSED_ON}
    asked["max_tokens"] = call.max_tokens
    asked["stop"] = list(options.stop or ()) or None
    # Several calls at once are what every API does by default.
    asked["parallel_tool_calls"] = False if options.parallel_tool_calls is False else None
    for name in _NOT_TAKEN.get(kind, ()):
        if asked[name] is not None:
            raise unsupported_option(name)
    if kind == "bedrock" and options.tool_choice not in (None, "auto", "required"):
        raise unsupported_option("tool_choice")
    if options.tools:
        asked["tools"] = _google_tools(options.tools) if kind in _GOOGLE else [*options.tools]
    if options.user and kind == "anthropic":
        asked["metadata"] = {"user_id": options.user}
    return {"messages": turns(kind, call), **{name: value for name, value in asked.items() if value is not None}}


def unsupported_option(name: str) -> OrchestraError:
    """The error for an option that this provider does not have."""
    return OrchestraError(ErrorCode.UNSUPPORTED_OPTION, f"{name}: the model's provider does not support it")


def named_option(words: str) -> str:
    """The option that the library names; ``an option`` if it is not one of ours."""
    named = (name for name in Options.model_fields if re.match(rf"{name}\b", words))
    return next(named, "an option")


def turns(kind: str, call: Call) -> list[dict[str, Any]]:
    """The messages as these APIs require: system messages first, then alternating roles."""
    write = _anthropic if kind == "anthropic" else partial(_openai, kind)
    merged: list[dict[str, Any]] = []
    for message in sorted(call.messages, key=lambda message: message.role not in _SYSTEM):
        turn = write(message, call)
        last = merged[-1] if merged else {}
        if last.keys() == turn.keys() == {"role", "content"} and last["role"] == turn["role"]:
            last["content"] = _joined(last["content"], turn["content"])
        else:
            merged.append(turn)
    return merged


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content)


def _openai(kind: str, message: ChatMessage, call: Call) -> dict[str, Any]:
    """A message in OpenAI's shape, which the library translates."""
    if message.role == "user":
        for part in message.parts:
            _check_data(kind, part)
        return {"role": "user", "content": message.content}
    content = message.text or message.refusal or ""
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": content}
    written = {"role": "system" if message.role in _SYSTEM else "assistant", "content": content}
    if not message.tool_calls:
        return written
    state = call.state_of(message)
    extra = state.get("calls") or {}
    calls = [
        {
            **each,
            "function": {**each["function"], "arguments": arguments_to_send(each["function"]["arguments"])},
            **({"extra_content": extra[each["id"]]} if each["id"] in extra else {}),
        }
        for each in message.tool_calls
    ]
    more = {"extra_content": state["extra_content"]} if "extra_content" in state else {}
    return {**written, "tool_calls": calls, **more}


def _check_data(kind: str, part: Mapping[str, Any]) -> None:
    if is_web_url(part):
        if kind not in _TAKE_URLS:
            raise OrchestraError(ErrorCode.UNSUPPORTED_PART, "The model's provider takes no URLs but data: URLs.")
    elif part["type"] == "image_url":
        _data(part["image_url"]["url"])
    elif part["type"] == "file":
        _data(part["file"]["file_data"])


def _data(url: str) -> tuple[str, str]:
    """Media type and base64 of a ``data:`` URL. Raises ``unsupported_part`` if it is not in base64."""
    found = _DATA_URL.fullmatch(url)
    if not found:
        raise OrchestraError(ErrorCode.UNSUPPORTED_PART, "The model's provider takes data: URLs only in base64.")
    return found[1], found[2]


def _anthropic(message: ChatMessage, call: Call) -> dict[str, Any]:
    """A message in Anthropic's own shape: the library's translation knows one block of thinking only."""
    match message.role:
        case "user":
            parts = [_BLOCKS[part["type"]](part) for part in message.parts]
            return {"role": "user", "content": parts or message.content}
        case "tool":
            result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text}
            return {"role": "user", "content": [result]}
        case "assistant" if message.tool_calls:
            return {"role": "assistant", "content": list(_called(message, call))}
        case "assistant":
            return {"role": "assistant", "content": message.text or message.refusal or ""}
        case _:
            return {"role": "system", "content": message.text}


def _called(message: ChatMessage, call: Call) -> Iterator[dict[str, Any]]:
    yield from call.state_of(message).get("thinking") or ()
    if message.text:
        yield {"type": "text", "text": message.text}
    for each in message.tool_calls or ():
        function = each["function"]
        arguments = orjson.loads(arguments_to_send(function["arguments"]))
        yield {"type": "tool_use", "id": each["id"], "name": function["name"], "input": arguments}


def _image(part: Mapping[str, Any]) -> dict[str, Any]:
    if is_web_url(part):
        return {"type": "image", "source": {"type": "url", "url": part["image_url"]["url"]}}
    media_type, data = _data(part["image_url"]["url"])
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _document(part: Mapping[str, Any]) -> dict[str, Any]:
    title = {"title": part["file"]["filename"]} if part["file"].get("filename") else {}
    if is_web_url(part):
        return {"type": "document", "source": {"type": "url", "url": part["file"]["file_data"]}, **title}
    media_type, data = _data(part["file"]["file_data"])
    if media_type != "application/pdf":
        raise OrchestraError(ErrorCode.UNSUPPORTED_PART, "The model's provider takes only PDF files.")
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "document", "source": source, **title}


def _no_audio(_part: Mapping[str, Any]) -> dict[str, Any]:
    raise OrchestraError(ErrorCode.UNSUPPORTED_PART, "The model's provider takes no input_audio.")


_BLOCKS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "text": lambda part: {"type": "text", "text": part["text"]},
    "image_url": _image,
    "file": _document,
    "input_audio": _no_audio,
}


def _google_tools(tools: list[Tool]) -> list[dict[str, Any]]:
    """The tools in Google's own shape: the library's translation drops most of a schema's keywords."""
    declarations: list[dict[str, Any]] = []
    for tool in tools:
        function = tool["function"]
        declaration: dict[str, Any] = {"name": function["name"], "description": function.get("description") or ""}
        if parameters := function.get("parameters"):
            declaration["parameters_json_schema"] = parameters
        declarations.append(declaration)
    return [{"function_declarations": declarations}]
