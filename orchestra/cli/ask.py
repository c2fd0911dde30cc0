"""Sends one message to a gateway and shows the answer as it arrives."""

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from orchestra.cli.terminal import Screen
from orchestra.client import AsyncClient, Client, ClientError
from orchestra.client.events import (
    CompletedEvent,
    DeltaEvent,
    Event,
    EventError,
    PendingEvent,
    ReasoningDeltaEvent,
    RefusalDeltaEvent,
    RestartEvent,
    StartedEvent,
    ToolCallDeltaEvent,
    ToolCallEvent,
)
from orchestra.transcript import Piece, after, before, joined, pieces_of, text_of, units_of

# How long a gateway may be unreachable: time enough for a restart.
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Where:
    """A gateway, and the key to show it."""

    url: str
    key: str | None = None

    def client(self) -> Client:
        """A client that fails at once if the gateway cannot be reached."""
        return Client(self.url, self.key or "", retry_seconds=0, reconnect_seconds=PATIENCE_SECONDS)


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
    _noted: EventError | None = None
    _lost: bool = False
    _cancel: asyncio.Event = field(default_factory=asyncio.Event)
    _accepted: asyncio.Event = field(default_factory=asyncio.Event)

    async def reply(self) -> str:
        """Return the text of the reply, and show all of it as it arrives. Raises ``ClientError``."""
        client = AsyncClient(
            self.where.url,
            self.where.key or "",
            retry_seconds=self.at_first,
            reconnect_seconds=self.patience,
            on_retry=self._on_retry,
        )
        async with client, asyncio.TaskGroup() as tasks:
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

    async def _until_ended(self, client: AsyncClient) -> ClientError | None:
        async with client.messages.stream(**self.body) as stream:
            while True:
                try:
                    event = await anext(stream, None)
                except ClientError as error:
                    return error
                if event is None:
                    return stream.error
                if self._lost:
                    self._lost = False
                    self.screen.note("the gateway is back")
                self._take(event)

    def _on_retry(self, error: ClientError, _pause: float) -> None:
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise error  # A person decides whether to wait.
        if not self._lost:
            self._lost = True
            self.screen.note(f"{error}; trying again")

    def _take(self, event: Event) -> None:
        match event:
            case PendingEvent():
                self.request_id = str(event.request_id)
                self.conversation_id = str(event.conversation_id or "") or self.conversation_id
                self._accepted.set()
                self._note_error(event.last_error)
            case StartedEvent():
                self.started = True
            case DeltaEvent(text=text):
                self._add(Piece("text", text))
            case ReasoningDeltaEvent(text=text):
                self._add(Piece("reasoning", text))
            case RefusalDeltaEvent(text=text):
                self._add(Piece("refusal", text))
            case ToolCallEvent(index=index, call_id=call_id, name=name):
                self._add(Piece("tool_call", "", index, call_id, name))
            case ToolCallDeltaEvent(index=index, arguments=text):
                self._add(Piece("tool_arguments", text, index))
            case RestartEvent():
                self._note_error(event.last_error)
                self._show(pieces_of(event.text, event.output))
            case CompletedEvent():
                if answer := pieces_of(event.reply or "", event.output):
                    self._show(answer)
                if event.finish_reason == "length":
                    self.screen.note("cut at max_tokens")

    def _note_error(self, error: EventError | None) -> None:
        """Show why the last attempt failed, once per reason."""
        if error and error != self._noted:
            self._noted = error
            self.screen.note(f"{error.code}: {error.detail}; trying again")

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

    async def _cancel_when_wanted(self, client: AsyncClient) -> None:
        await self._cancel.wait()
        await self._accepted.wait()
        try:
            await client.requests.cancel(self.request_id or "")
        except ClientError as error:
            self.screen.note(f"it cannot be cancelled: {error}")
