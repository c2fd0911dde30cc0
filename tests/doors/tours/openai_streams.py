"""OpenAI's library for Python: responses' streams."""

import asyncio
import json
import time
from typing import Any

from checks import BROKEN_ONCE, DOOR, KEY, LATE_ONCE, MODEL, ODD, DifferenceError, check, holds, same
from openai import APIError, AsyncOpenAI
from openai_shared import CLOCK, TOOL, City, client, client_2, grammar, until_error


@check("responses.create, stream")
def _() -> None:
    events = list(client.responses.create(model=MODEL, input="Hello there", stream=True))
    kinds = grammar(events)
    same(
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"],
        kinds[:4],
    )
    same(
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"],
        kinds[-4:],
    )
    same("echo: Hello there", "".join(event.delta for event in events if event.type == "response.output_text.delta"))


@check("responses.create, stream of tool calls")
def _() -> None:
    events: list[Any] = list(
        client.responses.create(model=MODEL, input="call weather and call clock", tools=[TOOL, CLOCK], stream=True)
    )
    grammar(events)
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    same([("weather", '{"city": "Oslo"}'), ("clock", "{}")], [(event.name, event.arguments) for event in done])
    for event in done:
        parts = [
            each.delta
            for each in events
            if each.type == "response.function_call_arguments.delta" and each.item_id == event.item_id
        ]
        same(event.arguments, "".join(parts), "deltas of the arguments")


@check("responses.create, stream with reasoning")
def _() -> None:
    events: list[Any] = list(
        client.responses.create(model="simulated:reasoning=3", input="Hi", reasoning={"summary": "auto"}, stream=True)
    )
    kinds = grammar(events)
    holds("response.output_text.delta" in kinds, f"{kinds}")
    answer = events[-1].response
    same("message", answer.output[-1].type)


@check("responses.stream")
def _() -> None:
    with client.responses.stream(model=MODEL, input="Hi", text_format=City, tools=[TOOL]) as stream:
        for _ in stream:
            pass
        answer = stream.get_final_response()
    same(City(city="", people=0), answer.output_parsed)


@check("responses.retrieve, stream of one that has ended")
def _() -> None:
    live = list(client.responses.create(model=MODEL, input="one two three four", stream=True))
    again = list(client.responses.retrieve(live[0].response.id, stream=True))
    same(
        [event.to_dict() for event in live if not hasattr(event, "response")],
        [event.to_dict() for event in again if not hasattr(event, "response")],
    )
    same([event.type for event in live], [event.type for event in again])
    rest = list(client.responses.retrieve(live[0].response.id, stream=True, starting_after=5))
    same([event.to_dict() for event in again[6:]], [event.to_dict() for event in rest], "starting_after=5")
    with client.responses.stream(response_id=live[0].response.id, starting_after=5) as stream:
        same(
            [event.sequence_number for event in rest],
            [event.sequence_number for event in stream],
            "responses.stream(starting_after=5)",
        )


@check("responses.create, a stream of an odd text, live and later")
def _() -> None:
    live: list[Any] = list(client.responses.create(model=MODEL, input=ODD, stream=True))
    grammar(live)
    deltas = [event.delta for event in live if event.type == "response.output_text.delta"]
    same(f"echo: {ODD}", "".join(deltas))
    again: list[Any] = list(client_2.responses.retrieve(live[0].response.id, stream=True))
    same(deltas, [event.delta for event in again if event.type == "response.output_text.delta"])


@check("responses.retrieve, a stream from each place")
def _() -> None:
    live: list[Any] = list(client.responses.create(model=MODEL, input="call weather", tools=[TOOL], stream=True))
    for place in range(len(live)):
        rest = list(client.responses.retrieve(live[0].response.id, stream=True, starting_after=place))
        same([event.sequence_number for event in live[place + 1 :]], [event.sequence_number for event in rest])


@check("responses.create, a stream whose first attempt fails in silence")
def _() -> None:
    events: list[Any] = list(client.responses.create(model=LATE_ONCE, input=f"{time.time()}", stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    same((" ".join(f"word{n}" for n in range(1, 7)), "response.completed"), (text, events[-1].type))
    same(text, events[-1].response.output_text)


@check("responses, a stream that starts over ends, and goes on from its new beginning")
def _() -> None:
    text = " ".join(f"word{n}" for n in range(1, 7))
    stream = client.responses.create(model=BROKEN_ONCE, input=f"{time.time()}", stream=True, background=True)
    first, error = until_error(stream)
    same("answer_restarted", error.code)
    id, place = first[0].response.id, first[-1].sequence_number
    rest: list[Any] = list(client.responses.retrieve(id, stream=True, starting_after=place))
    grammar(rest)
    holds(rest[0].sequence_number >= 1_000_000, f"numbers begin with {rest[0].sequence_number}")
    same(text, "".join(event.delta for event in rest if event.type == "response.output_text.delta"))
    same(text, client.responses.retrieve(id).output_text)


@check("responses.create, a stream that fails raises")
def _() -> None:
    model = "simulated:tokens=4,fail=content_filter,fail_after=2"
    _, error = until_error(client.responses.create(model=model, input="Hi", stream=True))
    same("content_filter", error.code)
    try:
        with client.responses.stream(model=model, input="Hi") as stream:
            stream.until_done()
    except APIError as raised:
        same("content_filter", raised.code)
    else:
        raise DifferenceError("nothing was raised by responses.stream")
    with client.responses.with_streaming_response.create(model=model, input="Hi", stream=True) as raw:
        text = "".join(raw.iter_text())
    last = json.loads(text.partition("event: response.failed\ndata: ")[2].partition("\n")[0])
    same(("response.failed", "failed"), (last["type"], last["response"]["status"]))


@check("responses.create, a silent stream is kept alive")
def _() -> None:
    create = client.responses.with_streaming_response.create
    with create(model="simulated:latency_ms=17000", input="Hi", stream=True) as raw:
        text = "".join(raw.iter_text())
    before = text.partition("response.output_text.delta")[0]
    holds(any(line.startswith(":") for line in before.splitlines()), f"no comment in 17 s of silence: {before!r}")


@check("responses, several readers of one stream")
async def _() -> None:
    async with AsyncOpenAI(base_url=DOOR, api_key=KEY) as door:
        made = await door.responses.create(model="simulated:tokens=20,gap_ms=50", input="Hi", background=True)

        async def read() -> list[Any]:
            events = [event async for event in await door.responses.retrieve(made.id, stream=True)]
            return [(event.type, event.sequence_number, getattr(event, "delta", None)) for event in events]

        first, *others = await asyncio.gather(*(read() for _ in range(5)))
        same("response.completed", first[-1][0])
        same([first] * len(others), others)
