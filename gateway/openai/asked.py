"""The body of a call of OpenAI's Responses API → the record of an ordinary request."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from gateway.openai.bodies import refuse
from gateway.openai.calls import model_and_agent
from gateway.openai.errors import OF_RESPONSES, DoorError
from gateway.openai.items import Translated, refusal
from schemas.content import OF_A_FIELD
from schemas.envelope import parse_json
from schemas.invalid import problems_of
from schemas.openai.chat import TIERS
from schemas.openai.not_offered import refusals
from schemas.openai.responses import IGNORED, NOT_OFFERED, AskedResponse, CreateResponse
from schemas.requests import Message, MessageRequested

_KNOWN = frozenset(CreateResponse.model_fields) | IGNORED


def read_response(raw: bytes) -> CreateResponse:
    """The body of a call. Raises ``NOT_JSON`` or ``DoorError``."""
    value = parse_json(raw)
    if isinstance(value, dict):
        refuse(refusals(value, _KNOWN, NOT_OFFERED))
        value = {name: given for name, given in value.items() if name in CreateResponse.model_fields}
    body: CreateResponse = read(CreateResponse, value)
    _check(body)
    return body


def _check(body: CreateResponse) -> None:
    if body.background and body.store is False:
        raise refusal("invalid_value", "background", "a response in the background is stored; leave out `store`")
    if body.previous_response_id is not None and body.conversation is not None:
        raise refusal("invalid_value", "previous_response_id", "give either this or `conversation`")
    if body.input is None or body.input == []:
        raise refusal("missing_required_parameter", "input", "must be a text or a list of at least one item")
    if body.text and body.text.verbosity not in (None, "medium"):
        raise refusal("unsupported_value", "text.verbosity", "only `medium` is offered")


def items_in(body: CreateResponse) -> Sequence[Any]:
    """The input items of a call."""
    return [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input or ()


def record_of(
    body: CreateResponse,
    messages: Sequence[Translated],
    *,
    conversation_id: UUID,
    stored_context: bool,
    earlier: Sequence[Mapping[str, Any]] = (),
) -> MessageRequested:
    """The record of a call. ``earlier``: messages of earlier responses that come before its own.

    Raises ``DoorError``.
    """
    model, agent = model_and_agent(body.model)
    lead = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    reasoning = body.reasoning
    summary = (reasoning.summary or reasoning.generate_summary) if reasoning else None
    asked = AskedResponse(
        model=body.model if agent else None,
        instructions=True if lead else None,
        background=body.background or None,
        conversation=True if body.conversation is not None else None,
        previous_response_id=body.previous_response_id,
        truncation=body.truncation,
        tool_choice=body.tool_choice if isinstance(body.tool_choice, str) and not body.tools else None,
        parallel_tool_calls=False if body.parallel_tool_calls is False else None,
        summary=summary,
        service_tier=body.service_tier,
        user=body.user,
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
    )
    value = {
        "conversation_id": conversation_id,
        "messages": [*lead, *earlier, *(each.message for each in messages)],
        "model": model,
        "agent": agent,
        "context": "stored" if stored_context else "given",
        "priority": TIERS.get(body.service_tier or "") if body.priority is None else body.priority,
        "deadline": body.deadline,
        "metadata": body.metadata,
        "tools": [_tool(tool, f"tools[{at}]") for at, tool in enumerate(body.tools or ())],
        "tool_choice": _choice(body.tool_choice),
        "parallel_tool_calls": body.parallel_tool_calls,
        "response_format": _format(body.text.format if body.text else None),
        "user": body.user or body.safety_identifier,
        "reasoning": "include" if summary else None,
        "reasoning_effort": reasoning.effort if reasoning else None,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "max_tokens": body.max_output_tokens,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "stream": body.stream,
        "door": "responses",
        "store": body.store,
        # Later responses go on from all of the input, but not from the instructions.
        "store_from": len(lead),
        "asked": asked.model_dump(exclude_none=True),
    }
    try:
        return MessageRequested.model_validate({name: given for name, given in value.items() if given is not None})
    except ValidationError as error:
        raise _explained(error, [None] * (len(lead) + len(earlier)) + [each.at for each in messages]) from None


def validated(messages: Sequence[Translated], field: str) -> list[Message]:
    """The messages that items were translated to. ``field``: where the items are. Raises ``DoorError``."""
    found = []
    for each in messages:
        try:
            found.append(Message.model_validate(each.message))
        except ValidationError as error:
            problem = problems_of(error)[0]
            raise refusal(_code(problem["type"]), f"{field}[{each.at}]", problem["msg"]) from None
    return found


def read(model: type[Any], value: Any) -> Any:
    """Parsed JSON as its model. Raises ``DoorError``."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problem = problems_of(error)[0]
        place = [str(part) for part in problem["loc"] if isinstance(part, int) or part in _fields(model)]
        param = _spelled(place)
        match problem["type"]:
            case "missing":
                code = "missing_required_parameter"
            case "literal_error":
                code = "unsupported_value"
            case kind if kind.endswith("_type"):
                code = "invalid_type"
            case _:
                code = "invalid_value"
        raise refusal(code, param, problem["msg"]) from None


def _fields(model: type[BaseModel]) -> set[str]:
    """The names of a model's fields, and of the models in it."""
    nested = ("effort", "summary", "generate_summary", "format", "verbosity", "id")
    return {*model.model_fields, *nested}


def _explained(error: ValidationError, sources: Sequence[int | None]) -> DoorError:
    """The problem of a record in terms of the call. ``sources``: of each message, its item in the input."""
    problem = problems_of(error)[0]
    place, code, detail = problem["loc"], _code(problem["type"]), problem["msg"]
    named, more = "", ""
    if problem["type"] == OF_A_FIELD:
        named, _, detail = detail.partition(": ")
        more = f".{named}"
    match place:
        case ("messages", int(at), *_) if sources[at] is not None:
            return refusal(code, f"input[{sources[at]}]{more}", detail)
        case ("messages", int(), *_):
            return refusal(code, "instructions", detail)
        case (str(first), *rest):
            inner = [str(part) for part in rest if isinstance(part, int)][:1]
            return refusal(code, _spelled([OF_RESPONSES.get(first, first), *inner]), detail)
    return refusal(code, OF_RESPONSES.get(named, named) or None, detail)


def _code(kind: str) -> str:
    return "unsupported_value" if kind in ("unsupported_part", "union_tag_invalid") else "invalid_value"


def _spelled(place: Sequence[str]) -> str | None:
    text = "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in place)
    return text.removeprefix(".") or None


def _tool(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise refusal("unsupported_value", f"{place}.type", "only tools of the type `function` are offered")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _choice(choice: Any) -> Any:
    if isinstance(choice, Mapping):
        if choice.get("type") != "function":
            raise refusal("unsupported_value", "tool_choice.type", "only the choice of a function is offered")
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice


def _format(asked: Mapping[str, Any] | None) -> dict[str, Any] | None:
    schema: dict[str, Any]
    match asked:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", **schema}:
            names = ("name", "schema", "description", "strict")
            kept = {name: schema[name] for name in names if schema.get(name) is not None}
            return {"type": "json_schema", "json_schema": kept}
        case {"type": "json_object"}:
            return {"type": "json_object"}
    raise refusal("unsupported_value", "text.format.type", "must be text, json_object or json_schema")
