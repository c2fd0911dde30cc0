"""OpenAI's library for Python: responses that go on without a connection."""

import asyncio
import time
from functools import partial
from typing import Any

from checks import DOOR, ENDLESS, KEY, MODEL, SLOW, check, holds, same
from openai import AsyncOpenAI
from openai.types.responses import Response
from openai_shared import client, client_2, grammar, refused, until_error, valid


@check("responses, background: poll")
def _() -> None:
    made = client.responses.create(model=SLOW, input="Hi", background=True)
    holds(made.status in ("queued", "in_progress"), f"status {made.status}")
    same(True, made.background)
    valid(Response, made)
    while (found := client.responses.retrieve(made.id)).status in ("queued", "in_progress"):
        time.sleep(0.1)
    same(("completed", 10), (found.status, len(found.output_text.split())))
    holds(found.to_dict()["completed_at"], "no completed_at")


@check("responses, background: a broken stream goes on at another gateway")
def _() -> None:
    stream = client.responses.create(model=SLOW, input="Hi", background=True, stream=True)
    seen: list[Any] = []
    for event in stream:
        seen.append(event)
        if len([each for each in seen if each.type == "response.output_text.delta"]) == 2:
            break
    stream.close()
    same(["response.created", "response.queued"], [event.type for event in seen[:2]])
    seen += client_2.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    grammar(seen)
    text = "".join(event.delta for event in seen if event.type == "response.output_text.delta")
    same((" ".join(f"word{n}" for n in range(1, 11)), "response.completed"), (text, seen[-1].type))
    same(text, client.responses.retrieve(seen[0].response.id).output_text)


@check("responses.cancel")
def _() -> None:
    made = client.responses.create(model=ENDLESS, input="Hi", background=True)
    cancelled = client.responses.cancel(made.id)
    holds(cancelled.status in ("cancelled", "in_progress", "queued"), f"status {cancelled.status}")
    deadline = time.monotonic() + 20
    while (found := client.responses.retrieve(made.id)).status != "cancelled" and time.monotonic() < deadline:
        time.sleep(0.1)
    same("cancelled", found.status)
    same("cancelled", client.responses.cancel(made.id).status, "cancelled twice")
    ordinary = client.responses.create(model=MODEL, input="Hi")
    refused(partial(client.responses.cancel, ordinary.id), 400)


@check("responses.create, a closed stream ends the request")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        stream = await door.responses.create(model=ENDLESS, input="Hi", stream=True)
        async for event in stream:
            if event.type == "response.created":
                id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        for _ in range(100):
            if (found := await door.responses.retrieve(id)).status not in ("queued", "in_progress"):
                break
            await asyncio.sleep(0.1)
        same("cancelled", found.status)


@check("responses.create, a failed one")
def _() -> None:
    made = client.responses.create(model="simulated:fail=content_filter", input="Hi", background=True)
    while (found := client.responses.retrieve(made.id)).status in ("queued", "in_progress"):
        time.sleep(0.1)
    valid(Response, found)
    holds(
        found.status == "failed" and found.error and found.error.code and found.error.message,
        f"{found.status} {found.error}",
    )
    _, error = until_error(client.responses.retrieve(made.id, stream=True))
    same("content_filter", error.code)
