"""What the checks with OpenAI's library for Python share."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
from checks import DOOR, DOOR_2, GATEWAY, KEY, MODEL, OTHER_KEY, DifferenceError, holds, same
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

client = OpenAI(base_url=DOOR, api_key=KEY)
# The same by another gateway.
client_2 = OpenAI(base_url=DOOR_2, api_key=KEY)
# The same called by another owner.
other = OpenAI(base_url=DOOR, api_key=OTHER_KEY)
# A red pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Oslo", "Lima"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_NOTHING = {"type": "object", "properties": {}}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}
CHAT_CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": _NOTHING}}
TOOL: Any = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
CLOCK: Any = {"type": "function", "name": "clock", "parameters": _NOTHING, "strict": False}

_EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
_ANY: Any = object()


class City(BaseModel):
    """What an answer is parsed into."""

    city: str
    people: int


def asked(text: str) -> Any:
    """One message of a user."""
    return [{"role": "user", "content": text}]


def chat(text: str, **more: Any) -> Callable[[], Any]:
    """A call of chat completions, not made yet."""
    return partial(client.chat.completions.create, **{"model": MODEL, "messages": asked(text), **more})


def valid(model: type[BaseModel], value: BaseModel) -> None:
    """Hold an answer against the library's type of it, which the library itself does not do."""
    model.model_validate(value.to_dict())  # type: ignore[attr-defined]


def refused(
    call: Callable[[], Any], status: int, code: Any = _ANY, param: Any = _ANY, what: str = ""
) -> openai.APIStatusError:
    """The error that a call must end with, in OpenAI's shape."""
    try:
        got = call()
    except openai.APIStatusError as error:
        same(status, error.status_code, f"{what} status ({error})".strip())
        holds(code is _ANY or code == error.code, f"{what} expected code {code!r}, got {error.code!r} ({error})")
        holds(param is _ANY or param == error.param, f"{what} expected param {param!r}, got {error.param!r} ({error})")
        holds(isinstance(error.body, dict), f"the body has no error of OpenAI's shape: {error.body!r}")
        same({"message", "type", "param", "code"}, set(error.body), "keys of the error")  # type: ignore[call-overload]
        holds(error.request_id, "the error has no x-request-id")
        return error
    raise DifferenceError(f"{what} expected status {status}, got {got!r}".strip())


def until_error(stream: Any) -> tuple[list[Any], openai.APIError]:
    """The events of a stream, and the error that it ends with."""
    events = []
    try:
        for event in stream:
            events.append(event)  # noqa: PERF402  those before the error are wanted
    except openai.APIError as error:
        return events, error
    raise DifferenceError(f"a stream ended without an error: {[event.type for event in events]}")


async def ended(door: AsyncOpenAI, id: str, status: str) -> None:
    """Wait until the request behind an answer has ended, and compare its status."""
    found: Any = {}
    for _ in range(150):
        found = await door.get(f"{GATEWAY}/v1/requests/{id}", cast_to=object)
        if found["status"] in ("completed", "failed", "cancelled"):
            break
        await asyncio.sleep(0.1)
    same(status, found["status"], f"GET /v1/requests/{id}")


def grammar(events: list[Any]) -> list[str]:
    """Check the order that every stream of responses has; returns the types of the events."""
    for event in events:
        _EVENTS.validate_python(event.to_dict())
    numbers = [event.sequence_number for event in events]
    same(list(range(numbers[0], numbers[0] + len(numbers))), numbers, "sequence numbers")
    kinds = [event.type for event in events]
    same("response.created", kinds[0])
    same([], events[0].response.output, "output at the beginning")
    added = [event for event in events if event.type == "response.output_item.added"]
    done = [event for event in events if event.type == "response.output_item.done"]
    same(list(range(len(added))), [event.output_index for event in added], "output indexes")
    same([event.item.id for event in added], [event.item.id for event in done], "ids of the items")
    holds(
        events[-1].type in ("response.completed", "response.incomplete", "response.failed"), f"it ends with {kinds[-1]}"
    )
    same(
        [event.item.to_dict() for event in done],
        [item.to_dict() for item in events[-1].response.output],
        "output of the end",
    )
    same(1, len({event.response.id for event in events if hasattr(event, "response")}), "ids of the response")
    ids = {event.item.id for event in added}
    holds(
        all(event.item_id in ids for event in events if hasattr(event, "item_id")),
        "an event names an item that was not added",
    )
    return kinds
