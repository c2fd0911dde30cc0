"""LiteLLM as a client, by chat and by responses."""

from typing import Any

import litellm
from checks import DOOR, KEY, check, holds, run, same

door: dict[str, Any] = {"model": "openai/simulated", "api_base": DOOR, "api_key": KEY}

litellm.telemetry = False
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text: str) -> list[dict[str, Any]]:
    """One message of a user."""
    return [{"role": "user", "content": text}]


@check("completion")
def _() -> None:
    question = [{"role": "user", "content": "Hello"}]
    answer = litellm.completion(model="openai/simulated", api_base=DOOR, api_key=KEY, messages=question)
    same(("echo: Hello", "stop"), (answer.choices[0].message.content, answer.choices[0].finish_reason))
    holds(answer.usage.total_tokens > 0, f"{answer.usage}")


@check("completion, stream")
def _() -> None:
    chunks = list(
        litellm.completion(messages=asked("Hello there"), stream=True, stream_options={"include_usage": True}, **door)
    )
    same("echo: Hello there", "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    same("echo: Hello there", litellm.stream_chunk_builder(chunks).choices[0].message.content)


@check("completion, a loop with a tool")
def _() -> None:
    messages = asked("Please call weather.")
    first = litellm.completion(messages=messages, tools=[TOOL], **door)
    call = first.choices[0].message.tool_calls[0]
    messages += [first.choices[0].message.model_dump(), {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    same("weather: rain", litellm.completion(messages=messages, tools=[TOOL], **door).choices[0].message.content)


@check("acompletion")
async def _() -> None:
    found = await litellm.acompletion(messages=asked("Hello"), **door)
    same("echo: Hello", found.choices[0].message.content)


@check("responses")
def _() -> None:
    found = litellm.responses(input="Hello", **door)
    same(("completed", "echo: Hello"), (found.status, found.output[0].content[0].text))
    events = list(litellm.responses(input="Hello there", stream=True, **door))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    same("echo: Hello there", "".join(deltas))


@check("completion, an unknown model")
def _() -> None:
    try:
        litellm.completion(messages=asked("Hello"), **{**door, "model": "openai/unheard-of"})
    except litellm.NotFoundError:
        return
    holds(False, "it was answered")


if __name__ == "__main__":
    run()
