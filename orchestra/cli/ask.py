"""Sends one message to a gateway and shows the reply as it arrives, reconnecting as often as needed."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from orchestra.cli.sse import ParsedEvent, read_events
from orchestra.cli.terminal import Screen
from orchestra.transcript import Piece, after, before, joined, pieces_of, text_of, units_of

# A gateway sends something at least every 15 seconds.
_SILENCE_SECONDS = 45.0
_CONNECT_SECONDS = 5.0
_TRY_AGAIN_SECONDS = 0.5
# How long a gateway may be unreachable: time enough for a restart.
PATIENCE_SECONDS = 60.0
# What a restarting gateway, or a proxy in front of it, returns.
_PASSING = frozenset({502, 503, 504})
# Events that mean nothing without their data.
_WITH_DATA = frozenset(
    "pending delta reasoning.delta refusal.delta tool_call tool_call.delta restart completed failed".split()
)


class NoReplyError(Exception):
    """The message was not answered, for a known reason."""


class LostGatewayError(NoReplyError):
    """No gateway could be reached for too long; a message that was accepted is still answered."""


class CancelledTurnError(NoReplyError):
    """The message was cancelled."""


@dataclass(frozen=True)
class Where:
    """A gateway, and the key to show it."""

    url: str
    key: str | None = None

    def client(self) -> httpx.AsyncClient:
        """An HTTP client for it, which ignores the environment's proxies. Raises ``NoReplyError``."""
        try:
            return httpx.AsyncClient(
                base_url=self.url,
                headers={"Authorization": f"Bearer {self.key}"} if self.key else {},
                timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS),
                trust_env=False,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise NoReplyError(f"{self.url} is not a gateway address: {error}") from error


@dataclass
class ReplyWaiter:
    """One message being answered. ``at_first``: seconds to wait for a gateway before the message is accepted."""

    where: Where
    body: dict[str, Any]
    screen: Screen
    at_first: float = 0.0
    patience: float = PATIENCE_SECONDS
    request_id: str | None = None
    conversation_id: str | None = None
    pieces: list[Piece] = field(default_factory=list)
    started: bool = False
    # The same key on every try, so that several tries are still one message.
    _key: str = field(default_factory=lambda: str(uuid4()))
    _last_id: str | None = None
    _heard: float = 0.0
    _noted: str = ""
    _lost: bool = False
    _cancel: asyncio.Event = field(default_factory=asyncio.Event)

    async def reply(self) -> str:
        """Return the text of the reply, and show all of it as it arrives. Raises ``NoReplyError``."""
        async with self.where.client() as client, asyncio.TaskGroup() as tasks:
            cancelling = tasks.create_task(self._cancel_when_wanted(client))
            try:
                error = await self._until_ended(client)
            finally:
                cancelling.cancel()
        if error:
            raise error
        return text_of(self.pieces)

    def cancel(self) -> None:
        """Cancel the request as soon as it is accepted; ``reply`` continues until the request has ended."""
        self._cancel.set()

    async def _until_ended(self, client: httpx.AsyncClient) -> NoReplyError | None:
        self._heard = time.monotonic()
        while True:
            reason, answered = "the stream ended", False
            try:
                if ended := await self._stream(client):
                    return ended.error
            except httpx.TransportError as error:
                task = asyncio.current_task()
                if task and task.cancelling():  # Closing the connection also failed, which hid the cancellation.
                    raise asyncio.CancelledError from None
                reason = str(error) or type(error).__name__
            except _PassingError as error:
                reason, answered = str(error), True
            except NoReplyError as error:
                return error
            except httpx.HTTPError:  # For example a redirect loop, or a body that cannot be decoded.
                return self._nonsense()
            if time.monotonic() - self._heard > (self.patience if self.request_id else self.at_first):
                return NoReplyError(reason) if answered else LostGatewayError(f"{self.where.url}: {reason}")
            if not self._lost:
                self._lost = True
                self.screen.note(f"{reason}; trying again")
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def _stream(self, client: httpx.AsyncClient) -> "_Ended | None":
        """Read one connection. None when it closed before the ending."""
        async with self._open(client) as response:
            if response.status_code in _PASSING:
                raise _PassingError(await problem(response))
            if response.is_error:
                raise NoReplyError(await problem(response))
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise NoReplyError(f"{self.where.url} is not a gateway: it does not stream")
            async for event in self._events(response):
                self._heard = time.monotonic()
                if self._lost:
                    self._lost = False
                    self.screen.note("the gateway is back")
                self._last_id = event.id or self._last_id
                if ended := self._take(event.name, event.data):
                    return ended
        return None

    async def _events(self, response: httpx.Response) -> AsyncIterator[ParsedEvent]:
        try:
            async for event in read_events(response):
                yield event
        except ValueError:
            raise self._nonsense() from None

    def _open(self, client: httpx.AsyncClient) -> Any:
        if self.request_id is None:
            headers = {"Accept": "text/event-stream", "Idempotency-Key": self._key}
            return client.stream("POST", "/v1/messages", json={**self.body, "stream": True}, headers=headers)
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        return client.stream("GET", f"/v1/requests/{self.request_id}/events", headers=headers)

    def _take(self, name: str, data: Any) -> "_Ended | None":
        match name, data:
            case "pending", {"request_id": str(request_id), "conversation_id": conversation_id}:
                self.request_id = request_id
                self.conversation_id = conversation_id or self.conversation_id
                self._note_error(data)
            case "started", _:
                self.started = True
            case "delta", {"text": str(text)}:
                self._add(Piece("text", text))
            case "reasoning.delta", {"text": str(text)}:
                self._add(Piece("reasoning", text))
            case "refusal.delta", {"text": str(text)}:
                self._add(Piece("refusal", text))
            case "tool_call", {"index": int(index), "call_id": str(call_id), "name": str(name)}:
                self._add(Piece("tool_call", "", index, call_id, name))
            case "tool_call.delta", {"index": int(index), "arguments": str(text)}:
                self._add(Piece("tool_arguments", text, index))
            case "restart", {"text": str(text)}:
                self._note_error(data)
                self._show(self._answer(text, data))
            case "completed", dict():
                if answer := self._answer(str(data.get("reply") or ""), data):
                    self._show(answer)
                if data.get("finish_reason") == "length":
                    self.screen.note("cut at max_tokens")
                return _Ended()
            case "failed", {"code": code, "detail": detail}:
                return _Ended(NoReplyError(f"{detail} ({code})"))
            case "cancelled", _:
                return _Ended(CancelledTurnError("the request was cancelled"))
            case "expired", _:
                return _Ended(NoReplyError("the request was not answered before its deadline (expired)"))
            case name, _ if name in _WITH_DATA:
                raise self._nonsense()
        return None

    def _answer(self, text: str, data: dict[str, Any]) -> list[Piece]:
        """The answer in an event that has all of it."""
        try:
            return pieces_of(text, data.get("output"))
        except (KeyError, TypeError):
            raise self._nonsense() from None

    def _note_error(self, data: dict[str, Any]) -> None:
        """Show why the last attempt failed, once per reason."""
        match data.get("last_error"):
            case {"code": code, "detail": detail} if self._noted != (reason := f"{code}: {detail}"):
                self._noted = reason
                self.screen.note(f"{reason}; trying again")

    def _nonsense(self) -> NoReplyError:
        return NoReplyError(f"{self.where.url} did not answer like a gateway")

    def _add(self, piece: Piece) -> None:
        self.screen.show(piece)
        self.pieces.append(piece)

    def _show(self, answer: list[Piece]) -> None:
        """Show the new part of an answer, or all of it where it does not continue what was shown."""
        shown = units_of(self.pieces)
        if joined(before(answer, shown)) != joined(self.pieces):
            self.screen.restart()
            self.pieces, shown = [], 0
        for piece in after(answer, shown):
            self._add(piece)

    async def _cancel_when_wanted(self, client: httpx.AsyncClient) -> None:
        await self._cancel.wait()
        while True:
            try:
                if self.request_id:
                    response = await client.post(f"/v1/requests/{self.request_id}/cancel")
                    if response.status_code not in _PASSING:
                        if response.is_error:
                            self.screen.note(f"it cannot be cancelled: {await problem(response)}")
                        return
            except httpx.TransportError:
                pass
            await asyncio.sleep(_TRY_AGAIN_SECONDS)


@dataclass(frozen=True)
class _Ended:
    error: NoReplyError | None = None


class _PassingError(Exception):
    """An error that may go away in a moment."""


async def problem(response: httpx.Response) -> str:
    """An error response in words."""
    match await _json(response):
        case {"code": code, **said}:
            return f"{said.get('detail') or said.get('title') or ''} ({code})".strip()
    return f"{response.status_code} {response.reason_phrase}".strip()


async def _json(response: httpx.Response) -> Any:
    """The body as JSON; None if it is not JSON."""
    await response.aread()
    try:
        return response.json()
    except ValueError:
        return None


async def submit(where: Where, body: dict[str, Any]) -> str:
    """Send a message without waiting for its reply. Returns its request id. Raises ``NoReplyError``."""
    headers = {"Prefer": "respond-async", "Idempotency-Key": str(uuid4())}
    try:
        async with where.client() as client:
            response = await client.post("/v1/messages", json=body, headers=headers)
            if response.is_error:
                raise NoReplyError(await problem(response))
            match await _json(response):
                case {"request_id": str(request_id)}:
                    return request_id
            raise NoReplyError(f"{where.url} did not answer like a gateway")
    except httpx.TransportError as error:
        raise LostGatewayError(f"{where.url}: {error or type(error).__name__}") from error
