"""OpenAI's library for Python: chat completions, whole answers."""

import asyncio
import re
import time
from typing import Any

from checks import DOOR, KEY, LATE, MODEL, ODD, DifferenceError, check, holds, same
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion
from openai_shared import CHAT_CLOCK, CHAT_TOOL, PARAMETERS, PNG, City, asked, chat, client, ended, refused, valid


@check("chat.completions.create")
def _() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=asked("Hello"))
    valid(ChatCompletion, answer)
    choice = answer.choices[0]
    same(
        ("echo: Hello", "assistant", "stop", 0),
        (choice.message.content, choice.message.role, choice.finish_reason, choice.index),
    )
    same(("chat.completion", MODEL, 1), (answer.object, answer.model, len(answer.choices)))
    holds(answer.id.startswith("chatcmpl-"), f"id {answer.id}")
    holds(abs(time.time() - answer.created) < 600, f"created {answer.created}")
    usage = answer.usage
    holds(
        usage and usage.prompt_tokens > 0 and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens,
        f"usage {usage}",
    )
    raw = answer.to_dict()["choices"][0]
    same({"role", "content", "refusal"}, set(raw["message"]) - {"annotations"}, "keys of a message without tool calls")
    holds("logprobs" in raw and raw["logprobs"] is None, "logprobs must be there, null")
    holds(answer._request_id, "no x-request-id")


@check("chat.completions.create, system, developer, parts and several turns")
def _() -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "One", "name": "ada"},
            {"role": "assistant", "content": "Two"},
            {"role": "user", "content": [{"type": "text", "text": "Three"}]},
        ],
    )
    same("echo: Three", answer.choices[0].message.content)


@check("chat.completions.create, image")
def _() -> None:
    image: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}
    content: Any = [{"type": "text", "text": "What is this?"}, image]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": content}])
    holds((answer.choices[0].message.content or "").startswith("echo: What is this?"), f"{answer.choices[0].message}")


@check("chat.completions.create, sampling and what is ignored")
def _() -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=asked("Hello"),
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["never"],
        frequency_penalty=0.1,
        presence_penalty=0.1,
        max_completion_tokens=100,
        n=1,
        user="ada",
        metadata={"a": "b"},
        reasoning_effort="low",
        verbosity="medium",
        safety_identifier="x",
        prompt_cache_key="y",
        service_tier="auto",
        store=False,
        logprobs=False,
    )
    same("echo: Hello", answer.choices[0].message.content)


@check("chat.completions.create, cut at max_tokens")
def _() -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.chat.completions.create(model=MODEL, messages=asked("one two three four"), **{name: 2})
        choice = answer.choices[0]
        same(("length", "echo: one"), (choice.finish_reason, (choice.message.content or "").strip()), name)
        same(2, answer.usage and answer.usage.completion_tokens, "completion_tokens")


@check("chat.completions.create, tools")
def _() -> None:
    messages: Any = asked("Please call weather.")
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL])
    valid(ChatCompletion, answer)
    choice = answer.choices[0]
    same("tool_calls", choice.finish_reason)
    call: Any = (choice.message.tool_calls or [None])[0]
    same(("function", "weather", '{"city": "Oslo"}'), (call.type, call.function.name, call.function.arguments))
    messages += [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL])
    same(("stop", "weather: rain"), (answer.choices[0].finish_reason, answer.choices[0].message.content))


@check("chat.completions.create, two calls at once, and one")
def _() -> None:
    messages = asked("call weather and call clock")
    for parallel, names in ((True, ["weather", "clock"]), (False, ["weather"])):
        answer = client.chat.completions.create(
            model=MODEL, messages=messages, tools=[CHAT_TOOL, CHAT_CLOCK], parallel_tool_calls=parallel
        )
        calls: Any = answer.choices[0].message.tool_calls
        same(names, [call.function.name for call in calls], f"parallel_tool_calls={parallel}")
        same(len(names), len({call.id for call in calls}), "ids")


@check("chat.completions.create, tool_choice")
def _() -> None:
    named: Any = {"type": "function", "function": {"name": "clock"}}
    for choice, name in (("required", "weather"), (named, "clock"), ("none", None)):
        answer = client.chat.completions.create(
            model=MODEL, messages=asked("call weather"), tools=[CHAT_TOOL, CHAT_CLOCK], tool_choice=choice
        )
        calls: Any = answer.choices[0].message.tool_calls
        same(name, calls[0].function.name if calls else None, f"tool_choice={choice}")


@check("chat.completions.create, json_schema and json_object")
def _() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": PARAMETERS, "strict": True}}
    for form, text in (
        (schema, '{"city": "Oslo"}'),
        ({"type": "json_object"}, '{"echo": "Hi"}'),
        ({"type": "text"}, "echo: Hi"),
    ):
        answer = client.chat.completions.create(model=MODEL, messages=asked("Hi"), response_format=form)
        same(text, answer.choices[0].message.content, form["type"])


@check("chat.completions.parse")
def _() -> None:
    answer = client.chat.completions.parse(model=MODEL, messages=asked("Hi"), response_format=City)
    same(City(city="", people=0), answer.choices[0].message.parsed)


@check("chat.completions.create, async")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        calls = [door.chat.completions.create(model=MODEL, messages=asked(f"{n}")) for n in range(20)]
        answers = await asyncio.gather(*calls)
        same([f"echo: {n}" for n in range(20)], [answer.choices[0].message.content for answer in answers])
        pieces = [
            chunk.choices[0].delta.content or ""
            async for chunk in await door.chat.completions.create(model=MODEL, messages=asked("Hi"), stream=True)
        ]
        same("echo: Hi", "".join(pieces))


@check("chat.completions.with_raw_response")
def _() -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=asked("Hi"))
    holds(raw.headers.get("x-request-id"), f"headers {dict(raw.headers)}")
    holds(raw.headers["content-type"].startswith("application/json"), raw.headers["content-type"])
    same("echo: Hi", raw.parse().choices[0].message.content)
    with client.chat.completions.with_streaming_response.create(model=MODEL, messages=asked("Hi"), stream=True) as raw:
        holds(raw.headers["content-type"].startswith("text/event-stream"), raw.headers["content-type"])
        holds(raw.headers.get("x-request-id"), "no x-request-id on a stream")
        text = "".join(raw.iter_text())
    holds(text.rstrip().endswith("data: [DONE]"), f"the stream ends with {text[-60:]!r}")
    holds("event:" not in text, "chat's stream has no event names")


@check("chat.completions.create, Idempotency-Key")
def _() -> None:
    key = {"Idempotency-Key": f"tour-{time.time_ns()}"}
    first, second = [
        client.chat.completions.create(model=MODEL, messages=asked("Hi"), extra_headers=key) for _ in range(2)
    ]
    same((first.id, first.created, "echo: Hi"), (second.id, second.created, second.choices[0].message.content))


@check("chat.completions.create, agent:NAME")
def _() -> None:
    # An agent of its own would name no model; the stack's default is the simulated one.
    answer = client.chat.completions.create(model="agent:translation", messages=asked("Guten Morgen"))
    same("echo: Guten Morgen", answer.choices[0].message.content)


@check("chat.completions.create, odd and long texts")
def _() -> None:
    for text in (ODD, "word " * 10_000):
        same(f"echo: {text}", chat(text)().choices[0].message.content)


@check("chat.completions.create, tool results in parts, null contents")
def _() -> None:
    call: Any = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Lima"}'}}
    messages: Any = [
        *asked("call weather"),
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "mist"}]},
    ]
    same("weather: mist", chat("", messages=messages, tools=[CHAT_TOOL])().choices[0].message.content)


@check("chat.completions.create, two hundred at once are answered once each")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY, max_retries=0) as door:
        calls = [door.chat.completions.create(model=MODEL, messages=asked(f"{n}")) for n in range(200)]
        answers = await asyncio.gather(*calls)
        same([f"echo: {n}" for n in range(200)], [answer.choices[0].message.content for answer in answers])
        same(200, len({answer.id for answer in answers}), "ids")


@check("chat.completions.create, a call that waits too long is answered with 424, and goes on")
async def _() -> None:
    error = await asyncio.to_thread(refused, chat("Hi", model=LATE), 424, "still_running")
    same("false", error.response.headers.get("x-should-retry"), "x-should-retry")
    found = re.search(r"chatcmpl-([0-9a-f]{32})", error.message)
    if not found:
        raise DifferenceError(f"no id in: {error.message}")
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        await ended(door, found[1], "completed")
