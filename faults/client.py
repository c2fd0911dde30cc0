"""One client call, over HTTP to a gateway or directly to Kafka, and its outcome in one word.

The calls are written here, one by one and without retries, because each is evidence. Only the way ``client`` uses
`orchestra.client`, which is under test there like the gateways.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from faults.question import telling
from orchestra.client import AsyncClient
from orchestra.http.event_stream import EventStream
from orchestra.kafka.clients import make_producer
from orchestra.settings import KafkaSettings
from schemas.errors import ErrorCode
from schemas.requests import CANCEL_REQUESTED
from schemas.status import Status
from schemas.topics import REQUESTS

CONNECT_SECONDS = 5
ASYNC_SECONDS = 20
WAIT_SECONDS = 90
# A stream sends something every 15 s.
SILENCE_SECONDS = 40
LONG_POLL_SECONDS = 15
KAFKA_SECONDS = 20
LONGEST_EVENT_BYTES = 32 * 1024 * 1024
SURELY_NOT = (ErrorCode.OVERLOADED, ErrorCode.UNAVAILABLE, ErrorCode.CONVERSATION_FULL)
_NOT_ABOUT_AN_ID = (ErrorCode.OUTCOME_UNKNOWN, ErrorCode.IDEMPOTENCY_KEY_REUSED)
BROKEN = (aiohttp.ClientError, OSError, TimeoutError, ValueError)


@dataclass(frozen=True)
class Told:
    """The outcome of a call.

    ``acked``: accepted under ``id``. ``answered``: ended, with ``status`` and ``reply``. ``busy``: surely not accepted,
    retry in ``retry_after`` seconds (None: not given). ``refused``: for good. ``unknown``: accepted or not.
    ``reply``: all that the answer says (``faults.question.telling``). ``call``: id of the tool call in it, if any.
    """

    how: Literal["acked", "answered", "busy", "refused", "unknown"]
    id: UUID | None = None
    status: str | None = None
    reply: str | None = None
    code: str | None = None
    retry_after: float | None = None
    call: str | None = None


@dataclass(frozen=True)
class StreamEvent:
    """One server-sent event. ``id``: the last id in the stream."""

    name: str
    data: dict[str, Any]
    id: str | None


class Http:
    """Calls to gateways, without retries."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, url: str, body: dict[str, Any], key: str, *, wait: bool) -> Told:
        """``POST /v1/messages``: wait for the reply, or return once accepted."""
        headers = {"Idempotency-Key": key} | ({} if wait else {"Prefer": "respond-async"})
        timeout = aiohttp.ClientTimeout(WAIT_SECONDS if wait else ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._call("POST", f"{url}/v1/messages", timeout, headers=headers, json=body)

    async def task(self, url: str, body: dict[str, Any], key: str) -> Told:
        """``POST /v1/tasks``."""
        timeout = aiohttp.ClientTimeout(ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._call("POST", f"{url}/v1/tasks", timeout, headers={"Idempotency-Key": key}, json=body)

    async def upload(self, url: str, data: bytes) -> str | None:
        """``POST /v1/files``: the id of the new file; None if there is none."""
        form = aiohttp.FormData({"purpose": "user_data"})
        form.add_field("file", data, filename="document.pdf")
        timeout = aiohttp.ClientTimeout(ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
        try:
            async with self._session.post(f"{url}/v1/files", data=form, timeout=timeout) as response:
                return str((await response.json())["id"]) if response.status == 200 else None
        except BROKEN:
            return None

    async def get(self, url: str, id: UUID, *, wait: bool = True) -> Told:
        """``GET /v1/requests/{id}``, by long polling; ``acked`` until it has ended."""
        headers = {"Prefer": f"wait={LONG_POLL_SECONDS}"} if wait else {}
        timeout = aiohttp.ClientTimeout(LONG_POLL_SECONDS + ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._call("GET", f"{url}/v1/requests/{id}", timeout, headers=headers)

    async def cancel(self, url: str, id: UUID) -> Told:
        """``POST /v1/requests/{id}/cancel``; ``acked`` if it will be cancelled, ``answered`` if it had ended."""
        timeout = aiohttp.ClientTimeout(ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._call("POST", f"{url}/v1/requests/{id}/cancel", timeout)

    @asynccontextmanager
    async def stream(self, url: str, body: dict[str, Any], key: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """``POST /v1/messages`` as a stream. Raises the errors in ``BROKEN``."""
        headers = {"Idempotency-Key": key, "Accept": "text/event-stream"}
        async with self._session.post(
            f"{url}/v1/messages", json=body, headers=headers, timeout=streaming()
        ) as response:
            yield response

    @asynccontextmanager
    async def resume(self, url: str, id: UUID, after: str | None) -> AsyncIterator[aiohttp.ClientResponse]:
        """``GET /v1/requests/{id}/events`` after an event. Raises the errors in ``BROKEN``."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self._session.get(
            f"{url}/v1/requests/{id}/events", headers=headers, timeout=streaming()
        ) as response:
            yield response

    async def _call(self, method: str, url: str, timeout: aiohttp.ClientTimeout, **more: Any) -> Told:
        try:
            async with self._session.request(method, url, timeout=timeout, **more) as response:
                return await told(response)
        except BROKEN:
            return Told("unknown")


async def told(response: aiohttp.ClientResponse) -> Told:
    """The outcome that a response, not a stream, reports. Raises the errors in ``BROKEN``."""
    # An error of a proxy in front of the gateways has no body.
    document: dict[str, Any] = await response.json(content_type=None) or {}
    id = document.get("request_id") or document.get("id")
    request_id = UUID(id) if id else None
    status, code = document.get("status"), document.get("code")
    if response.status < 300:
        # The reply to a waiting call has no status: it is completed.
        status = status or Status.COMPLETED.value
        ended = status in {each.value for each in Status if each.terminal}
        return answered(request_id, status, document) if ended else Told("acked", request_id, status)
    if request_id and code not in _NOT_ABOUT_AN_ID:
        return Told("acked", request_id, code=code)
    return not_accepted(response, code)


def not_accepted(response: aiohttp.ClientResponse, code: str | None) -> Told:
    """The outcome of a call that ended with an error, if the error does not name an accepted request."""
    retry_after = float(response.headers["Retry-After"]) if "Retry-After" in response.headers else None
    if response.status == 429 or code in SURELY_NOT:
        return Told("busy", code=code, retry_after=retry_after)
    if response.status >= 500:
        return Told("unknown", code=code, retry_after=retry_after)
    return Told("refused", code=code)


def answered(id: UUID | None, status: str, document: dict[str, Any]) -> Told:
    """The outcome of a request that has ended, from a document with its answer."""
    reply, output = document.get("reply"), document.get("output")
    calls = [item["call_id"] for item in output or () if item["type"] == "function_call"]
    said = None if reply is None else telling(reply, output)
    return Told("answered", id, status, said, call=calls[0] if calls else None)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[StreamEvent]:
    """The events of a stream until it closes. Raises the errors in ``BROKEN``."""
    stream = EventStream(LONGEST_EVENT_BYTES)
    async for chunk in response.content.iter_any():
        for event in stream.feed(chunk):
            yield StreamEvent(event.name, json.loads(event.data), event.id or None)


def streaming() -> aiohttp.ClientTimeout:
    """For a stream: as long as it takes, if it is not silent."""
    return aiohttp.ClientTimeout(None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)


def product_client(gateways: Sequence[str], patience: float, key: str | None = None) -> AsyncClient:
    """The product's own client, which is given one call for each question."""
    return AsyncClient(gateways, key or "", retry_seconds=patience, reconnect_seconds=patience)


class Direct:
    """A separate producer, as an application has one; recreated after a fatal error."""

    def __init__(self, bootstrap: str) -> None:
        self._settings = KafkaSettings(kafka_bootstrap_servers=bootstrap)
        self._producer: AIOKafkaProducer | None = None
        self._making = asyncio.Lock()

    async def request(self, id: UUID, conversation: UUID, body: dict[str, Any], topic: str = REQUESTS.name) -> Told:
        """Produce a request under this id."""
        headers = [("ce_id", str(id).encode())]
        return await self._send(topic, conversation, body, headers, id)

    async def cancel(self, id: UUID, conversation: UUID, topic: str = REQUESTS.name) -> Told:
        """Produce a cancel; it may arrive before its request."""
        headers = [("ce_type", CANCEL_REQUESTED.encode())]
        return await self._send(topic, conversation, {"request_id": str(id)}, headers, id)

    async def close(self) -> None:
        """Stop the producer, without waiting for a Kafka that is down."""
        await self._discard()

    async def _send(
        self, topic: str, key: UUID, value: dict[str, Any], headers: list[tuple[str, bytes]], id: UUID
    ) -> Told:
        try:
            async with asyncio.timeout(KAFKA_SECONDS):
                producer = await self._started()
                await producer.send_and_wait(topic, json.dumps(value).encode(), key=str(key).encode(), headers=headers)
        except TimeoutError:
            return Told("unknown")
        except (KafkaError, OSError):
            await self._discard()
            return Told("unknown")
        return Told("acked", id)

    async def _started(self) -> AIOKafkaProducer:
        async with self._making:
            if self._producer is None:
                producer = make_producer(self._settings, "faults")
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer:
            stopping = asyncio.create_task(producer.stop())
            await asyncio.wait({stopping}, timeout=2)
            stopping.cancel()
