"""What the fake model promises: each answer is recognisable only as the answer to its own question."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import httpx
import orjson
import pytest

from benchmarks.fake_model import FakeModel
from benchmarks.question import PIECE, SLOW, answer, question

COMPLETIONS = "/v1/chat/completions"


def client(model: FakeModel | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(model or FakeModel()), base_url="http://model")


def asking(number: int, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question("run", number)}], **more}


def streamed(text: str) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    return [orjson.loads(line) for line in lines]


async def test_answers_are_each_callers_own() -> None:
    """Two concurrent questions get two answers, each made from its own."""
    async with client() as model:
        both = await asyncio.gather(*(model.post(COMPLETIONS, json=asking(number)) for number in (1, 2)))
    replies = [each.json()["choices"][0]["message"]["content"] for each in both]

    assert [answer(question("run", number), 1) for number in (1, 2)] == replies
    assert replies[0] != replies[1]


async def test_a_stream_has_so_many_tokens() -> None:
    """A stream has the configured number of tokens, a finish reason, the usage, and its end mark."""
    async with client() as model:
        await model.put("/settings", json={"tokens": 5})
        events = streamed((await model.post(COMPLETIONS, json=asking(1, stream=True))).text)
    *texts, finish, usage = events
    pieces = [event["choices"][0]["delta"]["content"] for event in texts]

    assert (5, answer(question("run", 1), 5)) == (len(pieces), "".join(pieces))
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 5


async def test_a_wrong_answer_can_be_planted() -> None:
    """When configured, every n-th answer is one to another question."""
    async with client() as model:
        await model.put("/settings", json={"wrong_every": 2})
        answers = [(await model.post(COMPLETIONS, json=asking(number))).json() for number in range(4)]
    right = [
        each["choices"][0]["message"]["content"] == answer(question("run", number), 1)
        for number, each in enumerate(answers)
    ]

    assert right == [True, False, True, False]


async def test_a_slow_answer_lasts_until_the_caller_leaves() -> None:
    """A streamed answer to a slow question begins at once and never ends; when its caller leaves, it is not open."""
    model, left, sent = FakeModel(), asyncio.Event(), asyncio.Queue[bytes]()
    body = {"messages": [{"role": "user", "content": f"{SLOW} question"}], "stream": True}
    received = iter([{"type": "http.request", "body": orjson.dumps(body)}])

    async def receive() -> MutableMapping[str, Any]:
        if message := next(received, None):
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message.get("body"):
            sent.put_nowait(message["body"])

    await client(model).put("/settings", json={"slow_gap_ms": 1})
    call = asyncio.create_task(model({"method": "POST", "path": COMPLETIONS}, receive, send))
    chunks = [orjson.loads((await sent.get()).removeprefix(b"data: ")) for _ in range(3)]
    left.set()
    await call

    assert [PIECE] * 3 == [each["choices"][0]["delta"]["content"] for each in chunks]
    assert 0 == (await client(model).get("/stats")).json()["open"]


async def test_calls_are_counted_since_the_last_setting() -> None:
    """Its counts of calls, of their messages, and of concurrent ones restart when it is configured."""
    async with client() as model:
        await model.post(COMPLETIONS, json=asking(1))
        await model.put("/settings", json={})
        await model.post(COMPLETIONS, json=asking(2))
        stats = (await model.get("/stats")).json()

    assert stats == {"calls": 1, "messages": 1, "open": 0, "most_open": 1}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/models", 200), ("GET", "/nothing", 404)])
async def test_other_paths(method: str, path: str, status: int) -> None:
    """It lists its model, and answers no other path."""
    async with client() as model:
        assert status == (await model.request(method, path)).status_code
