"""The Open Responses specification by its types: each answer and each event is held against them, extra fields too."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openresponses_types.types as spec
from checks import DOOR, KEY, check, holds, run, same
from openresponses_types import ResponseResource
from pydantic import TypeAdapter, ValidationError

# A model that calls tools without being asked in a particular way.
MODEL = "obliging"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather at a place",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}
client = httpx.Client(base_url=DOOR, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, trust_env=False)


def by_name() -> dict[str, TypeAdapter[Any]]:
    """The type of each event, by the name of the event."""
    found = {}
    for name in dir(spec):
        if name.endswith("StreamingEvent"):
            kind = getattr(spec, name).model_fields["type"].annotation
            found[next(iter(kind)).value] = TypeAdapter(getattr(spec, name))
    return found


EVENTS = by_name()


def asked(text: Any) -> list[dict[str, Any]]:
    """One message of a user."""
    return [{"type": "message", "role": "user", "content": text}]


def answered(input: Any, **more: Any) -> dict[str, Any]:
    """The answer, which has the specification's shape and is complete."""
    answer = client.post("/responses", json={"model": MODEL, "input": input, **more})
    same(200, answer.status_code, answer.text[:500])
    body: dict[str, Any] = answer.json()
    valid(body)
    same("completed", body["status"])
    holds(body["output"], "there is no output")
    return body


def valid(body: dict[str, Any]) -> None:
    """Hold a response against its type, in which the schema of a format is always null."""
    form = {**body["text"]["format"], "schema": None}
    ResponseResource.model_validate({**body, "text": {**body["text"], "format": form}})


def streamed(input: Any, **more: Any) -> list[dict[str, Any]]:
    """The events of an answer, each of which has the specification's shape."""
    text = client.post("/responses", json={"model": MODEL, "input": input, "stream": True, **more}).text
    holds(text.endswith("\n\ndata: [DONE]\n\n"), "the stream does not end with [DONE]")
    events = list(sent(text))
    wrong = []
    for event in events:
        try:
            EVENTS[event["type"]].validate_python(event)
        except ValidationError as error:
            wrong.append(f"{event['type']}: {error.errors(include_url=False, include_context=False)[:3]}")
    same([], wrong)
    same("response.completed", events[-1]["type"])
    return events


def sent(text: str) -> Iterator[dict[str, Any]]:
    """The data of each server-sent event, whose name is also its type."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
        if fields.get("data", "[DONE]") != "[DONE]":
            data = json.loads(fields["data"])
            same(data["type"], fields.get("event"), "name of the event")
            yield data


@check("text")
def _() -> None:
    answered(asked("Say hello in three words."))


@check("stream")
def _() -> None:
    events = streamed(asked("Count from 1 to 5."))
    holds(any(event["type"] == "response.output_text.delta" for event in events), "no text")


@check("system message")
def _() -> None:
    answered([{"type": "message", "role": "system", "content": "Speak like a pirate."}, *asked("Say hello.")])


@check("tool")
def _() -> None:
    body = answered(asked("How is the weather in Lima?"), tools=[TOOL])
    same(["function_call"], [item["type"] for item in body["output"]])


@check("tool, stream")
def _() -> None:
    events = streamed(asked("How is the weather in Lima?"), tools=[TOOL])
    kinds = {event["type"] for event in events}
    holds({"response.function_call_arguments.delta", "response.function_call_arguments.done"} <= kinds, f"{kinds}")
    for kind in ("response.output_item.added", "response.output_item.done"):
        same(["function_call"], [event["item"]["type"] for event in events if event["type"] == kind], kind)


@check("tool, its result, and previous_response_id")
def _() -> None:
    choice = {"type": "function", "name": "get_weather"}
    first = answered("How is the weather in Lima?", tools=[TOOL], tool_choice=choice)
    result = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "mist"}
    answered([result], tools=[TOOL], previous_response_id=first["id"])


@check("image")
def _() -> None:
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}
    answered(asked([{"type": "input_text", "text": "What is this?"}, image]))


@check("file")
def _() -> None:
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjEKJSVFT0Y="}
    answered(asked([{"type": "input_text", "text": "What is its title?"}, file]))


@check("several turns")
def _() -> None:
    assistant = {"type": "message", "role": "assistant", "content": "Hello Alice!"}
    answered([*asked("My name is Alice."), assistant, *asked("What is my name?")])


@check("previous_response_id")
def _() -> None:
    first = answered("Remember papaya.")
    same(first["id"], answered("What was it?", previous_response_id=first["id"])["previous_response_id"])


@check("a schema")
def _() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    body = answered("Hi", text={"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}})
    same("json_schema", body["text"]["format"]["type"])


@check("a tool that has only a name")
def _() -> None:
    body = answered("How is the weather in Lima?", tools=[{"type": "function", "name": "get_weather"}])
    same(["function_call"], [item["type"] for item in body["output"]])


@check("every status")
def _() -> None:
    background = {"input": "Hi", "background": True}
    endless, cut = "simulated:tokens=600,gap_ms=100", "simulated:tokens=40"
    made = {
        "cancelled": {"model": endless, **background},
        "failed": {"model": "simulated:fail=content_filter", **background},
        "incomplete": {"model": cut, "max_output_tokens": 16, **background},
        "completed": {"model": MODEL, **background},
    }
    for status, body in made.items():
        found = client.post("/responses", json=body).json()
        valid(found)
        if status == "cancelled":
            client.post(f"/responses/{found['id']}/cancel")
        while found["status"] in {"queued", "in_progress"}:
            time.sleep(0.1)
            found = client.get(f"/responses/{found['id']}").json()
            valid(found)
        same(status, found["status"])


if __name__ == "__main__":
    run()
