"""OpenAI's library for Python: what the door refuses, and how it says so."""

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import openai
from checks import DOOR, GATEWAY, KEY, MODEL, DifferenceError, check, holds, same
from openai import OpenAI
from openai_shared import asked, chat, client, refused


@check("errors, unknown model")
def _() -> None:
    refused(chat("Hi", model="unheard-of"), 404, "model_not_found", "model")


@check("errors, wrong key")
def _() -> None:
    # The stack requires no key; one in our format is looked up nevertheless.
    refused(OpenAI(base_url=DOOR, api_key="orc_wrong_0").models.list, 401, "invalid_api_key")


@check("errors, invalid and missing fields")
def _() -> None:
    for path, field in (("/chat/completions", "messages"), ("/responses", "input")):
        post = partial(client.post, path, body={"model": MODEL}, cast_to=object)
        refused(post, 400, "missing_required_parameter", field)
    same("invalid_request_error", refused(chat("Hi", temperature=9), 400, param="temperature").type)
    refused(chat("Hi", extra_body={"nonsense": 1}), 400, "unknown_parameter", "nonsense")
    refused(partial(client.post, "/chat/completions", body=[], cast_to=object), 400)


@check("errors, chat parameters that are not offered")
def _() -> None:
    not_offered = {
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "logit_bias": {"1": 1},
        "audio": {"voice": "alloy", "format": "wav"},
        "modalities": ["text", "audio"],
        "prediction": {"type": "content", "content": "x"},
        "web_search_options": {},
        "functions": [{"name": "f", "parameters": {}}],
        "function_call": {"name": "f"},
    }
    for name, value in not_offered.items():
        error = refused(chat("Hi", extra_body={name: value}), 400, param=name, what=name)
        holds(error.code in {"unsupported_parameter", "unsupported_value"}, f"{name}: code {error.code}")


@check("errors, responses parameters that are not offered")
def _() -> None:
    not_offered = {
        "prompt": {"id": "pmpt_1"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "max_tool_calls": 2,
        "context_management": [{"type": "compaction"}],
        "tools": [{"type": "web_search"}],
    }
    for name, value in not_offered.items():
        error = refused(
            partial(client.responses.create, model=MODEL, input="Hi", extra_body={name: value}), 400, what=name
        )
        holds(error.code in {"unsupported_parameter", "unsupported_value"}, f"{name}: code {error.code}")
        holds(error.param and error.param.startswith(name), f"{name}: param {error.param}")


@check("errors, calls that are not offered")
def _() -> None:
    calls: dict[str, Callable[[], Any]] = {
        "completions": lambda: client.completions.create(model=MODEL, prompt="Hi"),
        "moderations": lambda: client.moderations.create(input="Hi"),
        "images": lambda: client.images.generate(prompt="Hi"),
        "audio": lambda: client.audio.speech.create(model=MODEL, voice="alloy", input="Hi"),
        "vector_stores": client.vector_stores.create,
        "fine_tuning": client.fine_tuning.jobs.list,
        "uploads": lambda: client.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch"),
        "responses.compact": lambda: client.responses.compact(model=MODEL, input="Hi"),
        "responses.input_tokens": lambda: client.responses.input_tokens.count(model=MODEL, input="Hi"),
        "embeddings": lambda: client.embeddings.create(model=MODEL, input="Hi"),
        "chat.completions.list": client.chat.completions.list,
    }
    errors = {name: refused(call, 404, what=name) for name, call in calls.items()}
    same([], [name for name, error in errors.items() if "not offered" not in error.message])


@check("errors, a failure says that it is not to be repeated")
def _() -> None:
    for code in ("content_filter", "invalid_request"):
        call = chat("Hi", model=f"simulated:fail={code}")
        error = refused(call, 400)
        same("false", error.response.headers.get("x-should-retry"), f"x-should-retry of {code}")


@check("errors, a stream that breaks raises")
def _() -> None:
    stream = chat("Hi", model="simulated:tokens=4,fail=content_filter,fail_after=2", stream=True)()
    try:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    except openai.APIError as error:
        holds(error.code, f"the error has no code: {error.body}")
    else:
        raise DifferenceError(f"the stream ended as if all were well, with {text!r}")


@check("errors, bodies that cannot be read")
def _() -> None:
    with httpx.Client(base_url=DOOR, headers={"Authorization": f"Bearer {KEY}"}, timeout=30, trust_env=False) as raw:
        for path in ("/chat/completions", "/responses", "/conversations"):
            for content in (b"{", b"\xff", b"[]"):
                answer = raw.post(path, content=content, headers={"Content-Type": "application/json"})
                same(400, answer.status_code, f"{path} {content!r}")
                same({"message", "type", "param", "code"}, set(answer.json()["error"]), f"{path} {content!r}")
        calls = (("GET", "/chat/completions"), ("PUT", "/models"), ("GET", "/nonsense"), ("DELETE", "/responses"))
        for method, path in calls:
            answer = raw.request(method, path)
            holds(answer.status_code in {404, 405}, f"{method} {path}: {answer.status_code}")
            same({"message", "type", "param", "code"}, set(answer.json()["error"]), f"{method} {path}")
            holds(answer.headers.get("x-request-id"), f"{method} {path}: no x-request-id")


@check("errors, a body that is too large")
def _() -> None:
    error = refused(chat("x" * 40_000_000), 413)
    same("false", error.response.headers.get("x-should-retry", "false"))


@check("errors, tools of other types")
def _() -> None:
    custom: Any = {"type": "custom", "custom": {"name": "c"}}
    error = refused(chat("Hi", tools=[custom]), 400)
    holds(error.param and error.param.startswith("tools"), f"param {error.param}")


@check("errors, a failure is not repeated")
def _() -> None:
    chat("The one before")()
    for retries in (0, 2):
        door = client.with_options(max_retries=retries)
        call = partial(door.chat.completions.create, model="simulated:fail=content_filter", messages=asked("Hi"))
        refused(call, 400)
    listed: Any = client.get(f"{GATEWAY}/v1/requests?limit=3", cast_to=object)
    same(["failed", "failed", "completed"], [each["status"] for each in listed["data"]], "the last three requests")
