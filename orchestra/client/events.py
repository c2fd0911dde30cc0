"""Events of a stream, as `docs/reference/streams.md` describes them."""

from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.content import Output
from schemas.generation import FinishReason, Usage
from schemas.reading import read_value


class StreamEvent(BaseModel):
    """One event. ``id``: of the last event up to here that had one; a stream resumes after it.

    ``request_id``: the turn that it belongs to, in the stream of a conversation.
    """

    model_config = ConfigDict(frozen=True)

    id: str | None = None
    request_id: UUID | None = None


class EventError(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(frozen=True)

    code: str
    detail: str


class PendingEvent(StreamEvent):
    """Accepted. ``warnings``: names of fields that were ignored."""

    type: Literal["pending"] = "pending"
    request_id: UUID
    conversation_id: UUID | None = None
    warnings: list[str] = []
    last_error: EventError | None = None


class StartedEvent(StreamEvent):
    """An attempt began; the first is 1."""

    type: Literal["started"] = "started"
    attempt: int


class DeltaEvent(StreamEvent):
    """The next piece of the text."""

    type: Literal["delta"] = "delta"
    text: str


class ReasoningDeltaEvent(StreamEvent):
    """The next piece of the model's reasoning."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class RefusalDeltaEvent(StreamEvent):
    """The next piece of the model's refusal to answer."""

    type: Literal["refusal.delta"] = "refusal.delta"
    text: str


class ToolCallEvent(StreamEvent):
    """A call of a tool begins. ``index`` counts the calls of the answer, from 0."""

    type: Literal["tool_call"] = "tool_call"
    index: int
    call_id: str
    name: str


class ToolCallDeltaEvent(StreamEvent):
    """The next piece of the arguments of the call that began last."""

    type: Literal["tool_call.delta"] = "tool_call.delta"
    index: int
    arguments: str


class RestartEvent(StreamEvent):
    """Discard the answer so far: it is now ``text``, or the items in ``output``.

    ``last_error``: why the last attempt failed. ``attempt`` is 0 before the first one.
    """

    type: Literal["restart"] = "restart"
    attempt: int = 0
    text: str
    output: Output = None
    last_error: EventError | None = None


class CompletedEvent(StreamEvent):
    """The ending: the whole answer. ``reply``: its text. ``output``: its items, if it is more than one text."""

    type: Literal["completed"] = "completed"
    reply: str | None = None
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    output: Output = None


class FailedEvent(StreamEvent):
    """The ending: the request failed."""

    type: Literal["failed"] = "failed"
    code: str
    detail: str


class CancelledEvent(StreamEvent):
    """The ending: the request was cancelled."""

    type: Literal["cancelled"] = "cancelled"


class ExpiredEvent(StreamEvent):
    """The ending: the deadline passed."""

    type: Literal["expired"] = "expired"


class DeletedEvent(StreamEvent):
    """The last event of a conversation's stream: the conversation was deleted."""

    type: Literal["deleted"] = "deleted"
    conversation_id: UUID


EndingEvent = CompletedEvent | FailedEvent | CancelledEvent | ExpiredEvent
Event = (
    PendingEvent
    | StartedEvent
    | DeltaEvent
    | ReasoningDeltaEvent
    | RefusalDeltaEvent
    | ToolCallEvent
    | ToolCallDeltaEvent
    | RestartEvent
    | EndingEvent
)
ConversationEvent = Event | DeletedEvent
ENDINGS = (CompletedEvent, FailedEvent, CancelledEvent, ExpiredEvent)
_KINDS: Mapping[str, type[ConversationEvent]] = {
    str(kind.model_fields["type"].default): kind
    for kind in (
        PendingEvent,
        StartedEvent,
        DeltaEvent,
        ReasoningDeltaEvent,
        RefusalDeltaEvent,
        ToolCallEvent,
        ToolCallDeltaEvent,
        RestartEvent,
        *ENDINGS,
        DeletedEvent,
    )
}


def read_event(name: str, data: Any, id: str | None) -> ConversationEvent | None:
    """The event of this name; None if the client does not know it. Raises ``ValueError`` if its data is wrong."""
    if (kind := _KINDS.get(name)) is None:
        return None
    if not isinstance(data, dict):
        raise ValueError("the data of an event is an object")  # noqa: TRY004  as pydantic's own error
    return read_value(kind, {**data, "id": id, "type": name})
