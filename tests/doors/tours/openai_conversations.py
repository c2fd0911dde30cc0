"""OpenAI's library for Python: conversations and their items."""

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

import openai
from checks import DOOR, GATEWAY, KEY, MODEL, SLOW, check, holds, same
from openai import AsyncOpenAI
from openai_shared import TOOL, asked, client, other, refused, valid


def texts(items: Iterable[Any]) -> list[str]:
    """The text of each item that is a message."""
    return [item.content[0].text for item in items if item.type == "message"]


@check("conversations.create, retrieve, update, delete")
def _() -> None:
    made = client.conversations.create(
        metadata={"a": "b"}, items=[{"type": "message", "role": "user", "content": "Hi"}]
    )
    valid(openai.types.conversations.Conversation, made)
    same(("conversation", {"a": "b"}), (made.object, made.metadata))
    holds(made.id.startswith("conv_"), made.id)
    same(made.id, client.conversations.retrieve(made.id).id)
    same({"c": "d"}, client.conversations.update(made.id, metadata={"c": "d"}).metadata)
    refused(partial(other.conversations.retrieve, made.id), 404)
    gone = client.conversations.delete(made.id)
    same((made.id, True, "conversation.deleted"), (gone.id, gone.deleted, gone.object))
    refused(partial(client.conversations.retrieve, made.id), 404)


@check("conversations.items")
def _() -> None:
    talk = client.conversations.create()
    added = client.conversations.items.create(
        talk.id,
        items=[
            {"type": "message", "role": "user", "content": "One"},
            {"type": "message", "role": "user", "content": "Two"},
        ],
    )
    same(["One", "Two"], texts(added.data))
    same(["Two", "One"], texts(client.conversations.items.list(talk.id)))
    same(["One", "Two"], texts(client.conversations.items.list(talk.id, order="asc", limit=1)), "by pages of one")
    found: Any = client.conversations.items.retrieve(added.data[0].id, conversation_id=talk.id)
    same("One", found.content[0].text)
    same(talk.id, client.conversations.items.delete(added.data[0].id, conversation_id=talk.id).id)
    same(["Two"], texts(client.conversations.items.list(talk.id)))


@check("responses.create, conversation")
def _() -> None:
    talk = client.conversations.create()
    for text in ("One", "Two"):
        answer = client.responses.create(model=MODEL, input=text, conversation=talk.id)
        same(talk.id, answer.conversation and answer.conversation.id)
    same(["One", "echo: One", "Two", "echo: Two"], texts(client.conversations.items.list(talk.id, order="asc")))
    hashed = "simulated:reply=hash"
    inside = client.responses.create(model=hashed, input="Three", conversation={"id": talk.id})
    whole = client.responses.create(
        model=hashed,
        input=[
            {"role": role, "content": text}
            for text in ("One", "Two")
            for role, text in (("user", text), ("assistant", f"echo: {text}"))
        ]
        + asked("Three"),  # type: ignore[arg-type]
    )
    same(whole.output_text, inside.output_text, "the history of a conversation")
    both = {"conversation": talk.id, "previous_response_id": inside.id}
    refused(partial(client.responses.create, model=MODEL, input="Hi", extra_body=both), 400)


@check("responses.create, tools in a conversation")
def _() -> None:
    talk = client.conversations.create()
    call: Any = client.responses.create(model=MODEL, input="call weather", tools=[TOOL], conversation=talk.id).output[0]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    answer = client.responses.create(model=MODEL, input=[result], tools=[TOOL], conversation=talk.id)
    same("weather: rain", answer.output_text)
    kinds = [item.type for item in client.conversations.items.list(talk.id, order="asc")]
    same(["message", "function_call", "function_call_output", "message"], kinds)


@check("responses.create, two at once in a conversation")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY, max_retries=0) as door:
        talk = await door.conversations.create()
        calls = [door.responses.create(model=SLOW, input=f"{n}", conversation=talk.id) for n in range(3)]
        same(["completed"] * 3, [answer.status for answer in await asyncio.gather(*calls)])
        page = await door.conversations.items.list(talk.id, order="asc")
        same(["user", "assistant"] * 3, [item.role for item in page.data if item.type == "message"])


@check("conversations, unknown ids")
def _() -> None:
    for id in ("conv_" + "0" * 32, "conv_nonsense", "nonsense"):
        refused(partial(client.conversations.retrieve, id), 404)
        error = refused(partial(client.responses.create, model=MODEL, input="Hi", conversation=id), 404)
        same({"message", "type", "param", "code"}, set(error.body or {}))  # type: ignore[call-overload]


@check("conversations, what a response has is not listed as a conversation")
def _() -> None:
    made = client.responses.create(model=MODEL, input="Hi")
    listed: Any = client.get(f"{GATEWAY}/v1/conversations?limit=100", cast_to=object)
    mine = [each["id"].replace("-", "") for each in listed["data"]]
    holds(made.id.removeprefix("resp_") not in mine, "the conversation of a response is listed")
