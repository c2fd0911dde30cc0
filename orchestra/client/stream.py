"""A stream of the events of one request, over as many connections as it takes."""

import json
from collections import deque
from http import HTTPStatus
from types import TracebackType
from typing import Self
from uuid import UUID

from orchestra.client.caller import Call, Caller, Resuming, no_gateway
from orchestra.client.errors import ClientError, RequestFailedError, UnreachableError
from orchestra.client.events import (
    ENDINGS,
    CancelledEvent,
    CompletedEvent,
    DeltaEvent,
    EndingEvent,
    Event,
    ExpiredEvent,
    FailedEvent,
    PendingEvent,
    RestartEvent,
    read_event,
)
from orchestra.client.wire import WireResponse
from orchestra.http.event_stream import EventStream, SseEvent
from schemas.api.messages import MessageReply
from schemas.errors import ERRORS, ErrorCode

# A gateway sends something at least every 15 seconds.
_SILENCE_SECONDS = 45.0
# A reply has at most 4 Mi characters, and each takes up to six bytes as JSON.
_MAX_EVENT_BYTES = 32 * 1024 * 1024


class AsyncStream(Resuming):
    """The events of one request, in order and each once, the ending last.

    If a connection breaks, the stream resumes at any gateway after the last event that it got. Nothing is lost or
    repeated; where a gateway cannot continue the answer, a ``RestartEvent`` has all of it so far. A message is sent
    under one Idempotency-Key, however often that takes. Iterating raises ``ClientError``, and ``UnreachableError`` if
    no gateway could be reached for too long. Use it as a context manager, which releases the connection.

    ``request_id``, ``conversation_id``: once they are known. ``text``: of the answer so far. ``last_event_id``: where
    the stream is; another one can go on from there, and is empty if it was the ending. ``ending``: the last event, once
    it has come.
    """

    def __init__(
        self, caller: Caller, opening: Call | None, request_id: UUID | None = None, last_event_id: str | None = None
    ) -> None:
        super().__init__(caller, caller.patience(None if opening else caller.reconnect_seconds))
        self.request_id = request_id
        self.conversation_id: UUID | None = None
        self.last_event_id = last_event_id
        self.text = ""
        self.ending: EndingEvent | None = None
        self._opening = opening
        self._parser = EventStream(_MAX_EVENT_BYTES)
        self._events: deque[SseEvent] = deque()
        self._pending: PendingEvent | None = None
        # The ending is what the stream was to continue behind.
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self.ending or self._over:
            raise StopAsyncIteration
        while True:
            while not self._events:
                chunk = await self._chunk()
                if self._over:
                    await self.close()
                    raise StopAsyncIteration
                self._events.extend(self._fed(chunk))
            if event := await self._take(self._events.popleft()):
                return event

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Release the connection. The request goes on."""
        await self._disconnect()

    async def reply(self) -> MessageReply:
        """Read the stream to its end, and return the answer. ``model`` is None: events do not name it.

        Raises ``RequestFailedError`` if the request ended without an answer, and what iterating raises.
        """
        async for _ in self:
            pass
        match self.ending, self.request_id, self.conversation_id:
            case CompletedEvent() as done, UUID() as request_id, UUID() as conversation_id:
                return MessageReply(
                    conversation_id=conversation_id,
                    reply=done.reply or "",
                    request_id=request_id,
                    model=None,
                    usage=done.usage,
                    finish_reason=done.finish_reason,
                    output=done.output,
                    warnings=self._pending.warnings if self._pending else [],
                )
        raise self.error or no_gateway(self._caller.url)

    @property
    def error(self) -> RequestFailedError | None:
        """Why the request ended without an answer; None if it has not, or has one."""
        match self.ending:
            case FailedEvent(code=code, detail=detail):
                return RequestFailedError.by_code(code, detail, self.request_id)
            case CancelledEvent():
                code = ErrorCode.CANCELLED
                return RequestFailedError.by_code(code, ERRORS[code].title, self.request_id)
            case ExpiredEvent():
                code = ErrorCode.EXPIRED
                return RequestFailedError.by_code(code, ERRORS[code].title, self.request_id)
        return None

    def _call(self) -> Call:
        if self.request_id is None and self._opening:
            return self._opening
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        about = {"request_id": self.request_id}
        return Call(
            "GET",
            f"/v1/requests/{self.request_id}/events",
            headers=headers,
            read_seconds=_SILENCE_SECONDS,
            about=about,
        )

    def _opened(self, response: WireResponse) -> None:
        if response.head.status_code == HTTPStatus.NO_CONTENT:
            self._over = True
            return
        if not response.head.headers.get("content-type", "").startswith("text/event-stream"):
            raise ClientError(f"{self._caller.url} is not a gateway: it does not stream")
        self._parser = EventStream(_MAX_EVENT_BYTES)
        if self.request_id is None:
            # Known even if the connection breaks before the first event.
            self.request_id = _request_in(response.head.headers.get("location", ""))

    def _closed(self, url: str) -> ClientError | None:
        if self._over:
            return None
        retry = self._parser.retry
        pause = None if retry is None else retry / 1000
        return UnreachableError(
            f"{url}: the stream ended", request_id=self.request_id, retryable=True, retry_after=pause
        )

    def _fed(self, chunk: bytes | None) -> list[SseEvent]:
        try:
            events = self._parser.feed(chunk or b"")
        except ValueError:  # An event is too long.
            raise no_gateway(self._caller.url) from None
        self._patience.heard(self._caller.reconnect_seconds if self.request_id else None)
        return events

    async def _take(self, raw: SseEvent) -> Event | None:
        """The event for the caller; None if it says nothing new."""
        self.last_event_id = raw.id or self.last_event_id
        try:
            event = read_event(raw.name, json.loads(raw.data), self.last_event_id)
        except ValueError:
            await self.close()
            raise no_gateway(self._caller.url) from None
        if isinstance(event, PendingEvent):
            return self._accepted(event)
        self._patience.progressed()
        match event:
            case DeltaEvent():
                self.text += event.text
            case RestartEvent():
                self.text = event.text
            case CompletedEvent():
                self.text = event.reply or self.text
        if isinstance(event, ENDINGS):
            self.ending = event
            await self.close()
        return event

    def _accepted(self, event: PendingEvent) -> PendingEvent | None:
        """The event itself, unless an earlier connection had it."""
        self._patience.heard(self._caller.reconnect_seconds)
        self.request_id = event.request_id
        self.conversation_id = event.conversation_id or self.conversation_id
        event = event.model_copy(update={"id": None})
        known, self._pending = self._pending, event
        return None if event == known else event


def _request_in(location: str) -> UUID | None:
    """The id in the URL of a request."""
    try:
        return UUID(location.rpartition("/v1/requests/")[2])
    except ValueError:
        return None
