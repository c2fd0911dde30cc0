"""Promises of gateway/disconnects.py and gateway/http/leaving.py: what becomes of a request whose client left."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.disconnects import Disconnects
from gateway.drain import Drain
from gateway.following.live import Ending, LiveRequest
from gateway.http.leaving import EventStreamResponse, unless_left
from gateway.metrics import Metrics
from gateway.people.principal import Principal, nameless
from gateway.submission import Submission
from gateway.timings import Timings
from schemas.api.messages import PostMessage
from schemas.errors import ErrorCode, OrchestraError
from schemas.status import Status
from tests.support.fakes import steps

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}


def submission() -> Submission:
    body = PostMessage.model_validate(HELLO)
    return Submission(nameless("ada"), uuid4(), body, body.body_hash(), "trace", caller_waits=True)


@dataclass
class World:
    """Disconnects whose cancels are kept; the first of them fail with ``errors``."""

    errors: list[OrchestraError] = field(default_factory=list)
    cancelled: list[tuple[str, UUID, UUID | None]] = field(default_factory=list)
    held: asyncio.Event | None = None
    drain: Drain = field(default_factory=Drain)
    live: LiveRequest = field(default_factory=LiveRequest)
    submission: Submission = field(default_factory=submission)

    def __post_init__(self) -> None:
        acceptance: Any = self
        self.disconnects = Disconnects(acceptance, self.drain, Metrics(), Timings(retry_cancel=0.001))
        self.left = self.disconnects.cancel(self.submission, self.live)

    async def cancel(self, caller: Principal, request_id: UUID, conversation_id: UUID | None) -> None:
        if self.held:
            await self.held.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.cancelled.append((caller.user, request_id, conversation_id))

    @property
    def one(self) -> list[tuple[str, UUID, UUID | None]]:
        """What is kept once the request was cancelled."""
        return [("ada", self.submission.id, self.submission.conversation_id)]


@pytest.fixture
async def world() -> World:
    return World()


class Client:
    """A client that leaves when the test says so."""

    def __init__(self, *, gone: bool = False) -> None:
        self._gone = asyncio.Event()
        self.received: list[Message] = []
        if gone:
            self._gone.set()

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.received.append(message)

    async def send_broken(self, _: Message) -> None:
        raise OSError("the connection is closed")

    async def read(self, response: EventStreamResponse, spec: str = "2.3") -> None:
        scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": spec}}
        await response(scope, self.receive, self.send if spec == "2.3" else self.send_broken)


async def never() -> str:
    await asyncio.Event().wait()
    return "done"


async def test_a_client_that_leaves_its_waiting_call(world: World) -> None:
    """The request is cancelled for its owner, in its conversation, and the call ends as before."""
    client = Client()
    waiting = asyncio.create_task(unless_left(client.receive, never(), world.left))
    await steps()
    client.leave()

    with pytest.raises(ClientDisconnect):
        await waiting
    await steps()
    assert world.one == world.cancelled


async def test_a_client_that_stays_or_lets_it_go_on(world: World) -> None:
    """Nothing is cancelled for a client that got its result, nor for one that did not ask for it."""

    async def work() -> str:
        return "done"

    assert "done" == await unless_left(Client().receive, work(), world.left)
    with pytest.raises(ClientDisconnect):
        await unless_left(Client(gone=True).receive, never(), None)
    await steps()
    assert [] == world.cancelled


async def test_an_error_is_not_a_client_that_leaves(world: World) -> None:
    """A wait or a stream that fails by itself, as when the caller loses its access, cancels nothing."""

    async def fail() -> str:
        raise OrchestraError(ErrorCode.UNAUTHORIZED)

    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise OrchestraError(ErrorCode.INTERNAL)

    with pytest.raises(OrchestraError):
        await unless_left(Client().receive, fail(), world.left)
    with pytest.raises(OrchestraError):
        await Client().read(EventStreamResponse(failing(), left=world.left))
    await steps()
    assert [] == world.cancelled


class Chunks:
    """A stream that says one thing and then waits; knows whether it was closed."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.closed = False

    async def told(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            self.begun.set()
            await never()
        finally:
            self.closed = True


async def test_a_client_that_leaves_its_stream(world: World) -> None:
    """The request is cancelled and the generator closed, when the client leaves in the middle of the stream."""
    client, chunks = Client(), Chunks()
    reading = asyncio.create_task(client.read(EventStreamResponse(chunks.told(), left=world.left)))
    await chunks.begun.wait()
    client.leave()
    await reading
    await steps()

    assert (world.one, True) == (world.cancelled, chunks.closed)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
async def test_a_client_that_left_before_the_stream_began(world: World, spec: str) -> None:
    """A stream that never started, or whose first write fails, cancels as well; there is no generator to notice it."""
    client, response = Client(gone=True), EventStreamResponse(Chunks().told(), left=world.left)
    if spec == "2.4":
        with pytest.raises(ClientDisconnect):
            await client.read(response, spec)
    else:
        await client.read(response, spec)
    await steps()

    assert world.one == world.cancelled


async def test_a_stream_that_ends_by_itself(world: World) -> None:
    """A stream that was sent to its end cancels nothing, whatever it ended with."""

    async def told() -> AsyncGenerator[bytes, None]:
        yield b"retry: 500\n\n"

    client = Client()
    await client.read(EventStreamResponse(told(), {"Location": "/x"}, world.left))
    await steps()

    start = dict(client.received[0]["headers"])
    assert (b"text/event-stream; charset=utf-8", b"no-store", b"/x") == (
        start[b"content-type"], start[b"cache-control"], start[b"location"]
    )  # fmt: skip
    assert [] == world.cancelled


async def test_a_complete_answer_is_not_cancelled(world: World) -> None:
    """A client that leaves once its answer is complete, as many do at the last event, cancels nothing."""
    world.live.finish(Ending(Status.COMPLETED, 1, "hi"))
    world.left()
    await steps()
    assert [] == world.cancelled


async def test_a_gateway_that_drains_is_not_a_client_that_leaves(world: World) -> None:
    """Connections that close during the shutdown leave their requests running."""
    world.drain.begin()
    world.left()
    await steps()
    assert [] == world.cancelled


async def test_the_request_of_another_body(world: World) -> None:
    """A call that reused a key for another body does not cancel the request that has that key."""
    world.live.body_hash = "another"
    world.left()
    await steps()
    assert [] == world.cancelled


async def test_a_cancel_is_tried_again(world: World) -> None:
    """While Kafka does not take the cancel it is tried again, a bounded number of times."""
    world.errors = [OrchestraError(ErrorCode.UNAVAILABLE), OrchestraError(ErrorCode.OUTCOME_UNKNOWN)]
    world.left()
    await world.disconnects.close()
    assert world.one == world.cancelled

    refused = World([OrchestraError(ErrorCode.UNAVAILABLE)] * 100)
    refused.left()
    await refused.disconnects.close()
    assert (95, []) == (len(refused.errors), refused.cancelled)


async def test_a_drain_waits_for_cancels_on_their_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown waits for cancels that began before it, and for none of them without end."""
    world.held = asyncio.Event()
    world.left()
    await steps()
    world.drain.begin()
    closing = asyncio.create_task(world.disconnects.close())
    await steps()
    assert not closing.done()
    world.held.set()
    await closing
    assert world.one == world.cancelled

    monkeypatch.setattr("gateway.disconnects._CLOSE_SECONDS", 0.001)
    stuck = World(held=asyncio.Event())
    stuck.left()
    await stuck.disconnects.close()
    await steps()
    assert [] == stuck.cancelled
