"""Promises of gateway/routes/bulk.py about what a caller sends and receives."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from benchmarks.guard.ends import Away, Consumer, Producer, Settle
from benchmarks.guard.path import Tally
from gateway.app import create_app
from gateway.settings import GatewaySettings

URL = "/v1/messages/bulk"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    settings = GatewaySettings.model_validate({"orchestra_secret": "s" * 32})
    app = create_app(
        settings, database=Away.connect(settings, "test"), producer=Producer(Tally()).opened, consumer=Consumer().opened
    )
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        await Settle()
        yield client


def message(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "hi"}], **more}


async def test_each_message_has_its_outcome(client: httpx.AsyncClient) -> None:
    """One bad message refuses no other; the outcomes are in the order of the messages, and repeat nothing of them."""
    conversation = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    requests = [
        message(conversation_id=conversation), {}, message(n=2), message(stream=True), message(idempotency_key="a b"),
        "text", message(colour="blue", on_disconnect="cancel"), message(agent="missing"),
    ]  # fmt: skip

    answer = await client.post(URL, json={"requests": requests})

    assert 200 == answer.status_code
    told = answer.json()
    assert (2, 6, 8) == (told["accepted"], told["refused"], len(told["data"]))
    first, *_, warned, _ = told["data"]
    assert ("pending", conversation, None) == (first["status"], first["conversation_id"], first["error"])
    assert ["on_disconnect", "colour"] == warned["warnings"]
    errors = [each["error"] and (each["error"]["code"], each["error"]["status"]) for each in told["data"]]
    invalid = ("invalid_request", 422)
    assert [None, invalid, ("not_supported", 422), invalid, invalid, invalid, None, ("unknown_agent", 422)] == errors
    assert "messages: is required" == told["data"][1]["error"]["detail"]
    assert not any(each["error"]["retryable"] for each in told["data"] if each["error"])


async def test_the_same_keys_give_the_same_requests(client: httpx.AsyncClient) -> None:
    """A repeated call has the ids of the first, also a single POST with one of its keys; without a key each is new."""
    body = {"requests": [message(idempotency_key="one"), message(idempotency_key="two"), message()]}

    first, second = [[each["request_id"] for each in (await client.post(URL, json=body)).json()["data"]] for _ in "12"]
    single = await client.post("/v1/messages", json=message(), headers={"Idempotency-Key": "one", "Prefer": "wait=0"})

    assert first[:2] == second[:2]
    assert 4 == len({*first, *second})
    assert first[0] == single.json()["request_id"]


@pytest.mark.parametrize("body", [{}, [], {"requests": []}, {"requests": "x"}, {"requests": [message()] * 1001}])
async def test_a_body_that_is_no_list_of_messages(client: httpx.AsyncClient, body: Any) -> None:
    """A body without a list of 1 to 1,000 messages is refused as a whole."""
    answer = await client.post(URL, json=body)
    assert (422, "invalid_request") == (answer.status_code, answer.json()["code"])
    assert "requests: must be a list of 1 to 1000 messages" == answer.json()["detail"]
