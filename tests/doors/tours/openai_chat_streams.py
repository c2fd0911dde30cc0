"""OpenAI's library for Python: chat completions, streams."""

import asyncio
import time
from typing import Any

import openai
from checks import (
    BROKEN_ONCE,
    DOOR,
    ENDLESS,
    GATEWAY,
    KEY,
    LATE_ONCE,
    MODEL,
    ODD,
    SLOW,
    DifferenceError,
    check,
    holds,
    same,
)
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from openai_shared import CHAT_CLOCK, CHAT_TOOL, City, asked, chat, client, ended, valid


@check("chat.completions.create, stream")
def _() -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=asked("Hello there"), stream=True))
    stream_of_chunks(chunks, "echo: Hello there", "stop")
    holds(all(chunk.usage is None for chunk in chunks), "usage was not asked for")


@check("chat.completions.create, stream with include_usage")
def _() -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=asked("Hello there"), stream=True, stream_options={"include_usage": True}
        )
    )
    holds(
        all("usage" in chunk.to_dict() and chunk.usage is None for chunk in chunks[:-1]), "usage is null before the end"
    )
    same([], chunks[-1].choices, "choices of the last chunk")
    usage = chunks[-1].usage
    holds(usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, f"usage {usage}")
    stream_of_chunks(chunks[:-1], "echo: Hello there", "stop")


@check("chat.completions.create, stream of tool calls")
def _() -> None:
    messages = asked("call weather and call clock")
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL, CHAT_CLOCK], stream=True)
    )
    stream_of_chunks(chunks, "", "tool_calls")
    calls: dict[int, list[Any]] = {}
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or []:
            calls.setdefault(call.index, []).append(call)
    same([0, 1], list(calls), "indexes")
    for parts, name, text in zip(calls.values(), ("weather", "clock"), ('{"city": "Oslo"}', "{}"), strict=True):
        same((name, "function"), (parts[0].function.name, parts[0].type))
        holds(
            parts[0].id and not any(part.id or part.function.name for part in parts[1:]),
            f"id and name come once: {parts}",
        )
        same(text, "".join(part.function.arguments or "" for part in parts), "arguments")


def stream_of_chunks(chunks: list[ChatCompletionChunk], text: str, finish: str) -> None:
    """Check what is true of every stream: one id, one model, the role first, one ending."""
    for chunk in chunks:
        valid(ChatCompletionChunk, chunk)
    same(1, len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}), "ids of the chunks")
    holds(chunks[0].id.startswith("chatcmpl-"), f"id {chunks[0].id}")
    same("assistant", chunks[0].choices[0].delta.role, "role of the first delta")
    same([finish], [f for chunk in chunks if (f := chunk.choices[0].finish_reason)], "finish reasons")
    same(text, "".join(chunk.choices[0].delta.content or "" for chunk in chunks))


@check("chat.completions.stream")
def _() -> None:
    with client.chat.completions.stream(model=MODEL, messages=asked("Hello there")) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_completion()
    same("echo: Hello there", answer.choices[0].message.content)
    same("content.done", kinds[-1])


@check("chat.completions.stream, tools and a schema")
def _() -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=asked("call weather"), tools=[CHAT_TOOL], response_format=City
    ) as stream:
        kinds = {event.type for event in stream}
        answer = stream.get_final_completion()
    holds({"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds, f"{kinds}")
    calls: Any = answer.choices[0].message.tool_calls
    same(("weather", {"city": "Oslo"}), (calls[0].function.name, calls[0].function.parsed_arguments))


@check("chat.completions.create, the pieces come as they are made")
def _() -> None:
    stream = client.chat.completions.create(model=SLOW, messages=asked("Hi"), stream=True)
    times = [time.monotonic() for chunk in stream if chunk.choices[0].delta.content]
    holds(len(times) >= 3 and times[-1] - times[0] > 0.4, f"pieces came at {times} s")


@check("chat.completions.create, a stream that is closed ends the request")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        stream = await door.chat.completions.create(model=ENDLESS, messages=asked("Hi"), stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await ended(door, chunk.id.removeprefix("chatcmpl-"), "cancelled")


@check("chat.completions.create, on_disconnect: continue")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        stream = await door.chat.completions.create(
            model=SLOW, messages=asked("Hi"), stream=True, extra_body={"on_disconnect": "continue"}
        )
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await ended(door, chunk.id.removeprefix("chatcmpl-"), "completed")


@check("chat.completions.create, a stream of an odd text")
def _() -> None:
    stream_of_chunks(list(chat(ODD, stream=True)()), f"echo: {ODD}", "stop")


@check("chat.completions.create, a stream whose first attempt fails in silence")
def _() -> None:
    text = " ".join(f"word{n}" for n in range(1, 7))
    stream_of_chunks(list(chat(f"{time.time()}", model=LATE_ONCE, stream=True)()), text, "stop")


@check("chat.completions.create, a stream that would start over raises")
def _() -> None:
    try:
        pieces = [chunk.choices[0].delta.content for chunk in chat(f"{time.time()}", model=BROKEN_ONCE, stream=True)()]
    except openai.APIError as error:
        same("answer_restarted", error.code)
    else:
        raise DifferenceError(f"it ended as if all were well: {pieces}")


@check("chat.completions.create, a silent stream is kept alive")
def _() -> None:
    create = client.chat.completions.with_streaming_response.create
    with create(model="simulated:latency_ms=17000", messages=asked("Hi"), stream=True) as raw:
        text = "".join(raw.iter_text())
    before = text.partition("echo")[0]
    holds(any(line.startswith(":") for line in before.splitlines()), f"no comment in 17 s of silence: {before!r}")


@check("chat.completions.create, a call that is left ends the request")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY, max_retries=0) as door:
        call = asyncio.create_task(door.chat.completions.create(model=ENDLESS, messages=asked("Hi")))
        await asyncio.sleep(1.5)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        listed: Any = await door.get(f"{GATEWAY}/v1/requests?limit=1", cast_to=object)
        await ended(door, listed["data"][0]["id"], "cancelled")
