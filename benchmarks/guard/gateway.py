"""The gateway's hot paths, called as uvicorn calls it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import orjson
from starlette.types import Message

from benchmarks.guard.ends import Away, Consumer, Producer, Record, Settle
from benchmarks.guard.path import Run, Tally, one_by_one
from gateway.app import create_app
from gateway.settings import GatewaySettings
from orchestra.signing import EventSigner
from schemas import envelope, events
from schemas.api.messages import PostMessage
from schemas.ids import conversation_id_for_request
from schemas.requests import MessageRequested

SECRET = "s" * 32
_MESSAGES, _CHAT = "/v1/messages", "/openai/v1/chat/completions"
_HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"user-agent", b"guard"),
    (b"accept", b"*/*"),
    (b"content-type", b"application/json"),
]
QUESTION = "Why is the sky blue, and why is it red in the evening? Answer in two sentences, please. " * 4
PIECE = "A piece of text. "


class _Gateway:
    """An app whose ends are under our control."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._producer, self._consumer = Producer(tally), Consumer()
        settings = GatewaySettings.model_validate({"orchestra_secret": SECRET})
        self._signer = EventSigner(settings.secrets)
        self.app = create_app(
            settings,
            database=Away.connect(settings, "guard"),
            producer=self._producer.opened,
            consumer=self._consumer.opened,
        )

    async def ask(self, pieces: int, *, stream: bool, path: str = _MESSAGES) -> None:
        """One POST, answered by this many pieces of text, one after another."""
        body = orjson.dumps({"messages": [{"role": "user", "content": QUESTION}], "stream": stream})
        call = _Call(body, path)
        accepted = self._tally.records + 1
        asking = asyncio.ensure_future(self.app(call.scope, call.receive, call.send))
        await self._producer.until(accepted)
        await Settle()
        record = PostMessage.model_validate_json(body) if path == _MESSAGES else self._record()
        await self._reply(UUID((self._producer.last[envelope.ID] or b"").decode()), record.body_hash(), pieces)
        await asking
        assert call.answer[0]["status"] == 200, call.answer
        assert b"".join(part["body"] for part in call.answer[1:]).count(PIECE.encode()) >= pieces

    def _record(self) -> MessageRequested:
        """The last request, as a worker reads it."""
        return MessageRequested.model_validate_json(self._producer.value)

    async def _reply(self, id: UUID, body_hash: str, pieces: int) -> None:
        started = {"attempt": 1, "conversation_id": str(conversation_id_for_request(id))}
        told: list[tuple[str, dict[str, Any]]] = [(events.STARTED, started)]
        told += [(events.DELTA, {"attempt": 1, "at": at * len(PIECE), "text": PIECE}) for at in range(pieces)]
        usage = {"input_tokens": 90, "output_tokens": pieces}
        told.append((events.COMPLETED, {"attempt": 1, "reply": PIECE * pieces, "usage": usage}))
        extra = ((envelope.TENANT, envelope.DEFAULT_TENANT), (envelope.BODY_HASH, body_hash))
        for kind, value in told:
            written = envelope.write_headers(id=id, type=kind, source="/workers", subject=str(id), extra=extra)
            headers, key, raw = [(name, text.encode()) for name, text in written], str(id).encode(), orjson.dumps(value)
            signature = self._signer.sign(
                kind.encode(), key, body_hash.encode(), envelope.DEFAULT_TENANT.encode(), raw
            )  # fmt: skip
            self._consumer.queue.put_nowait(Record(key, raw, [*headers, (envelope.SIGNATURE, signature)]))
            await Settle()


class _Call:
    """One HTTP call as uvicorn passes it on."""

    def __init__(self, body: bytes, path: str) -> None:
        self.answer: list[Message] = []
        self._body = [body]
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": [*_HEADERS, (b"content-length", b"%d" % len(body))], "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8080), "state": {},
        }  # fmt: skip

    async def receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        leaving: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        return await leaving  # The caller never leaves.

    async def send(self, message: Message) -> None:
        self.answer.append(message)


@asynccontextmanager
async def _running(tally: Tally) -> AsyncIterator[_Gateway]:
    made = _Gateway(tally)
    async with made.app.router.lifespan_context(made.app):
        await Settle()
        yield made


@asynccontextmanager
async def request(tally: Tally) -> AsyncIterator[Run]:
    """A POST that waits for its reply."""
    async with _running(tally) as gateway:
        yield one_by_one(partial(gateway.ask, 1, stream=False))


@asynccontextmanager
async def delta(tally: Tally) -> AsyncIterator[Run]:
    """A piece of text on its way from Kafka to a client that reads a stream."""
    async with _running(tally) as gateway:

        async def run(times: int) -> None:
            await gateway.ask(times, stream=True)

        yield run


@asynccontextmanager
async def chunk(tally: Tally) -> AsyncIterator[Run]:
    """A piece of text on its way from Kafka to a client that reads a streamed chat completion."""
    async with _running(tally) as gateway:

        async def run(times: int) -> None:
            await gateway.ask(times, stream=True, path=_CHAT)

        yield run
