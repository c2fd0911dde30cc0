"""Promises of gateway/openai/responses.py: what a call gets, while Kafka is the test's own and Postgres is away."""

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from openai.types.responses import Response

from orchestra.transcript import Piece
from schemas.openai.responses import NOT_OFFERED
from tests.support.door import Door, answered, failed, open_door

ROUTE = "/openai/v1/responses"
HELLO = {"model": "simulated", "input": "hi"}
WORDS = [Piece("text", "Hello "), Piece("text", "you")]


@pytest.fixture(scope="module")
async def door() -> AsyncIterator[Door]:
    async with open_door() as opened:
        yield opened


def events_in(body: str) -> list[dict[str, Any]]:
    blocks = [block.split("\ndata: ") for block in body.split("\n\n") if block.startswith("event: ")]
    return [orjson.loads(data) for _, data in blocks]


@pytest.mark.parametrize("route", [ROUTE, "/v1/responses"])
async def test_a_response_needs_no_postgres(door: Door, route: str) -> None:
    """A call without earlier responses is answered while Postgres is away, in the shape of the SDK's types."""
    response = await door.post(route, HELLO, answered(WORDS))

    made = Response.model_validate(response.json(), strict=True)
    assert ("completed", "Hello you", f"resp_{door.id.hex}") == (made.status, made.output_text, made.id)
    assert f"req_{door.id.hex}" == response.headers["x-request-id"]
    assert ("responses", door.id, "given") == (door.record.door, door.record.conversation_id, door.record.context)


async def test_a_stream_has_the_events_of_the_answer(door: Door) -> None:
    """The stream begins with the response and ends with the whole of it."""
    response = await door.post(ROUTE, {**HELLO, "stream": True}, answered(WORDS))

    events = events_in(response.text)
    assert ["response.created", "response.in_progress"] == [event["type"] for event in events[:2]]
    assert ["Hello ", "you"] == [event["delta"] for event in events if "delta" in event]
    assert "Hello you" == events[-1]["response"]["output"][0]["content"][0]["text"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_a_background_call_returns_at_once(door: Door) -> None:
    """A response in the background is queued, and nothing holds its connection."""
    response = await door.post(ROUTE, {**HELLO, "background": True, "metadata": {"a": "b"}})

    made = response.json()
    assert (200, "queued", True, {"a": "b"}, []) == (
        response.status_code, made["status"], made["background"], made["metadata"], made["output"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("timeout", 424, "timeout"),
        ("context_too_long", 400, "context_length_exceeded"),
        ("unknown_model", 404, "model_not_found"),
    ],
)
async def test_a_failure_is_not_retried(door: Door, code: str, status: int, said: str) -> None:
    """A response that fails after it was accepted is an error that no client repeats."""
    response = await door.post(ROUTE, HELLO, [failed(code)])

    assert (status, said, "false") == (
        response.status_code, response.json()["error"]["code"], response.headers["x-should-retry"],
    )  # fmt: skip


async def test_a_failure_in_a_stream_is_its_last_event(door: Door) -> None:
    """A stream of a response that fails ends with the response and its error."""
    response = await door.post(ROUTE, {**HELLO, "stream": True}, [failed("timeout", "it was silent")])

    last = events_in(response.text)[-1]
    assert ("response.failed", "server_error", "timeout: it was silent") == (
        last["type"], last["response"]["error"]["code"], last["response"]["error"]["message"],
    )  # fmt: skip


@pytest.mark.parametrize(
    "more", [{"previous_response_id": "resp_" + "0" * 32}, {"conversation": "conv_" + "0" * 32}], ids=str
)
async def test_what_goes_on_needs_postgres(door: Door, more: dict[str, str]) -> None:
    """A call that goes on from something is refused before it is accepted, and may be repeated."""
    accepted = door.tally.records

    response = await door.client.post(ROUTE, json={**HELLO, **more})

    assert (503, accepted) == (response.status_code, door.tally.records)
    assert "retry-after" in response.headers
    assert "x-should-retry" not in response.headers


@pytest.mark.parametrize("name", sorted(NOT_OFFERED))
async def test_what_is_not_offered_is_a_400(door: Door, name: str) -> None:
    """A parameter that is not offered is refused in OpenAI's form, by its name."""
    response = await door.client.post(ROUTE, json={**HELLO, name: 7})

    error = response.json()["error"]
    assert {"message", "type", "param", "code"} == set(error)
    assert (400, name, "unsupported_parameter") == (response.status_code, error["param"], error["code"])


@pytest.mark.parametrize("id", ["resp_1", "chatcmpl-" + "0" * 32, "0" * 32, "resp_" + "F" * 32])
async def test_wrong_spellings_are_not_found(door: Door, id: str) -> None:
    """An id that was never given out is a 404, without a look into Postgres."""
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        response = await door.client.request(method, f"{ROUTE}/{id}{path}")
        assert (404, "not_found") == (response.status_code, response.json()["error"]["code"])


async def test_a_place_needs_a_stream(door: Door) -> None:
    """`starting_after` without `stream` would be ignored, so it is refused."""
    response = await door.client.get(f"{ROUTE}/resp_{'0' * 32}?starting_after=3")

    assert (400, "starting_after") == (response.status_code, response.json()["error"]["param"])
