"""One call of OpenAI's API to a gateway, and its outcome in one word.

The calls are written here for the same reason as those in `faults.client`: each is evidence, and none is repeated.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiohttp

from faults.client import (
    ASYNC_SECONDS,
    BROKEN,
    CONNECT_SECONDS,
    LONGEST_EVENT_BYTES,
    WAIT_SECONDS,
    StreamEvent,
    Told,
    answered,
    not_accepted,
    streaming,
)
from orchestra.http.event_stream import EventStream
from schemas.errors import ErrorCode
from schemas.status import Status

CHAT, RESPONSES = "chat/completions", "responses"
DONE = "done"
"""The name of the event at the end of a chat completion's stream."""
RESTARTED = "answer_restarted"
NUMBERS = 1_000_000
"""How many numbers the events of one attempt have."""
_MAX_HEADS = 3
_STATUSES = {
    "queued": Status.PENDING,
    "in_progress": Status.IN_PROGRESS,
    "completed": Status.COMPLETED,
    "incomplete": Status.COMPLETED,
    "failed": Status.FAILED,
    "cancelled": Status.CANCELLED,
}


class Door:
    """Calls to gateways, without retries. ``path``: ``CHAT`` or ``RESPONSES``."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, url: str, path: str, body: Mapping[str, Any], key: str | None) -> Told:
        """``POST`` a body that does not ask for a stream; return once the gateway answers.

        ``key`` None: without an Idempotency-Key.
        """
        timeout = aiohttp.ClientTimeout(WAIT_SECONDS, sock_connect=CONNECT_SECONDS)
        return await self._call("POST", f"{url}/openai/v1/{path}", timeout, headers=_key(key), json=body)

    async def get(self, url: str, id: UUID) -> Told:
        """``GET responses/{id}``; ``acked`` until it has ended."""
        return await self._call("GET", _response(url, id), _soon())

    async def cancel(self, url: str, id: UUID) -> Told:
        """``POST responses/{id}/cancel``, for a response in the background."""
        return await self._call("POST", f"{_response(url, id)}/cancel", _soon())

    async def create_conversation(self, url: str) -> UUID | None:
        """``POST conversations``: the id of the new one; None if there is none."""
        try:
            async with self._session.post(f"{url}/openai/v1/conversations", json={}, timeout=_soon()) as response:
                return _read_id((await response.json())["id"]) if response.status == 200 else None
        except BROKEN:
            return None

    @asynccontextmanager
    async def stream(
        self, url: str, path: str, body: Mapping[str, Any], key: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """``POST`` a body that asks for a stream. Raises the errors in ``BROKEN``."""
        target = f"{url}/openai/v1/{path}"
        async with self._session.post(target, json=body, headers=_key(key), timeout=streaming()) as response:
            yield response

    @asynccontextmanager
    async def resume(self, url: str, id: UUID, after: int | None) -> AsyncIterator[aiohttp.ClientResponse]:
        """``GET responses/{id}?stream=true`` behind the event of this number. Raises the errors in ``BROKEN``."""
        asked = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
        async with self._session.get(_response(url, id), params=asked, timeout=streaming()) as response:
            yield response

    async def _call(self, method: str, url: str, timeout: aiohttp.ClientTimeout, **more: Any) -> Told:
        try:
            async with self._session.request(method, url, timeout=timeout, **more) as response:
                return await told(response)
        except BROKEN:
            return Told("unknown")


async def told(response: aiohttp.ClientResponse) -> Told:
    """The outcome that an answer, not a stream, reports. Raises the errors in ``BROKEN``.

    An error about a request that was accepted is ``acked``: how it ended, or whether it still runs, a GET says.
    """
    document: dict[str, Any] = await response.json(content_type=None) or {}
    if response.status == 200:
        return of_completion(document) if document["object"] == "chat.completion" else of_response(document)
    code = (document.get("error") or {}).get("code")
    id = response.headers.get("Location", "").rpartition("/v1/requests/")[2]
    if id and code != ErrorCode.IDEMPOTENCY_KEY_REUSED:
        return Told("acked", UUID(id), code=code)
    return not_accepted(response, code)


def of_completion(document: Mapping[str, Any]) -> Told:
    """The outcome in a chat completion."""
    message = document["choices"][0]["message"]
    output = [
        {"type": "function_call", "call_id": call["id"], "arguments": call["function"]["arguments"]}
        for call in message.get("tool_calls") or ()
    ]
    said = {"reply": message["content"] or "", "output": output}
    return answered(_read_id(document["id"]), Status.COMPLETED, said)


def of_response(document: Mapping[str, Any]) -> Told:
    """The outcome in a response."""
    id, status = _read_id(document["id"]), _STATUSES[document["status"]]
    if not status.terminal:
        return Told("acked", id, status)
    if status is Status.COMPLETED:
        parts = [part for item in document["output"] if item["type"] == "message" for part in item["content"]]
        text = "".join(part["text"] for part in parts)
        return answered(id, status, {"reply": text, "output": document["output"]})
    code = document["error"]["message"].partition(":")[0] if document["error"] else None
    return Told("answered", id, Status.EXPIRED if code == ErrorCode.EXPIRED else status, code=code)


def stream_id(response: aiohttp.ClientResponse) -> UUID:
    """The id of the request whose stream this is."""
    return _read_id(response.headers["x-request-id"])


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[StreamEvent]:
    """The events of a stream until it closes. Raises the errors in ``BROKEN``."""
    stream = EventStream(LONGEST_EVENT_BYTES)
    async for chunk in response.content.iter_any():
        for event in stream.feed(chunk):
            over = event.data == "[DONE]"
            yield StreamEvent(DONE if over else event.name, {} if over else json.loads(event.data), None)


def follows(number: int, last: int | None) -> bool:
    """Whether an event with this number may come behind the last one that was received (None: it is the first).

    Numbers have no gap, except that a later attempt has its own million; its heads are left out if they were sent.
    """
    attempt, at = divmod(number, NUMBERS)
    if last is None:
        return at == 0
    return number == last + 1 or (attempt > last // NUMBERS and at <= _MAX_HEADS)


def _key(key: str | None) -> dict[str, str]:
    return {"Idempotency-Key": key} if key else {}


def _response(url: str, id: UUID) -> str:
    return f"{url}/openai/v1/{RESPONSES}/resp_{id.hex}"


def _read_id(text: str) -> UUID:
    return UUID(text[-32:])


def _soon() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(ASYNC_SECONDS, sock_connect=CONNECT_SECONDS)
