"""The ways to ask: wait for the reply, poll for it, stream it, produce to Kafka, use OpenAI's APIs, call the model."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.cells import Kind
from benchmarks.question import MODEL, Asking, answer, conversation, question
from orchestra.http.event_stream import EventStream
from orchestra.kafka.clients import make_producer
from orchestra.settings import KafkaSettings
from schemas import envelope
from schemas.status import Status
from schemas.topics import REPLIES, REQUESTS

LONG_POLL_SECONDS = 30


class WrongReplyError(Exception):
    """The reply is not the caller's own."""


class RefusedError(Exception):
    """There is no reply, or one that says why not. The text is short and has no details of a single request."""


class Caller(Protocol):
    """Asks one question, and checks that the answer is its own."""

    async def ask(self, number: int) -> float:
        """Return once the whole answer has arrived: when its first part did (``time.perf_counter``).

        Raises ``WrongReplyError``, ``RefusedError``, or errors of the client library.
        """


class _Asker:
    """What all callers share. ``tokens``: the length of each answer."""

    def __init__(self, asking: Asking, tokens: int) -> None:
        self._tag = asking.tag
        self._keys = asking.keys
        self._goes_on = asking.goes_on
        self._tokens = tokens

    def _body(self, number: int) -> bytes:
        body: dict[str, Any] = {"messages": [{"role": "user", "content": question(self._tag, number)}]}
        if self._goes_on:
            body["conversation_id"] = conversation(self._tag, number)
        return orjson.dumps(body)

    def _check(self, number: int, reply: str | None) -> None:
        if reply != answer(question(self._tag, number), self._tokens):
            raise WrongReplyError


class _Http(_Asker):
    def __init__(self, asking: Asking, tokens: int, session: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        super().__init__(asking, tokens)
        self._session = session
        self._urls = urls

    def _url(self, number: int) -> str:
        return self._urls[number % len(self._urls)]

    def _headers(self, number: int, **more: str) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self._keys[number % len(self._keys)]}"} if self._keys else {}
        return {"Content-Type": "application/json", **key, **more}

    async def _call(self, method: str, url: str, status: int, **more: Any) -> tuple[dict[str, Any], Any]:
        """The document and the headers of a response with this status."""
        async with self._session.request(method, url, **more) as response:
            document: dict[str, Any] = orjson.loads(await response.read())
            if response.status != status:
                raise RefusedError(f"{response.status} {document.get('code', '')}".strip())
            return document, response.headers

    async def _follow(self, url: str, body: bytes, headers: dict[str, str], mark: bytes) -> tuple[bytes, float]:
        """A whole stream, and when this mark of its first text came."""
        told, first = bytearray(), 0.0
        async with self._session.post(url, data=body, headers=headers) as response:
            async for chunk in response.content.iter_any():
                told += chunk
                if not first and mark in told:
                    first = time.perf_counter()
            if response.status != 200:
                raise RefusedError(str(response.status))
        return bytes(told), first


class Chat(_Http):
    """Waits for a chat completion: of ours, of the model itself or of another server, by the base URL."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        url, headers = f"{self._url(number)}/chat/completions", self._headers(number)
        document, _ = await self._call("POST", url, 200, data=self._named(number), headers=headers)
        self._check(number, document["choices"][0]["message"]["content"])
        return time.perf_counter()

    def _named(self, number: int, **more: Any) -> bytes:
        """The body, with the name of the model, which OpenAI's APIs require."""
        return orjson.dumps({**orjson.loads(self._body(number)), "model": MODEL, **more})


class ChatStreaming(Chat):
    """Follows a chat completion; the first text counts as its start."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        url, body = f"{self._url(number)}/chat/completions", self._named(number, stream=True)
        # The first word of an answer is the question's own.
        told, first = await self._follow(url, body, self._headers(number), f"{self._tag}-{number}".encode())
        self._check(number, read_chat_stream(told))
        return first


class ResponsesStreaming(Chat):
    """Follows a response; the first text counts as its start."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        body = orjson.loads(self._named(number, stream=True))
        url, body["input"] = f"{self._url(number)}/responses", body.pop("messages")
        told, first = await self._follow(
            url, orjson.dumps(body), self._headers(number), b"event: response.output_text.delta"
        )
        text, reply = read_responses_stream(told)
        if reply is None:
            raise RefusedError("the stream ended otherwise")
        self._check(number, reply)
        self._check(number, text)
        return first


class Waiting(_Http):
    """Waits for the reply on the connection of the POST."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        url, headers = f"{self._url(number)}/v1/messages", self._headers(number)
        document, _ = await self._call("POST", url, 200, data=self._body(number), headers=headers)
        self._check(number, document["reply"])
        return time.perf_counter()


class Polling(_Http):
    """Receives 202 at once, and long-polls the returned location."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        url, body, later = self._url(number), self._body(number), self._headers(number, Prefer="respond-async")
        document, headers = await self._call("POST", f"{url}/v1/messages", 202, data=body, headers=later)
        place, patience = f"{url}{headers['Location']}", self._headers(number, Prefer=f"wait={LONG_POLL_SECONDS}")
        while not Status(document["status"]).terminal:
            document, _ = await self._call("GET", place, 200, headers=patience)
        if document["status"] != Status.COMPLETED:
            raise RefusedError(str(document["status"]))
        self._check(number, document["reply"])
        return time.perf_counter()


class Streaming(_Http):
    """Follows the reply as server-sent events; the first text counts as its start."""

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        headers, url = self._headers(number, Accept="text/event-stream"), f"{self._url(number)}/v1/messages"
        told, first = await self._follow(url, self._body(number), headers, b"event: delta")
        text, reply = read_stream(told)
        if reply is None:
            raise RefusedError("the stream ended otherwise")
        self._check(number, reply)
        self._check(number, text)
        return first


class Producing(_Asker):
    """Writes records to Kafka and recognises its replies by their correlation id."""

    def __init__(self, asking: Asking, tokens: int, producer: AIOKafkaProducer, replies: AIOKafkaConsumer) -> None:
        super().__init__(asking, tokens)
        self._producer = producer
        self._replies = replies
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}

    async def ask(self, number: int) -> float:
        """See ``Caller``."""
        mine = f"{self._tag}-{number}".encode()
        reply = self._waiting[mine] = asyncio.get_running_loop().create_future()
        headers = [(envelope.ID, str(uuid4()).encode()), (envelope.CORRELATION_ID, mine)]
        try:
            await self._producer.send_and_wait(REQUESTS.name, self._body(number), headers=headers)
            document = orjson.loads(await reply)
        finally:
            del self._waiting[mine]
        if document["status"] != Status.COMPLETED:
            raise RefusedError(document["error"]["code"])
        self._check(number, document["reply"])
        return time.perf_counter()

    async def read(self) -> None:
        """Distribute replies until cancelled."""
        async for record in self._replies:
            mine = next((value for name, value in record.headers if name == envelope.CORRELATION_ID), b"")
            waiting = self._waiting.get(mine)
            if waiting and not waiting.done():  # A reply may be repeated, and the topic also has others' replies.
                waiting.set_result(record.value)


def read_stream(told: bytes) -> tuple[str, str | None]:
    """The text of all pieces, and the reply in the ending; None if it ended otherwise."""
    text, reply = "", None
    for event in EventStream(max_bytes=len(told)).feed(told):
        if event.name in ("delta", "restart", "completed"):
            data = orjson.loads(event.data)
            text = data["text"] if event.name == "restart" else text + data.get("text", "")
            reply = data.get("reply", reply)
    return text, reply


def read_chat_stream(told: bytes) -> str | None:
    """The text of all chunks; None if the stream did not end as it should."""
    data = [event.data for event in EventStream(max_bytes=len(told)).feed(told)]
    if not data or data.pop() != "[DONE]":
        return None
    choices = [choice for each in data for choice in orjson.loads(each).get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def read_responses_stream(told: bytes) -> tuple[str, str | None]:
    """The text of all deltas, and that of the response at the end; None if it ended otherwise."""
    text, reply = "", None
    for event in EventStream(max_bytes=len(told)).feed(told):
        if event.name == "response.output_text.delta":
            text += orjson.loads(event.data)["delta"]
        elif event.name == "response.completed":
            items = orjson.loads(event.data)["response"]["output"]
            reply = "".join(part["text"] for item in items for part in item["content"])
    return text, reply


_OVER_HTTP: dict[Kind, type[Chat | Waiting | Polling | Streaming]] = {
    "direct": Chat, "wait": Waiting, "poll": Polling, "stream": Streaming,
    "chat": Chat, "chat-stream": ChatStreaming, "responses-stream": ResponsesStreaming,
}  # fmt: skip


@asynccontextmanager
async def open_caller(
    kind: Kind, asking: Asking, tokens: int, urls: Sequence[str], bootstrap: str
) -> AsyncIterator[Caller]:
    """A caller of one kind.

    ``urls``: the gateways, for OpenAI's APIs their base URLs, or that of the model itself; ``bootstrap``: Kafka.
    """
    if kind == "kafka":
        async with _producing(asking, tokens, bootstrap) as producing:
            yield producing
        return
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(None), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield _OVER_HTTP[kind](asking, tokens, session, urls)


@asynccontextmanager
async def _producing(asking: Asking, tokens: int, bootstrap: str) -> AsyncIterator[Producing]:
    settings = KafkaSettings(kafka_bootstrap_servers=bootstrap, kafka_security_protocol="PLAINTEXT")
    replies = AIOKafkaConsumer(REPLIES.name, bootstrap_servers=bootstrap, isolation_level="read_committed")
    async with make_producer(settings, "benchmarks") as producer, replies:
        await replies.seek_to_end()
        for place in replies.assignment():  # Now, not with the first record.
            await replies.position(place)
        producing = Producing(asking, tokens, producer, replies)
        reading = asyncio.create_task(producing.read())
        try:
            yield producing
        finally:
            reading.cancel()
            await asyncio.wait([reading])
