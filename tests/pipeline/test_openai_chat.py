"""OpenAI's own Python library against a gateway, on real Kafka and Postgres, with the simulated model."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from openai import (
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
    PermissionDeniedError,
)

from orchestra.store.database import Database
from tests.support.gateway import own_env, running_gateway
from tests.support.people import make_key
from tests.support.services import Service, Services
from tests.support.stack import Stack
from tests.support.store import connect
from tests.support.waiting import eventually

MODEL = "simulated"
# It says a few words, then one a second.
SLOW = "simulated:tokens=60,gap_ms=1000"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@dataclass
class House:
    """A whole system, and OpenAI's client of it, which does not retry."""

    client: AsyncOpenAI
    database: Database
    services: Services
    env: dict[str, str]
    worker: Service

    async def request(self, completion_id: str) -> dict[str, Any]:
        """The row of a completion's request; empty until a worker has read its record."""
        id = UUID(completion_id.removeprefix("chatcmpl-"))
        rows = await self.database.run("SELECT status, conversation_id FROM requests WHERE id = :id", id=id)
        return dict(rows[0]) if rows else {}

    async def ended(self, completion_id: str, status: str) -> bool:
        """Whether a request gets into this state."""

        async def there() -> bool:
            return (await self.request(completion_id)).get("status") == status

        return bool(await eventually(there, seconds=30))


@pytest.fixture(scope="module")
async def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("openai")
    env = {**await own_env(stack), "FILES_URL": (folder / "files").as_uri()}
    services = Services({**env, "LLM_MODEL": MODEL, "LLM_PROVIDER": "simulated"}, folder)
    database = connect(env["DATABASE_URL"])
    try:
        await services.llm()
        async with running_gateway(env, llm_model=MODEL) as gateway, ask(f"{gateway.url}/openai/v1") as client:

            async def knows_models() -> bool | None:
                return MODEL in {model.id async for model in client.models.list()}

            worker = await services.worker()
            assert await eventually(knows_models, seconds=30)
            yield House(client, database, services, env, worker)
    finally:
        await database.close()
        await services.close()


def ask(url: str, key: str = "none") -> AsyncOpenAI:
    """OpenAI's client, without retries."""
    return AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=60)


def user(text: str) -> Any:
    """A message of a user."""
    return {"role": "user", "content": text}


async def test_a_completion(house: House) -> None:
    """The library gets the answer, the tokens used, and an id by which the request is found."""
    raw = await house.client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[user("hi")], metadata={"order": "7"}, store=True, user="u-17"
    )
    answer = raw.parse()

    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("echo: hi", "stop")
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert raw.request_id == f"req_{answer.id.removeprefix('chatcmpl-')}"
    row = await house.request(answer.id)
    assert (row["status"], row["conversation_id"]) == ("completed", UUID(answer.id.removeprefix("chatcmpl-")))


@pytest.mark.parametrize("code", ["auth", "unavailable"])
async def test_a_stream_of_a_model_that_fails(house: House, code: str) -> None:
    """A stream ends with the error of its model, which the library raises, as a call without a stream does."""
    model = f"simulated:fail={code}"

    async def chat() -> None:
        async for _ in await house.client.chat.completions.create(model=model, messages=[user("hi")], stream=True):
            pass

    async def responses() -> None:
        async for _ in await house.client.responses.create(model=model, input="hi", stream=True):
            pass

    for call in (chat, responses):
        with pytest.raises(APIError) as caught:
            await call()
        assert (type(caught.value), caught.value.code) == (APIError, code)


async def test_a_stream(house: House) -> None:
    """The library puts the text together from the chunks, and gets the tokens used if it asks for them."""
    text, usage = "", None
    stream = await house.client.chat.completions.create(
        model=MODEL, messages=[user("one two three")], stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    assert (text, usage is not None) == ("echo: one two three", True)


async def test_tools(house: House) -> None:
    """A call of a tool, streamed or not, is put together by the library, and its result is answered."""
    asked: Any = {"model": MODEL, "tools": [WEATHER], "messages": [user("call weather")]}
    called = (await house.client.chat.completions.create(**asked)).choices[0].message
    assert called.tool_calls
    async with house.client.chat.completions.stream(**asked) as stream:
        streamed = (await stream.get_final_completion()).choices[0].message
    assert [(call.function.name, call.function.arguments) for call in streamed.tool_calls or ()] == [
        ("weather", called.tool_calls[0].function.arguments)
    ]
    result: Any = {"role": "tool", "tool_call_id": called.tool_calls[0].id, "content": "rain"}
    dialogue = [*asked["messages"], called.model_dump(exclude_none=True), result]
    answered = await house.client.chat.completions.create(**{**asked, "messages": dialogue})
    assert answered.choices[0].message.content == "weather: rain"


async def test_a_schema(house: House) -> None:
    """An answer matches the schema that the library asks for."""
    schema: Any = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    answer = await house.client.chat.completions.create(
        model=MODEL, messages=[user("a number")], response_format=wanted
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)


async def test_models_and_files(house: House) -> None:
    """The library lists and gets models, agents among them, and works with files."""
    assert {MODEL, "agent:analyst"} <= {model.id async for model in house.client.models.list()}
    assert (await house.client.models.retrieve(MODEL)).owned_by == "simulated"
    file = await house.client.files.create(file=("a.txt", b"hello"), purpose="user_data")
    assert (await house.client.files.content(file.id)).content == b"hello"
    assert [each.id async for each in house.client.files.list()] == [file.id]
    assert (await house.client.files.delete(file.id)).deleted
    with pytest.raises(NotFoundError) as caught:
        await house.client.files.retrieve(file.id)
    assert caught.value.code == "file_not_found"


@pytest.mark.parametrize(
    ("model", "kind", "code", "status"),
    [
        ("simulated:fail=context_too_long", BadRequestError, "context_length_exceeded", 400),
        ("simulated:fail=content_filter", BadRequestError, "content_filter", 400),
        ("simulated:fail=unknown_model", NotFoundError, "model_not_found", 404),
        ("nobody", NotFoundError, "model_not_found", 404),
        ("simulated:fail=refused_by_provider", APIStatusError, "refused_by_provider", 424),
    ],
)
async def test_errors(house: House, model: str, kind: type[APIStatusError], code: str, status: int) -> None:
    """Each class of errors raises what the library has for it, with the code and the id of the call."""
    with pytest.raises(kind) as caught:
        await house.client.with_options(max_retries=2).chat.completions.create(model=model, messages=[user("hi")])
    error = caught.value
    assert (error.code, error.status_code, bool(error.request_id)) == (code, status, True)


async def test_a_failure_in_a_stream(house: House) -> None:
    """A failure after the stream has begun raises the library's error."""
    stream = await house.client.chat.completions.create(
        model="simulated:fail=content_filter,fail_after=2", messages=[user("one two three")], stream=True
    )
    with pytest.raises(APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "content_filter"


async def test_a_field_that_is_not_offered(house: House) -> None:
    """What is not offered is refused by name, also for helpers of the library that send it."""
    with pytest.raises(BadRequestError) as caught:
        await house.client.chat.completions.create(model=MODEL, messages=[user("hi")], n=3)
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "n")
    with pytest.raises(NotFoundError, match="not offered here"):
        await house.client.embeddings.create(model=MODEL, input="x")


async def test_credentials(house: House) -> None:
    """A key that may write is answered; one that is wrong, or may not, raises what the library has for it."""
    async with running_gateway(house.env, open_mode=False) as closed:
        url = f"{closed.url}/v1"
        reader, writer = await make_key(house.database, "read"), await make_key(house.database, "write", "read")
        async with ask(url, "wrong") as client, ask(url, reader) as may_read, ask(url, writer) as may_write:
            with pytest.raises(AuthenticationError):
                await client.models.list()
            answer = await may_write.chat.completions.create(model="agent:translation", messages=[user("hi")])
            assert answer.choices[0].message.content
            await may_read.models.list()
            with pytest.raises(PermissionDeniedError):
                await may_read.chat.completions.create(model=MODEL, messages=[user("hi")])


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_client_that_leaves(house: House, on_disconnect: str) -> None:
    """A client that closes its stream cancels the request, unless it asked for it to go on."""
    stream = await house.client.chat.completions.create(
        model=SLOW if on_disconnect == "cancel" else "simulated:tokens=3,gap_ms=300",
        messages=[user("hi")],
        stream=True,
        extra_body={} if on_disconnect == "cancel" else {"on_disconnect": "continue"},
    )
    chunk = await anext(stream)
    await stream.close()

    assert await house.ended(chunk.id, "cancelled" if on_disconnect == "cancel" else "completed")


async def test_a_client_that_leaves_a_plain_call(house: House) -> None:
    """A client that closes the connection of a call without a stream cancels the request, too."""
    marked: Any = {"model": SLOW, "messages": [user("hi")], "metadata": {"left": "plain"}}
    call = asyncio.create_task(house.client.chat.completions.create(**marked))

    async def status() -> str | None:
        found = await house.database.run("SELECT status FROM requests WHERE body -> 'metadata' ->> 'left' = 'plain'")
        return str(found[0].status) if found else None

    assert await eventually(status)
    call.cancel()

    async def cancelled() -> bool | None:
        return await status() == "cancelled"

    assert await eventually(cancelled)


async def test_a_worker_that_is_killed(house: House) -> None:
    """A plain call is answered by another worker; a stream that has sent text ends with an error, not with two."""
    slow = asyncio.create_task(
        house.client.chat.completions.create(model="simulated:latency_ms=2000", messages=[user("slow")])
    )
    stream = await house.client.chat.completions.create(
        model=SLOW, messages=[user("hi")], stream=True, extra_body={"on_disconnect": "continue"}
    )
    chunks = [await anext(stream) for _ in range(2)]
    assert chunks[1].choices[0].delta.content
    await house.worker.kill()
    # As if the lease had already expired: a test need not wait for that.
    await house.database.run("UPDATE workers SET lease_until = now()")
    house.worker = await house.services.worker()

    assert (await slow).choices[0].message.content == "echo: slow"
    with pytest.raises(APIError) as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "answer_restarted"
