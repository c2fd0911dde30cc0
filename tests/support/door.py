"""A gateway whose Kafka and Postgres are the test's own, for calls of OpenAI's API."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import orjson

from benchmarks.guard.ends import Away, Consumer, Producer, Record, Settle
from benchmarks.guard.path import Tally
from gateway.app import create_app
from gateway.drain import Drain
from gateway.settings import GatewaySettings
from orchestra.store.database import Database
from orchestra.transcript import Piece, items_of, text_of
from schemas import envelope, events
from schemas.requests import MessageRequested
from tests.support.events import SIGNER, sign
from tests.support.records import SECRET

Told = tuple[str, dict[str, Any]]
USAGE = {"input_tokens": 21, "output_tokens": 5}


class FailingProducer(Producer):
    """Fails a send with ``error`` if there is one."""

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.error: Exception | None = None

    async def send(
        self, topic: str, value: bytes | None, *, key: bytes | None, headers: Sequence[tuple[str, bytes | None]]
    ) -> "asyncio.Future[None]":
        """Accept a record, or fail."""
        if self.error:
            raise self.error
        return await super().send(topic, value, key=key, headers=headers)


@dataclass
class Door:
    """A gateway, how it is shut down, and the ends of Kafka that it writes to and reads from."""

    app: Any
    drain: Drain
    client: httpx.AsyncClient
    producer: FailingProducer
    consumer: Consumer
    tally: Tally

    @property
    def record(self) -> MessageRequested:
        """The last request that was accepted, as a worker reads it."""
        return MessageRequested.model_validate_json(self.producer.value)

    @property
    def id(self) -> UUID:
        """Its id."""
        return UUID((self.producer.last[envelope.ID] or b"").decode())

    async def post(self, path: str, body: Any, told: Sequence[Told] = (), **headers: str) -> httpx.Response:
        """The response to a POST; these events follow once its request is accepted."""
        return await self.during(self.client.post(path, json=body, headers=headers), told)

    async def during(self, calling: Any, told: Sequence[Told]) -> Any:
        """The result of a call; these events follow once its request is accepted, and one after another."""
        accepted = self.tally.records + 1
        call = asyncio.ensure_future(calling)
        waiting = asyncio.ensure_future(self.producer.until(accepted))
        await asyncio.wait([call, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.tally.records >= accepted:
            for kind, value in told:
                await Settle()
                self.tell(kind, value)
        return await call

    def tell(self, kind: str, value: dict[str, Any], *, signed: bool = True) -> None:
        """One event of the last request, as a worker writes it."""
        id, body_hash = str(self.id), self.record.body_hash()
        extra = ((envelope.TENANT, envelope.DEFAULT_TENANT), (envelope.BODY_HASH, body_hash))
        written = envelope.write_headers(id=id, type=kind, source="/workers", subject=id, extra=extra)
        raw, headers = orjson.dumps(value), [(name, text.encode()) for name, text in written]
        self.consumer.queue.put_nowait(Record(id.encode(), raw, sign(SIGNER, headers, raw) if signed else headers))


@asynccontextmanager
async def open_door(database: Database | None = None, **settings: Any) -> AsyncIterator[Door]:
    """A running gateway. ``database`` None: Postgres is away."""
    made = GatewaySettings.model_validate({"orchestra_secret": SECRET.decode(), **settings})
    tally, consumer = Tally(), Consumer()
    producer, drain = FailingProducer(tally), Drain()
    database = database or Away.connect(made, "test")
    app = create_app(made, drain=drain, database=database, producer=producer.opened, consumer=consumer.opened)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as client,
    ):
        await Settle()
        yield Door(app, drain, client, producer, consumer, tally)


def answered(pieces: Sequence[Piece], finish_reason: str = "stop", attempt: int = 1, **usage: int) -> list[Told]:
    """The events of an attempt that answers with these pieces."""
    return [*told(pieces, attempt), completed(pieces, finish_reason, attempt, **usage)]


def told(pieces: Sequence[Piece], attempt: int = 1) -> list[Told]:
    """The events of an attempt that has not ended."""
    found: list[Told] = [(events.STARTED, {"attempt": attempt, "conversation_id": str(UUID(int=1))})]
    at = chars = 0
    for piece in pieces:
        if piece.kind == "text":
            place = {} if at == chars else {"n": at}
            found.append((events.DELTA, {"attempt": attempt, "at": chars, "text": piece.text, **place}))
            chars += len(piece.text)
        else:
            more: dict[str, Any] = {"text": piece.text}
            if piece.kind == "tool_call":
                more = {"index": piece.index, "call_id": piece.call_id, "name": piece.name}
            elif piece.kind == "tool_arguments":
                more["index"] = piece.index
            found.append((events.PIECE, {"attempt": attempt, "n": at, "kind": piece.kind, **more}))
        at += piece.units
    return found


def completed(pieces: Sequence[Piece], finish_reason: str = "stop", attempt: int = 1, **usage: int) -> Told:
    """The event of an answer that is whole."""
    value: dict[str, Any] = {"attempt": attempt, "reply": text_of(pieces), "usage": {**USAGE, **usage}}
    if output := items_of(pieces):
        value["output"] = output
    return events.COMPLETED, {**value, "finish_reason": finish_reason}


def failed(code: str, detail: str = "it failed", attempt: int = 1) -> Told:
    """The event of a request that failed."""
    return events.FAILED, {"attempt": attempt, "code": code, "detail": detail}
