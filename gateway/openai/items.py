"""Items of OpenAI's Responses API ↔ chat messages and answers, as records and Postgres have them.

Input is read leniently: ids and states of items are ignored, and the type of a message may be missing. Output has every
field that strict clients require.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple
from uuid import UUID

from gateway.openai.errors import DoorError
from schemas.content import Item

Items = Sequence[Mapping[str, Any]]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
_PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_ITEM_ID = re.compile(r"(?:msg|fc|fco|rs)_([0-9a-f]{32})([0-9a-f]{4})")
_STORED_ID = re.compile(r"(?:msg|fc|fco|rs)_([0-7][0-9a-f]{15})[0-9a-f]{4}")
# Places in the input of a request are numbered from here, those of its output from 0.
_INPUT = 0x8000
_ROLES = frozenset({"user", "assistant", "system", "developer"})
_DETAILS = {"original": "high"}


def refusal(code: str, param: str | None, detail: str) -> DoorError:
    """The error about a parameter of a call."""
    return DoorError(code, f"{param}: {detail}" if param else detail, param=param)


def item_id(kind: str, request_id: UUID, index: int) -> str:
    """The id of an item of a request's output: the same at any gateway, at any time, and it names its request."""
    return f"{_PREFIXES[kind]}_{request_id.hex}{index:04x}"


def input_item_id(kind: str, request_id: UUID, index: int) -> str:
    """The id of an item of a request's input."""
    return item_id(kind, request_id, _INPUT + index)


def stored_item_id(kind: str, message_id: int, index: int) -> str:
    """The id of an item of a conversation that is no answer: it names its message."""
    return f"{_PREFIXES[kind]}_{message_id:016x}{index:04x}"


def read_stored_item_id(text: str) -> int | None:
    """The id of the message that an item's id names; None if it is not of this form."""
    match = _STORED_ID.fullmatch(text)
    return int(match[1], 16) if match else None


class Place(NamedTuple):
    """Where an item is: in the input or the output of a request."""

    request_id: UUID
    at: int
    of_input: bool


def read_item_id(text: str) -> Place | None:
    """The place that an item's id names; None if it is not one of ours."""
    if not (match := _ITEM_ID.fullmatch(text)):
        return None
    index = int(match[2], 16)
    return Place(UUID(match[1]), index & ~_INPUT, index >= _INPUT)


class Translated(NamedTuple):
    """A chat message, and the index of the first input item that it comes from."""

    message: dict[str, Any]
    at: int


def references(items: Sequence[Any]) -> list[str]:
    """The ids that items of the type ``item_reference`` name."""
    named = [each["id"] for each in items if _type_of(each) == "item_reference" and isinstance(each.get("id"), str)]
    return list(dict.fromkeys(named))


def messages_of(items: Sequence[Any], named: Mapping[str, Mapping[str, Any]], field: str = "input") -> list[Translated]:
    """The chat messages of a list of input items.

    Calls that follow one another become one message, with the text before them. Reasoning is left out. ``named``: what
    references name. ``field``: where the items are, for errors. Raises ``DoorError``.
    """
    found: list[Translated] = []
    for at, given in enumerate(items):
        item, place = given, f"{field}[{at}]"
        if _type_of(given) == "item_reference":
            item = named.get(str(given.get("id")))
            if item is None:
                raise refusal("invalid_value", f"{place}.id", "no stored item has this id")
        match _type_of(item):
            case "message":
                _add(found, _message(item, place), at)
            case "function_call":
                _add(found, {"role": "assistant", "tool_calls": [_call(item, place)]}, at)
            case "function_call_output":
                found.append(Translated(_result(item, place), at))
            case "reasoning":
                continue
            case _:
                raise refusal("unsupported_value", f"{place}.type", "items of this type are not offered")
    return found


def _add(found: list[Translated], message: dict[str, Any], at: int) -> None:
    """Append a message. One of the assistant joins the one before it if either calls tools."""
    last = found[-1].message if found else {}
    calls = message.get("tool_calls")
    if message["role"] == "assistant" == last.get("role") and (calls or last.get("tool_calls")):
        if calls:
            last["tool_calls"] = [*last.get("tool_calls", ()), *calls]
        if said := _parts(last) + _parts(message):
            last["content"] = said[0]["text"] if len(said) == 1 else said
        if message.get("refusal"):
            last["refusal"] = last.get("refusal", "") + message["refusal"]
        return
    found.append(Translated(message, at))


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return list(content or ())


def _type_of(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return None
    kind = item.get("type")
    return "message" if kind is None and "role" in item else kind


def _message(item: Mapping[str, Any], place: str) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role not in _ROLES:
        raise refusal("invalid_value", f"{place}.role", "must be user, assistant, system or developer")
    if isinstance(content, str):
        return {"role": role, "content": content}
    if not isinstance(content, Sequence) or not content:
        raise refusal("invalid_type", f"{place}.content", "must be a text or a list of parts")
    refusals = [part["refusal"] for part in content if _type_of(part) == "refusal" and isinstance(part["refusal"], str)]
    parts = [
        _part(part, f"{place}.content[{at}]")
        for at, part in enumerate(content)
        if not (refusals and _type_of(part) == "refusal")
    ]
    message: dict[str, Any] = {"role": role}
    if parts:
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        message["content"] = parts[0]["text"] if plain else parts
    if refusals:
        message["refusal"] = "".join(refusals)
    return message


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", **source}:
            given = source.get("detail")
            detail = {} if given in (None, "auto") else {"detail": _DETAILS.get(given, given)}
            return {
                "type": "image_url",
                "image_url": _source(source, {"image_url": "url", "file_id": "file_id"}) | detail,
            }
        case {"type": "input_file", "file_url": str()}:
            raise refusal("unsupported_value", f"{place}.file_url", "files are not fetched; send file_data or file_id")
        case {"type": "input_file", **source}:
            names = {name: name for name in ("file_id", "file_data")}
            file = _source(source, names)
            return {
                "type": "file",
                "file": file | _source(source, {"filename": "filename"} if "file_data" in file else {}),
            }
        case {"type": "input_audio", "input_audio": audio}:
            return {"type": "input_audio", "input_audio": audio}
        case {"type": "input_text" | "output_text" | "text"}:
            raise refusal("missing_required_parameter", f"{place}.text", "must be a text")
    raise refusal("unsupported_value", f"{place}.type", "parts of this type are not offered")


def _source(source: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: source[theirs] for theirs, ours in names.items() if source.get(theirs) is not None}


def _call(item: Mapping[str, Any], place: str) -> dict[str, Any]:
    for name in ("call_id", "name", "arguments"):
        if not isinstance(item.get(name), str):
            raise refusal("missing_required_parameter", f"{place}.{name}", "must be a text")
    function = {"name": item["name"], "arguments": item["arguments"]}
    return {"id": item["call_id"], "type": "function", "function": function}


def _result(item: Mapping[str, Any], place: str) -> dict[str, Any]:
    call_id, output = item.get("call_id"), item.get("output")
    if not isinstance(call_id, str):
        raise refusal("missing_required_parameter", f"{place}.call_id", "must be the id of the call that it answers")
    if isinstance(output, Sequence) and not isinstance(output, str):
        output = [_part(part, f"{place}.output[{at}]") for at, part in enumerate(output)]
        if any(part["type"] != "text" for part in output):
            raise refusal("unsupported_value", f"{place}.output", "only texts are offered in the output of a function")
        output = output or ""
    elif not isinstance(output, str):
        raise refusal("missing_required_parameter", f"{place}.output", "must be a text or a list of parts")
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def input_items(messages: Items, request_id: UUID) -> list[dict[str, Any]]:
    """The input items that chat messages of a request came from, in order, each with its id."""
    bare = [item for message in messages for item in items_of_message(message)]
    return [{"id": input_item_id(item["type"], request_id, at), **item} for at, item in enumerate(bare)]


def items_of_message(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The items of one chat message, without ids."""
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else [_shown_part(part, role) for part in content or ()]
        call_id = message["tool_call_id"]
        yield {"type": "function_call_output", "call_id": call_id, "output": output, "status": "completed"}
        return
    parts = [_shown_part(part, role) for part in _parts(message)]
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts:
        yield {"type": "message", "role": role, "status": "completed", "content": parts}
    for call in message.get("tool_calls") or ():
        yield {
            "type": "function_call", "call_id": call["id"], "name": call["function"]["name"],
            "arguments": call["function"]["arguments"], "status": "completed",
        }  # fmt: skip


def _shown_part(part: Mapping[str, Any], role: str) -> dict[str, Any]:
    match part:
        case {"type": "text", "text": text}:
            return output_text(text) if role == "assistant" else {"type": "input_text", "text": text}
        case {"type": "image_url", "image_url": image}:
            source = {"image_url": image.get("url"), "file_id": image.get("file_id")}
            return {"type": "input_image", "detail": image.get("detail") or "auto", **source}
        case {"type": "file", "file": file}:
            return {"type": "input_file", **file}
    return dict(part)


def output_text(text: str) -> dict[str, Any]:
    """A part of a message with this text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def output_item(item: Mapping[str, Any], id: str, status: ItemStatus = "completed") -> dict[str, Any]:
    """An item of a stored answer, as clients get it."""
    match item["type"]:
        case "message":
            parts = [part if part["type"] == "refusal" else output_text(part["text"]) for part in item["content"]]
            return {"id": id, "type": "message", "role": "assistant", "status": status, "content": parts}
        case "reasoning":
            return {"id": id, "type": "reasoning", "summary": [], "content": item["content"], "status": status}
    return {
        "id": id, "type": "function_call", "call_id": item["call_id"], "name": item["name"],
        "arguments": item["arguments"], "status": status,
    }  # fmt: skip


GONE: dict[str, Any] = {"type": "message", "role": "assistant", "content": []}
"""What is stored in the place of an item that was deleted, so that the places of the others stay."""


def output_of(reply: str, output: Sequence[Item] | None) -> Sequence[Mapping[str, Any]]:
    """The items of a stored answer, as they are stored."""
    if output is not None:
        return output
    said = [{"type": "output_text", "text": reply}]
    return [{"type": "message", "role": "assistant", "content": said}] if reply else []


def last_status(at: int, items: Sequence[Any], *, incomplete: bool) -> ItemStatus:
    """The state of an item of an answer: the last one of an incomplete answer was cut off."""
    return "incomplete" if incomplete and at == len(items) - 1 else "completed"


def output_items(
    request_id: UUID, reply: str, output: Sequence[Item] | None, *, incomplete: bool = False
) -> list[dict[str, Any]]:
    """The items of a stored answer, in order. ``incomplete``: its last one was cut off."""
    stored = output_of(reply, output)
    return [
        output_item(item, item_id(item["type"], request_id, at), last_status(at, stored, incomplete=incomplete))
        for at, item in enumerate(stored)
    ]


def answer_items(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message of the assistant that was given as items of an answer, as they are stored."""
    parts = [{"type": "output_text", "text": part["text"]} for part in _parts(message)]
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    said = [{"type": "message", "role": "assistant", "content": parts}] if parts else []
    calls = [
        {"type": "function_call", "call_id": call["id"], **call["function"]} for call in message.get("tool_calls") or ()
    ]
    return [*said, *calls]
