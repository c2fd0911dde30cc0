"""OpenAI's Responses and Conversations APIs on real Kafka and Postgres, with OpenAI's own client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from gateway.openai import responses
from orchestra.store import messages
from orchestra.store.endings import Items
from orchestra.store.messages import Recall
from orchestra.store.turns import ConversationRef
from orchestra.transcript import Piece, items_of, text_of, units_of
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ErrorCode
from schemas.status import Status
from tests.support.gateway import Gateway, HandWorker, own_env, running_gateway
from tests.support.stack import Stack
from workers.body import TurnBody

_Result = TypeVar("_Result")
TOOL: Any = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
ANSWER = [
    Piece("text", "let me "),
    Piece("text", "look"),
    Piece("tool_call", "", 0, "call_1", "weather"),
    Piece("tool_arguments", '{"city": ', 0),
    Piece("tool_arguments", '"Oslo"}', 0),
]
RESULT: Any = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}


@pytest.fixture(scope="module")
async def env(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {**await own_env(stack), "FILES_URL": (tmp_path_factory.mktemp("home") / "files").as_uri()}


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{gateway.url}/openai/v1", api_key="none", max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
async def gateway(env: dict[str, str]) -> AsyncIterator[Gateway]:
    async with running_gateway(env) as started:
        yield started


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with client_of(gateway) as opened:
        yield opened


async def say(worker: HandWorker, turn: Any, pieces: list[Piece]) -> None:
    at = 0
    for piece in pieces:
        if piece.kind == "text":
            await worker.delta(turn, at, piece.text)
        else:
            await worker.piece(turn, at, piece)
        at += piece.units


async def answer(worker: HandWorker, pieces: list[Piece] | str, **more: Any) -> Any:
    """Take the next request in and answer it as a worker does."""
    pieces = [Piece("text", pieces)] if isinstance(pieces, str) else pieces
    turn = await worker.begin()
    await say(worker, turn, pieces)
    said = TurnBody.model_validate(turn.body).said()
    if units_of(pieces) > len(text_of(pieces)):
        more = {"items": Items(items_of(pieces) or [], 1), "finish_reason": "tool_calls", **more}
    await worker.complete(turn, text_of(pieces), **{"said": said, **more})
    return turn


async def beside(call: Awaitable[_Result], work: Awaitable[Any]) -> _Result:
    """The result of a call, while a worker works."""
    task = asyncio.ensure_future(call)
    await work
    return await task


async def create(client: AsyncOpenAI, worker: HandWorker, text: Any, reply: Any = "sure", **more: Any) -> Response:
    call = client.responses.create(model="simulated", input=text, **more)
    return await beside(call, answer(worker, reply))


def dumped(events: list[Any]) -> list[dict[str, Any]]:
    """Events to compare; the second in which a response was completed depends on the gateway that tells it."""
    found = [event.to_dict(mode="json") for event in events]
    for event in found:
        event.get("response", {}).pop("completed_at", None)
    return found


async def history(worker: HandWorker, response_id: str) -> list[tuple[str, str]]:
    ref = ConversationRef(DEFAULT_TENANT, UUID(response_id.removeprefix("resp_")))
    found = await messages.recall(worker.database, [Recall(ref, 100_000)])
    return [(message.role, message.text) for message in found.get(ref, [])]


async def test_a_response_is_answered(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A plain call gives the whole response, which can be fetched, as can its input; after its deletion it is gone."""
    made = await create(client, worker, "hi", "Hello you", instructions="Be brief.", metadata={"a": "b"})

    assert ("completed", "Hello you", "Be brief.") == (made.status, made.output_text, made.instructions)
    kept = await client.responses.retrieve(made.id)
    assert kept.completed_at is not None
    assert made.to_dict() | {"completed_at": 0} == kept.to_dict() | {"completed_at": 0}
    items = (await client.responses.input_items.list(made.id)).data
    assert [("user", "hi")] == [(item.role, item.content[0].text) for item in items]  # type: ignore[union-attr,index]

    await client.responses.delete(made.id)
    for call in (client.responses.retrieve, client.responses.input_items.list, client.responses.delete):
        with pytest.raises(openai.NotFoundError):
            await call(made.id)


async def test_a_stream_tells_text_and_calls(client: AsyncOpenAI, worker: HandWorker) -> None:
    """The SDK's stream helper follows a response with a tool call, and its result is a new response that sees both."""
    working = asyncio.ensure_future(answer(worker, ANSWER))
    async with client.responses.stream(model="simulated", input="weather?", tools=[TOOL]) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    await working

    assert ["response.created", "response.in_progress"] == [event.type for event in events[:2]]
    assert ["message", "function_call"] == [item.type for item in final.output]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    after = await create(client, worker, [RESULT], "It rains", previous_response_id=final.id, tools=[TOOL])
    assert [("user", "weather?"), ("assistant", "let me look"), ("tool", "rain"), ("assistant", "It rains")] == (
        await history(worker, after.id)
    )


async def test_items_are_named_instead_of_sent(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A client that carries its own history may name stored items; an unknown one is refused."""
    made = await create(client, worker, "weather?", ANSWER, tools=[TOOL])
    named: Any = [{"type": "item_reference", "id": item.id} for item in made.output]

    turns = []
    call = client.responses.create(model="simulated", input=[{"role": "user", "content": "weather?"}, *named, RESULT])

    async def work() -> None:
        turns.append(await answer(worker, "It rains"))

    await beside(call, work())
    [user, said, result] = turns[0].body["messages"]
    assert ("weather?", "let me look", "call_1", "rain") == (
        user["content"], said["content"], said["tool_calls"][0]["id"], result["content"],
    )  # fmt: skip
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(input=[{"type": "item_reference", "id": "msg_" + "0" * 36}])


async def test_a_background_response_is_resumed_anywhere(
    env: dict[str, str], client: AsyncOpenAI, worker: HandWorker
) -> None:
    """A background response is queued at once; a gateway that started after its end tells exactly the same events."""
    stream = await client.responses.create(model="simulated", input="hi", background=True, stream=True)
    first = await anext(stream)
    assert ("response.created", "queued") == (first.type, first.response.status)  # type: ignore[union-attr]
    response_id = first.response.id  # type: ignore[union-attr]
    await answer(worker, ANSWER)
    told = [first, *[event async for event in stream]]

    assert "response.queued" == told[1].type
    async with running_gateway(env) as late, client_of(late) as other:
        for after in (None, 0, 4, told[-2].sequence_number):
            more: Any = {} if after is None else {"starting_after": after}
            again = await other.responses.retrieve(response_id, stream=True, **more)
            rest = [event async for event in again]
            assert dumped(rest) == dumped(told[0 if after is None else after + 1 :])


async def test_children_of_one_response_see_only_their_own_history(client: AsyncOpenAI, worker: HandWorker) -> None:
    """Two responses that go on from the same one are branches: neither sees what the other said."""
    parent = await create(
        client, worker, [{"role": "developer", "content": "rhyme"}, {"role": "user", "content": "a"}], "A"
    )
    left = await create(client, worker, "b", "B", previous_response_id=parent.id)
    right = await create(client, worker, "c", "C", previous_response_id=parent.id)
    leaf = await create(client, worker, "d", "D", previous_response_id=left.id)

    common = [("developer", "rhyme"), ("user", "a"), ("assistant", "A")]
    assert [*common, ("user", "c"), ("assistant", "C")] == await history(worker, right.id)
    assert [*common, ("user", "b"), ("assistant", "B"), ("user", "d"), ("assistant", "D")] == (
        await history(worker, leaf.id)
    )
    assert parent.id == left.previous_response_id


async def test_history_that_a_client_sent_is_part_of_what_follows(client: AsyncOpenAI, worker: HandWorker) -> None:
    """Answers in the input of a response are stored nowhere else; a response that goes on from it has them."""
    told: Any = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "A"), ("user", "b"))]
    parent = await create(client, worker, told, "B", instructions="only there")
    turns = []

    async def work() -> None:
        turns.append(await answer(worker, "C"))

    call = client.responses.create(model="simulated", input="c", previous_response_id=parent.id, instructions="here")
    child = await beside(call, work())

    said = [(message["role"], message["content"]) for message in turns[0].body["messages"]]
    assert [
        ("system", "here"),
        ("user", "a"),
        ("assistant", "A"),
        ("user", "b"),
        ("assistant", "B"),
        ("user", "c"),
    ] == said
    items = (await client.responses.input_items.list(child.id, order="asc")).data
    assert "c" == items[-1].content[0].text  # type: ignore[union-attr,index]


async def test_only_an_answered_response_is_a_parent(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A response that is unknown, not ended, failed or not stored is no parent, and each is refused with its code."""
    unstored = await create(client, worker, "hi", store=False)
    running = await client.responses.create(model="simulated", input="hi", background=True)
    turn = await worker.begin()
    reasons = []
    for parent in (unstored.id, running.id, "resp_" + "0" * 32, "resp_of_another"):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.responses.create(model="simulated", input="on", previous_response_id=parent)
        reasons.append((refused.value.code, refused.value.param))
    await worker.end(turn, Status.FAILED, error=(ErrorCode.TIMEOUT, "it was silent"))
    failed = await client.responses.retrieve(running.id)
    with pytest.raises(openai.BadRequestError):
        await client.responses.create(model="simulated", input="on", previous_response_id=running.id)

    missing = ("previous_response_not_found", "previous_response_id")
    assert [missing, ("previous_response_not_ready", "previous_response_id"), missing, missing] == reasons
    assert ("failed", "server_error") == (failed.status, failed.error and failed.error.code)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unstored.id)


async def test_a_background_response_is_cancelled(client: AsyncOpenAI, worker: HandWorker) -> None:
    """Cancelling ends it, as often as it is asked; a response that is not in the background cannot be cancelled."""
    made = await client.responses.create(model="simulated", input="hi", background=True)
    assert "queued" == made.status
    await worker.take_in()

    cancelled = await beside(client.responses.cancel(made.id), worker.take_in())

    assert "cancelled" == cancelled.status
    assert "cancelled" == (await client.responses.cancel(made.id)).status
    plain = await create(client, worker, "hi")
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(plain.id)


async def test_a_conversation_has_the_items_of_its_responses(client: AsyncOpenAI, worker: HandWorker) -> None:
    """Items that were added come before a response, its own come behind them, and each can be read and deleted."""
    first: Any = {"type": "message", "role": "user", "content": "my name is Ada"}
    conversation = await client.conversations.create(items=[first], metadata={"topic": "names"})
    made = await create(client, worker, "who am I?", "Ada", conversation=conversation.id)
    assert conversation.id == (made.conversation and made.conversation.id)

    added = await client.conversations.items.create(conversation.id, items=[{"role": "assistant", "content": "Bye"}])
    listed = await client.conversations.items.list(conversation.id, order="asc", limit=2)
    items = [item async for item in listed]
    texts = ["my name is Ada", "who am I?", "Ada", "Bye"]
    assert texts == [item.content[0].text for item in items]  # type: ignore[union-attr,index]
    assert (made.output[0].id, added.data[0].id) == (items[2].id, items[3].id)
    newest = await client.conversations.items.list(conversation.id)
    assert [item.id for item in items[::-1]] == [item.id for item in newest.data]
    one = await client.conversations.items.retrieve(items[0].id or "", conversation_id=conversation.id)
    assert items[0] == one

    branch = await create(client, worker, "and now?", "Still Ada", previous_response_id=made.id)
    assert [*texts[:3], "and now?", "Still Ada"] == [text for _, text in await history(worker, branch.id)]

    await client.conversations.items.delete(items[1].id or "", conversation_id=conversation.id)
    left = await client.conversations.items.list(conversation.id, order="asc")
    assert [items[0].id, items[2].id, items[3].id] == [item.id for item in left.data]
    changed = await client.conversations.update(conversation.id, metadata={"topic": "people"})
    assert {"topic": "people"} == changed.metadata
    await client.conversations.delete(conversation.id)
    for call in (client.conversations.retrieve, client.conversations.items.list, client.conversations.delete):
        with pytest.raises(openai.NotFoundError):
            await call(conversation.id)


async def test_one_call_of_many_is_deleted(client: AsyncOpenAI, worker: HandWorker) -> None:
    """An answer of several items loses one of them, and the others keep their ids."""
    conversation = await client.conversations.create()
    made = await create(client, worker, "weather?", ANSWER, conversation=conversation.id, tools=[TOOL])

    await client.conversations.items.delete(made.output[0].id or "", conversation_id=conversation.id)

    left = (await client.conversations.items.list(conversation.id)).data
    assert ["function_call", "message"] == [item.type for item in left]
    assert made.output[1].id == left[0].id


async def test_a_branch_has_the_items_that_it_begins_with(
    client: AsyncOpenAI, gateway: Gateway, worker: HandWorker
) -> None:
    """They are listed and read like its own, and deleted only where they are stored."""
    conversation = await client.conversations.create()
    made = await create(client, worker, "who am I?", "Ada", conversation=conversation.id)
    path = f"/v1/conversations/{UUID(conversation.id.removeprefix('conv_'))}/branch"
    branch = "conv_" + UUID((await gateway.client.post(path)).json()["id"]).hex
    await create(client, worker, "really?", "Yes", conversation=branch)
    await create(client, worker, "unseen", "Hm", conversation=conversation.id)

    texts = ["who am I?", "Ada", "really?", "Yes"]
    for limit in (1, 2, 100):
        for order in ("asc", "desc"):
            found = [item async for item in client.conversations.items.list(branch, order=order, limit=limit)]  # type: ignore[arg-type]
            assert texts[:: 1 if order == "asc" else -1] == [item.content[0].text for item in found]  # type: ignore[union-attr,index]
    inherited = made.output[0].id or ""
    one = await client.conversations.items.retrieve(inherited, conversation_id=branch)
    assert inherited == one.id  # type: ignore[union-attr]
    with pytest.raises(openai.BadRequestError, match="delete it there"):
        await client.conversations.items.delete(inherited, conversation_id=branch)
    await client.conversations.items.delete(inherited, conversation_id=conversation.id)
    assert 3 == len((await client.conversations.items.list(branch)).data)


async def test_a_conversation_of_a_response_cannot_be_named(client: AsyncOpenAI, worker: HandWorker) -> None:
    """The conversation behind a single response is hidden from its client."""
    made = await create(client, worker, "hi")
    hidden = "conv_" + made.id.removeprefix("resp_")

    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(hidden)
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="simulated", input="hi", conversation=hidden)


async def test_a_failure_after_acceptance_is_not_retried(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A response that fails while its client waits is an error that no SDK repeats."""
    call = asyncio.ensure_future(client.responses.create(model="simulated", input="hi"))
    turn = await worker.begin()
    await worker.end(turn, Status.FAILED, error=(ErrorCode.BAD_UPSTREAM, "no answer"))

    with pytest.raises(openai.APIStatusError) as failed:
        await call
    assert (424, "false") == (failed.value.status_code, failed.value.response.headers["x-should-retry"])


async def test_an_idempotency_key_makes_one_response(client: AsyncOpenAI, worker: HandWorker) -> None:
    """Calls that go on from the same response with one key are one response, whichever is repeated."""
    parent = await create(client, worker, "a", "A")
    more: Any = {"previous_response_id": parent.id, "extra_headers": {"Idempotency-Key": f"on-{parent.id}"}}

    one = await create(client, worker, "b", "B", **more)
    two = await client.responses.create(model="simulated", input="b", **more)

    assert one.id == two.id
    assert "B" == two.output_text


async def test_a_late_worker_hides_no_response(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A response whose record no worker has read yet is queued."""
    made = await client.responses.create(model="simulated", input="hi", background=True)

    assert "queued" == (await client.responses.retrieve(made.id)).status
    await worker.take_in()


async def test_what_depends_on_how_a_response_was_asked_for_waits_until_that_is_known(
    monkeypatch: pytest.MonkeyPatch, client: AsyncOpenAI, worker: HandWorker
) -> None:
    """Until a worker has read its record, no number of an event is guessed, and no cancel is refused for good."""
    monkeypatch.setattr(responses, "_ROW_SECONDS", 0.0)
    made = await client.responses.create(model="simulated", input="hi", background=True)
    for call in (client.responses.retrieve(made.id, stream=True), client.responses.cancel(made.id)):
        with pytest.raises(openai.InternalServerError) as refused:
            await call
        assert 503 == refused.value.status_code
    await answer(worker, "sure")
    told = [event.type async for event in await client.responses.retrieve(made.id, stream=True)]

    assert ["response.created", "response.queued", "response.in_progress"] == told[:3]


async def test_a_large_response_is_shown_whole(client: AsyncOpenAI, worker: HandWorker) -> None:
    """A response whose input exceeds a record is shown with all that it was asked for, now and later."""
    long = "lorem ipsum " * 250_000
    made = await client.responses.create(input=long, instructions="Be brief.", background=True, tools=[TOOL])
    await worker.take_in()

    kept = await client.responses.retrieve(made.id)
    assert (made.to_dict(), "Be brief.") == (kept.to_dict(), kept.instructions)
    [item] = (await client.responses.input_items.list(made.id)).data
    assert long == item.content[0].text  # type: ignore[union-attr,index]
