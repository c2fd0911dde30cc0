"""OpenAI's library for Python: responses, whole answers."""

import re
import time
from functools import partial
from typing import Any

from checks import ENDLESS, LATE, MODEL, ODD, DifferenceError, check, holds, same
from openai.types.responses import Response
from openai_shared import CLOCK, PNG, TOOL, City, asked, client, other, refused, valid

# Strict clients want all of them, null if there is no value.
_FIELDS = set(
    "background completed_at created_at error frequency_penalty id incomplete_details instructions "
    "max_output_tokens max_tool_calls metadata model object output parallel_tool_calls presence_penalty "
    "previous_response_id prompt_cache_key reasoning safety_identifier service_tier status store temperature "
    "text tool_choice tools top_logprobs top_p truncation usage".split()
)


@check("responses.create")
def _() -> None:
    answer = client.responses.create(model=MODEL, input="Hello", instructions="Be brief.", metadata={"a": "b"})
    valid(Response, answer)
    same(
        ("completed", "echo: Hello", MODEL, "response"),
        (answer.status, answer.output_text, answer.model, answer.object),
    )
    holds(answer.id.startswith("resp_"), f"id {answer.id}")
    item: Any = answer.output[0]
    same(("message", "assistant", "completed"), (item.type, item.role, item.status))
    holds(item.id.startswith("msg_"), f"item {item.id}")
    part = item.content[0].to_dict()
    same(("output_text", [], []), (part["type"], part["annotations"], part["logprobs"]))
    same(
        ("Be brief.", {"a": "b"}, "disabled", "auto", [], False, True),
        (
            answer.instructions,
            answer.metadata,
            answer.truncation,
            answer.tool_choice,
            answer.tools,
            answer.background,
            answer.to_dict()["store"],
        ),
    )
    usage: Any = answer.usage
    same(usage.input_tokens + usage.output_tokens, usage.total_tokens, "total_tokens")
    holds(
        usage.input_tokens_details.cached_tokens is not None
        and usage.output_tokens_details.reasoning_tokens is not None,
        f"{usage}",
    )
    same([], sorted(_FIELDS - set(answer.to_dict())), "missing fields")


@check("responses.create, input items")
def _() -> None:
    image: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    items: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "One"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Two", "annotations": []}],
            "id": "msg_foreign",
            "status": "completed",
        },
        {"role": "user", "content": [{"type": "input_text", "text": "Three"}, image]},
    ]
    answer = client.responses.create(model=MODEL, input=items)
    holds(answer.output_text.startswith("echo: Three"), answer.output_text)


@check("responses.create, cut at max_output_tokens")
def _() -> None:
    answer = client.responses.create(model=MODEL, input="one two three four", max_output_tokens=16)
    same("completed", answer.status)
    answer = client.responses.create(model="simulated:tokens=40", input="Hi", max_output_tokens=16)
    same(
        ("incomplete", "max_output_tokens"),
        (answer.status, answer.incomplete_details and answer.incomplete_details.reason),
    )


@check("responses.create, tools")
def _() -> None:
    items: Any = asked("Please call weather.")
    answer = client.responses.create(model=MODEL, input=items, tools=[TOOL])
    valid(Response, answer)
    call: Any = answer.output[0]
    same(
        ("function_call", "weather", '{"city": "Oslo"}', "completed"),
        (call.type, call.name, call.arguments, call.status),
    )
    holds(call.id.startswith("fc_") and call.id != call.call_id, f"{call.id} {call.call_id}")
    same(["weather"], [tool.name for tool in answer.tools if tool.type == "function"])
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    whole = client.responses.create(
        model=MODEL, input=[*items, *[item.to_dict() for item in answer.output], result], tools=[TOOL], store=False
    )
    same("weather: rain", whole.output_text, "all items sent")
    later = client.responses.create(model=MODEL, input=[result], previous_response_id=answer.id, tools=[TOOL])
    same(("weather: rain", answer.id), (later.output_text, later.previous_response_id), "previous_response_id")


@check("responses.create, tool_choice and parallel_tool_calls")
def _() -> None:
    named: Any = {"type": "function", "name": "clock"}
    for choice, names in (("required", ["weather"]), (named, ["clock"]), ("none", []), ("auto", ["weather", "clock"])):
        answer = client.responses.create(
            model=MODEL, input="call weather and call clock", tools=[TOOL, CLOCK], tool_choice=choice
        )
        same(names, [item.name for item in answer.output if item.type == "function_call"], f"tool_choice={choice}")
    answer = client.responses.create(
        model=MODEL, input="call weather and call clock", tools=[TOOL, CLOCK], parallel_tool_calls=False
    )
    same((1, False), (len(answer.output), answer.parallel_tool_calls))


@check("responses.parse")
def _() -> None:
    answer = client.responses.parse(model=MODEL, input="Hi", text_format=City)
    same(City(city="", people=0), answer.output_parsed)
    same("json_schema", answer.text and answer.text.format and answer.text.format.type)
    plain = client.responses.create(model=MODEL, input="Hi", text={"format": {"type": "json_object"}})
    same('{"echo": "Hi"}', plain.output_text)


@check("responses.retrieve")
def _() -> None:
    made = client.responses.create(
        model=MODEL, input="Hello", temperature=0.5, metadata={"k": "v"}, tools=[TOOL], text={"verbosity": "medium"}
    )
    same(made.to_dict(), client.responses.retrieve(made.id).to_dict())
    refused(partial(other.responses.retrieve, made.id), 404)


@check("responses.retrieve, unknown and misspelt ids")
def _() -> None:
    for id in ("resp_" + "0" * 32, "resp_nonsense", "nonsense"):
        refused(partial(client.responses.retrieve, id), 404)


@check("responses.delete")
def _() -> None:
    made = client.responses.create(model=MODEL, input="Hi")
    client.responses.delete(made.id)
    refused(partial(client.responses.retrieve, made.id), 404)


@check("responses.input_items.list")
def _() -> None:
    made = client.responses.create(
        model=MODEL, input=[{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}]
    )
    items: Any = client.responses.input_items.list(made.id)
    same("list", items.object)
    same(["Two", "One"], [item.content[0].text for item in items.data], "newest first")
    same(["One", "Two"], [item.content[0].text for item in client.responses.input_items.list(made.id, order="asc")])
    same(
        ["Two", "One"],
        [item.content[0].text for item in client.responses.input_items.list(made.id, limit=1)],
        "by pages of one",
    )
    holds(all(item.id for item in items.data), "items without ids")


@check("responses.create, store: false")
def _() -> None:
    made = client.responses.create(model=MODEL, input="Hi", store=False)
    same(False, made.to_dict()["store"])
    refused(partial(client.responses.retrieve, made.id), 404)
    child = partial(client.responses.create, model=MODEL, input="Hi", previous_response_id=made.id)
    refused(child, 400, "previous_response_not_found", "previous_response_id")


@check("responses.create, previous_response_id branches")
def _() -> None:
    hashed = "simulated:reply=hash"
    root = client.responses.create(model=MODEL, input="One")
    left, right = [client.responses.create(model=hashed, input="Two", previous_response_id=root.id) for _ in range(2)]
    same(left.output_text, right.output_text, "two children of one parent see the same history")
    whole = client.responses.create(
        model=hashed, input=[*asked("One"), {"role": "assistant", "content": "echo: One"}, *asked("Two")]
    )
    same(whole.output_text, left.output_text, "the history of a child")
    deeper = client.responses.create(model=hashed, input="Three", previous_response_id=left.id)
    whole = client.responses.create(
        model=hashed,
        input=[
            *asked("One"),
            {"role": "assistant", "content": "echo: One"},
            *asked("Two"),
            {"role": "assistant", "content": left.output_text},
            *asked("Three"),
        ],
    )
    same(whole.output_text, deeper.output_text, "the history of a grandchild")


@check("responses.create, a parent that cannot be one")
def _() -> None:
    child = partial(client.responses.create, model=MODEL, input="Hi")
    anothers = other.responses.create(model=MODEL, input="Hi")
    for id in ("resp_" + "0" * 32, "resp_nonsense", anothers.id):
        call = partial(child, previous_response_id=id)
        refused(call, 400, "previous_response_not_found", "previous_response_id")
    running = client.responses.create(model=ENDLESS, input="Hi", background=True)
    call = partial(child, previous_response_id=running.id)
    refused(call, 400, "previous_response_not_ready", "previous_response_id")
    client.responses.cancel(running.id)


@check("responses.create, item_reference")
def _() -> None:
    first = client.responses.create(model=MODEL, input="One")
    item: Any = {"type": "item_reference", "id": first.output[0].id}
    answer = client.responses.create(model=MODEL, input=[*asked("One"), item, *asked("Two")], previous_response_id=None)
    same("echo: Two", answer.output_text)


@check("responses.create, odd and long texts")
def _() -> None:
    for text in (ODD, "word " * 10_000):
        made = client.responses.create(model=MODEL, input=text)
        same(f"echo: {text}", made.output_text)
        same(made.output_text, client.responses.retrieve(made.id).output_text)


@check("responses.create, reasoning and its items sent back")
def _() -> None:
    model = "simulated:reasoning=3"
    include: Any = ["reasoning.encrypted_content"]
    made = client.responses.create(
        model=model, input="One", reasoning={"effort": "low", "summary": "auto"}, include=include, store=False
    )
    valid(Response, made)
    holds(made.output[0].type == "reasoning" and made.output[0].id.startswith("rs_"), f"{made.output[0]}")
    holds(made.usage and made.usage.output_tokens_details.reasoning_tokens == 3, f"{made.usage}")
    sent_back: Any = [item.to_dict() for item in made.output]
    foreign: Any = {"type": "reasoning", "id": "rs_foreign", "summary": [], "encrypted_content": "gAAAA"}
    again = client.responses.create(model=MODEL, input=[*asked("One"), *sent_back, foreign, *asked("Two")], store=False)
    same("echo: Two", again.output_text)


@check("responses.create, files")
def _() -> None:
    file = client.files.create(file=("note.txt", b"hello"), purpose="user_data")
    for source in ({"file_id": file.id}, {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}):
        part: Any = [{"type": "input_file", **source}, {"type": "input_text", "text": "Read it"}]
        answer = client.responses.create(model=MODEL, input=[{"role": "user", "content": part}])
        holds("Read it" in answer.output_text, answer.output_text)


@check("responses.create, Idempotency-Key")
def _() -> None:
    key = {"Idempotency-Key": f"tour-{time.time_ns()}"}
    first, second = [client.responses.create(model=MODEL, input="Hi", extra_headers=key) for _ in range(2)]
    same(first.to_dict(), second.to_dict())


@check("responses.create, agent:NAME")
def _() -> None:
    answer = client.responses.create(model="agent:translation", input="Guten Morgen")
    same("echo: Guten Morgen", answer.output_text)


@check("responses.create, a call that waits too long is answered with 424, and can be read later")
def _() -> None:
    error = refused(partial(client.responses.create, model=LATE, input="Hi"), 424, "still_running")
    same("false", error.response.headers.get("x-should-retry"), "x-should-retry")
    found = re.search(r"resp_[0-9a-f]{32}", error.message)
    if not found:
        raise DifferenceError(f"no id in: {error.message}")
    while (later := client.responses.retrieve(found[0])).status in {"queued", "in_progress"}:
        time.sleep(0.2)
    same(("completed", "echo: Hi"), (later.status, later.output_text))
