"""Gateways inside the test's own event loop, and the work of a worker done by hand, step by step."""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from uuid import UUID, uuid4

import httpx

from gateway.app import create_app
from gateway.drain import Drain
from gateway.http.server import GatewayServer, bind
from gateway.settings import GatewaySettings
from gateway.timings import TIMINGS, Timings
from orchestra import transcript
from orchestra.agents.catalogue import Agents
from orchestra.http.event_stream import EventStream
from orchestra.incoming import Judge
from orchestra.kafka.clients import make_broker, make_producer, tail_reader
from orchestra.signing import EventSigner
from orchestra.store import claims, endings, intake, leases, progress
from orchestra.store.database import Database
from orchestra.store.endings import AttemptEnd, Items
from orchestra.store.turns import Announcement
from orchestra.transcript import Piece, items_of
from schemas import envelope, events
from schemas.envelope import DEFAULT_TENANT
from schemas.generation import Usage
from schemas.status import Status
from schemas.topics import EVENTS, REQUESTS
from tests.support.events import sign
from tests.support.stack import Stack
from workers.records import Cancel, Delete, RecordReader

_ENDINGS = {
    "completed": events.COMPLETED,
    "failed": events.FAILED,
    "cancelled": events.CANCELLED,
    "expired": events.EXPIRED,
}


async def own_env(stack: Stack) -> dict[str, str]:
    """A database of a test's own, and a secret: to a worker of another test its records are not signed."""
    return {**stack.env, "DATABASE_URL": await stack.fresh_database(), "ORCHESTRA_SECRET": secrets.token_hex(32)}


@dataclass
class Gateway:
    """A running gateway."""

    url: str
    drain: Drain
    client: httpx.AsyncClient


@asynccontextmanager
async def running_gateway(env: dict[str, str], timings: Timings = TIMINGS, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway on a free port, ready. ``settings`` go over the environment."""
    names = {name.lower(): value for name, value in env.items() if name != "LLM_PROVIDER"}
    made, drain = GatewaySettings.model_validate({**names, **settings}), Drain()
    app = create_app(made, drain=drain, timings=timings)
    server, listening = GatewayServer(app, drain, made.proxies), bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    serving = asyncio.create_task(server._serve([listening]))
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        try:
            await until_ready(client)
            yield Gateway(url, drain, client)
        finally:
            drain.begin()
            await serving


async def until_ready(client: httpx.AsyncClient) -> None:
    """Wait until a gateway is ready."""
    async with asyncio.timeout(30):
        while True:
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@dataclass
class HandWorker:
    """Reads ``llm.requests`` from now on, and does with each request just what the test says."""

    env: dict[str, str]
    id: UUID = field(default_factory=uuid4)
    turns: dict[UUID, claims.Claimed] = field(default_factory=dict)
    records: list[Any] = field(default_factory=list)
    # False: its events are those of a release before signatures.
    signs: bool = True

    async def __aenter__(self) -> Self:
        names = {name.lower(): value for name, value in self.env.items() if name != "LLM_PROVIDER"}
        settings = GatewaySettings.model_validate(names)
        self.database = Database.connect(settings, "hand worker")
        self._reader = _reader(settings.secrets)
        self._signer = EventSigner(settings.secrets)
        self._producer = make_producer(settings, "hand-worker")
        self._broker = make_broker(settings, "hand-worker")
        self._subscriber = tail_reader(self._broker, REQUESTS.name)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self.database.close)
            await self._producer.start()
            undo.push_async_callback(self._producer.stop)
            await self._broker.start()
            undo.push_async_callback(self._broker.stop)
            consumer: Any = self._subscriber.consumer
            for partition in consumer.assignment():
                await consumer.position(partition)
            await leases.register(self.database, self.id)
            self._undo = undo.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._undo.aclose()

    async def next_record(self) -> Any:
        """The next record that came in, read but not taken in."""
        consumer: Any = self._subscriber.consumer
        while not self.records:
            async with asyncio.timeout(20):
                found = await consumer.getmany(timeout_ms=200)
            self.records += sorted((r for batch in found.values() for r in batch), key=lambda r: r.timestamp)
        return self.records.pop(0)

    def takes_another_secret(self) -> None:
        """From now on it believes no gateway, as a worker with another ``ORCHESTRA_SECRET`` does."""
        self._reader = _reader([b"another" * 8])

    async def take_in(self) -> Any:
        """Take the next record in; what it asks for."""
        verdict = self._reader.read(await self.next_record())
        batch = intake.Batch()
        match verdict:
            case intake.NewRequest():
                batch.requests.append(verdict)
            case Cancel():
                batch.cancels.append(verdict.request)
            case Delete():
                batch.deletes.append(verdict.conversation)
            case _:
                batch.dead_letters.append(verdict)
        done = await intake.take_in(self.database, batch)
        await self.announce(done.announcements)
        return verdict

    async def begin(self, *, tell: bool = True) -> claims.Claimed:
        """Take the next record in, claim it and say that it has started."""
        request = await self.take_in()
        return await self.claim(request.id, tell=tell)

    async def claim(self, id: UUID, *, tell: bool = True) -> claims.Claimed:
        """Claim a request that is runnable."""
        for turn in await claims.claim(self.database, claims.ClaimOrder(self.id, 1000)):
            self.turns[turn.id] = turn
        turn = self.turns[id]
        if tell:
            value = {"attempt": turn.fence, "conversation_id": str(turn.conversation_id)}
            await self.event(turn, events.STARTED, value)
        return turn

    async def delta(self, turn: claims.Claimed, at: int, text: str) -> None:
        """Say a piece of text."""
        await self.event(turn, events.DELTA, {"attempt": turn.fence, "at": at, "text": text})

    async def piece(self, turn: claims.Claimed, at: int, piece: Piece) -> None:
        """Say a piece of any kind but text, at this unit of the answer."""
        value = {"attempt": turn.fence, "n": at, **asdict(piece)}
        await self.event(turn, events.PIECE, {name: each for name, each in value.items() if each != ""})

    async def answer(self, turn: claims.Claimed, pieces: list[Piece]) -> None:
        """Finish a turn with an answer that calls tools."""
        text = transcript.text_of(pieces)
        await self.complete(turn, text, items=Items(items_of(pieces) or [], 1), finish_reason="tool_calls")

    async def complete(self, turn: claims.Claimed, reply: str, *, tell: bool = True, **more: Any) -> None:
        """Finish a turn with a reply."""
        usage = Usage(input_tokens=3, output_tokens=len(reply))
        answer = {"said": [{"role": "user", "content": "hi"}], "reply": reply, "usage": usage, "finish_reason": "stop"}
        await self.end(turn, Status.COMPLETED, tell=tell, **{**answer, **more})

    async def end(self, turn: claims.Claimed, status: Status, *, tell: bool = True, **more: Any) -> None:
        """End a turn; or, with status pending, give it back."""
        ending = AttemptEnd(turn.tenant, turn.id, turn.conversation_id, turn.fence, status, **more)
        finished = await endings.finish(self.database, [ending])
        assert not finished.fenced
        del self.turns[turn.id]
        if tell:
            await self.announce(finished.announcements)

    async def expire(self) -> None:
        """End what is past its deadline."""
        await self.announce(await endings.expire(self.database, 1000))

    async def read_everything(self, moment: Any) -> None:
        """Say that intake has read all partitions up to a time."""
        marks = [
            progress.IntakeProgress(REQUESTS.name, partition, 0, moment) for partition in range(REQUESTS.partitions)
        ]
        await progress.note_progress(self.database, marks)

    async def announce(self, announcements: list[Announcement]) -> None:
        """Publish the events of endings."""
        for each in announcements:
            reply = json.loads(each.value)
            value = {"attempt": reply["attempts"]}
            if reply["status"] == "completed":
                names = ("reply", "usage", "finish_reason", "output")
                value |= {name: reply[name] for name in names if name in reply}
            if reply["status"] == "failed":
                value |= reply["error"]
            await self.publish(
                _ENDINGS[reply["status"]], each.tenant, each.request_id, each.headers["body_hash"], value
            )

    async def event(self, turn: claims.Claimed, kind: str, value: dict[str, Any]) -> None:
        """Publish an event of a turn."""
        await self.publish(kind, turn.tenant, turn.id, turn.body_hash, value)

    async def publish(self, kind: str, tenant: str, id: UUID, body_hash: str | None, value: dict[str, Any]) -> None:
        """Publish an event."""
        extra = ((envelope.TENANT, tenant), (envelope.BODY_HASH, body_hash))
        headers = envelope.write_headers(id=uuid4(), type=kind, source="/test", subject=str(id), extra=extra)
        raw, said = [(name, text.encode()) for name, text in headers], json.dumps(value).encode()
        if self.signs and body_hash is not None:
            raw = sign(self._signer, raw, said)
        await self._producer.send_and_wait(EVENTS.name, said, key=str(id).encode(), headers=raw)


@dataclass(frozen=True)
class Sse:
    """One server-sent event. ``id``: the last one that the stream has named."""

    name: str
    data: dict[str, Any]
    id: str | None = None


class Reader:
    """Reads the events of an open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._stream = EventStream(64 * 1024 * 1024)
        self._chunks = response.aiter_bytes()
        self._read: deque[Sse] = deque()

    async def next(self) -> Sse | None:
        """The next event; None at the end. Comments are passed over; a time to wait counts as an event."""
        async with asyncio.timeout(20):
            while not self._read:
                if (chunk := await anext(self._chunks, None)) is None:
                    return None
                events = self._stream.feed(chunk)
                self._read.extend(Sse(event.name, json.loads(event.data), event.id or None) for event in events)
                if self._stream.retry is not None:
                    self._read.append(Sse("retry", {"milliseconds": self._stream.retry}))
                    self._stream.retry = None
        return self._read.popleft()

    async def rest(self) -> list[Sse]:
        """All events until the end."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found

    async def until(self, name: str) -> list[Sse]:
        """The events up to the next of this name, which is the last of them."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
            if event.name == name:
                return found
        raise AssertionError(f"the stream ended before {name}: {found}")


@asynccontextmanager
async def streaming(client: httpx.AsyncClient, method: str, url: str, **more: Any) -> AsyncIterator[Reader]:
    """An open stream."""
    async with client.stream(method, url, **more) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "no-store" == response.headers["cache-control"]
        assert "nosniff" == response.headers["x-content-type-options"]
        yield Reader(response)


def text_of(told: list[Sse]) -> str:
    """The text that a caller has after these events, as the interface says how to read them."""
    text = ""
    for event in told:
        if event.name == "restart":
            text = event.data["text"]
        elif event.name == "delta":
            text += event.data["text"]
    return text


def _reader(secrets: list[bytes]) -> RecordReader:
    return RecordReader(
        Judge(secrets), Agents.load(None), {REQUESTS.name: DEFAULT_TENANT}, "llama3", require_signed=True
    )
