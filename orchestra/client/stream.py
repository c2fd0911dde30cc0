"""Streams of the events of one request, or of all turns of a conversation, over as many connections as it takes."""

import json
from collections import deque
from http import HTTPStatus
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

from orchestra.client.caller import Call, Caller, Patience, Resuming, no_gateway
from orchestra.client.errors import ClientError, RequestFailedError, UnreachableError
from orchestra.client.events import (
    ENDINGS,
    CancelledEvent,
    CompletedEvent,
    ConversationEvent,
    DeletedEvent,
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
SILENCE_SECONDS = 45.0
# A reply has at most 4 Mi characters, and each takes up to six bytes as JSON.
_MAX_EVENT_BYTES = 32 * 1024 * 1024

Sent = TypeVar("Sent")


class Events(Resuming, Generic[Sent]):
    """The events of an event stream, in order and each once, over as many connections as it takes."""

    def __init__(self, caller: Caller, patience: Patience, last_event_id: str | None) -> None:
        super().__init__(caller, patience)
        self.last_event_id = last_event_id
        self._parser = EventStream(_MAX_EVENT_BYTES)
        self._events: deque[SseEvent] = deque()
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sent:
        while not self._over:
            while not self._events:
                chunk = await self._chunk()
                if self._over:
                    break
                self._events.extend(self._fed(chunk))
            else:
                if event := await self._next(self._events.popleft()):
                    return event
        await self.close()
        raise StopAsyncIteration

    def _read(self, raw: SseEvent) -> Any:
        """What came, as an event; None if it is of a kind that the client does not know. Raises ``ValueError``."""
        return read_event(raw.name, json.loads(raw.data), self.last_event_id)

    def _take(self, event: Any) -> Sent | None:
        """The event for the caller; None if it says nothing new. The last one sets ``_over``."""
        raise NotImplementedError

    async def _next(self, raw: SseEvent) -> Sent | None:
        self.last_event_id = raw.id or self.last_event_id
        try:
            event = self._read(raw)
        except ValueError:
            await self.close()
            raise no_gateway(self._url) from None
        taken = self._take(event) if event else None
        if self._over:
            await self.close()
        return taken

    def _opened(self, response: WireResponse) -> None:
        if not response.head.headers.get("content-type", "").startswith("text/event-stream"):
            raise ClientError(f"{self._url} is not a gateway: it does not stream")
        self._parser = EventStream(_MAX_EVENT_BYTES)

    def _closed(self) -> ClientError | None:
        if self._over:
            return None
        retry = self._parser.retry
        return UnreachableError(
            f"{self._url}: the stream ended", retryable=True, retry_after=None if retry is None else retry / 1000
        )

    def _fed(self, chunk: bytes | None) -> list[SseEvent]:
        try:
            return self._parser.feed(chunk or b"")
        except ValueError:  # An event is too long.
            raise no_gateway(self._url) from None


class AsyncStream(Events[Event]):
    """The events of one request, in order and each once, the ending last.

    If a connection breaks, the stream resumes at any gateway after the last event that it got. Nothing is lost or
    repeated; where a gateway cannot continue the answer, a ``RestartEvent`` has all of it so far. A message is sent
    under one Idempotency-Key, however often that takes. Iterating raises ``ClientError``, and ``UnreachableError`` if
    no gateway could be reached for too long. Use it as a context manager, which releases the connection.

    ``request_id``, ``conversation_id``: once they are known. ``text``: of the answer so far. ``last_event_id``: the
    position of the stream, from which another stream can resume; after the ending that one has no events. ``ending``:
    the last event, once it has arrived.
    """

    def __init__(
        self, caller: Caller, opening: Call | None, request_id: UUID | None = None, last_event_id: str | None = None
    ) -> None:
        super().__init__(caller, caller.patience(None if opening else caller.reconnect_seconds), last_event_id)
        self.request_id = request_id
        self.conversation_id: UUID | None = None
        self.text = ""
        self.ending: EndingEvent | None = None
        self._opening = opening
        self._pending: PendingEvent | None = None

    async def reply(self) -> MessageReply:
        """Read the stream to its end, and return the answer. ``model`` is None: events do not name it.

        Raises ``RequestFailedError`` if the request ended without an answer, and what iterating raises.
        """
        async for _ in self:
            pass
        match self.ending, self.request_id, self.conversation_id:
            case CompletedEvent() as done, UUID() as request_id, UUID() as conversation_id:
                return MessageReply.model_construct(
                    conversation_id=conversation_id,
                    reply=done.reply or "",
                    request_id=request_id,
                    model=None,
                    usage=done.usage,
                    finish_reason=done.finish_reason,
                    output=done.output,
                    warnings=self._pending.warnings if self._pending else [],
                )
        raise self.error or no_gateway(self._url)

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
            read_seconds=SILENCE_SECONDS,
            about=about,
        )

    def _opened(self, response: WireResponse) -> None:
        if response.head.status_code == HTTPStatus.NO_CONTENT:
            self._over = True  # The ending is what the stream was to continue behind.
            return
        super()._opened(response)
        if self.request_id is None:
            # Known even if the connection breaks before the first event.
            self.request_id = _request_in(response.head.headers.get("location", ""))

    def _closed(self) -> ClientError | None:
        if error := super()._closed():
            error.request_id = self.request_id
        return error

    def _fed(self, chunk: bytes | None) -> list[SseEvent]:
        events = super()._fed(chunk)
        self._patience.heard(self._caller.reconnect_seconds if self.request_id else None)
        return events

    def _take(self, event: ConversationEvent) -> Event | None:
        if isinstance(event, DeletedEvent):
            return None
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
            self._over = True
        return event

    def _accepted(self, event: PendingEvent) -> PendingEvent | None:
        """The event itself, unless an earlier connection had it."""
        self._patience.heard(self._caller.reconnect_seconds)
        self.request_id = event.request_id
        self.conversation_id = event.conversation_id or self.conversation_id
        event = event.model_copy(update={"id": None})
        known, self._pending = self._pending, event
        return None if event == known else event


class AsyncConversationStream(Events[ConversationEvent]):
    """The events of all turns of a conversation, in order and each once, also of turns that are still to come.

    Each event has the ``request_id`` of its turn. A turn begins with a ``PendingEvent`` and ends with its ending. The
    stream has no end, unless the conversation is deleted: then a ``DeletedEvent`` is the last one. It resumes like
    `AsyncStream`, and what is said there holds for each turn.

    ``last_event_id``: the position of the stream, from which another stream can resume.
    """

    def __init__(self, caller: Caller, conversation_id: UUID, last_event_id: str | None = None) -> None:
        super().__init__(caller, caller.patience(), last_event_id)
        self.conversation_id = conversation_id
        self._turn: UUID | None = None
        self._was_there = False

    def _call(self) -> Call:
        headers = {"Last-Event-ID": self.last_event_id} if self.last_event_id else {}
        path = f"/v1/conversations/{self.conversation_id}/events"
        return Call("GET", path, headers=headers, read_seconds=SILENCE_SECONDS)

    async def __anext__(self) -> ConversationEvent:
        try:
            return await super().__anext__()
        except ClientError as error:
            # It was deleted while the stream was cut off.
            if error.code != ErrorCode.NOT_FOUND or not self._was_there:
                raise
            self._over = True
            return DeletedEvent(id=self.last_event_id, conversation_id=self.conversation_id)

    def _fed(self, chunk: bytes | None) -> list[SseEvent]:
        self._was_there = True
        self._patience.heard(self._caller.reconnect_seconds)
        return super()._fed(chunk)

    def _take(self, event: ConversationEvent) -> ConversationEvent | None:
        self._patience.progressed()
        if isinstance(event, DeletedEvent):
            self._over = True
        if isinstance(event, PendingEvent):
            # Every connection begins with that of the turn that it continues.
            known, self._turn = self._turn, event.request_id
            return None if known == self._turn else event
        return event


def _request_in(location: str) -> UUID | None:
    """The id in the URL of a request."""
    try:
        return UUID(location.rpartition("/v1/requests/")[2])
    except ValueError:
        return None
