"""The records of ``llm.events``: the progress of a request as it happens, best effort, keyed by request id.

``attempt`` is the request's fence: it only ever grows, so events of an older attempt can be recognised and dropped.
"""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from schemas import fields
from schemas.content import Output, absent
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.json_schema import described
from schemas.replies import RequestError

STARTED = "llm.request.started"
DELTA = "llm.request.delta"
PIECE = "llm.request.piece"
RESTART = "llm.request.restart"
COMPLETED = "llm.request.completed"
FAILED = "llm.request.failed"
CANCELLED = "llm.request.cancelled"
EXPIRED = "llm.request.expired"

# A longer reply is not in the record: it is fetched over HTTP.
MAX_REPLY_BYTES_IN_RECORD = 64 * 1024


class Event(BaseModel):
    """The fields of every event."""

    attempt: Annotated[int, Field(ge=0), fields.ATTEMPT]


class Started(Event):
    """A worker started an attempt. Discard the text of earlier attempts."""

    conversation_id: Annotated[UUID, fields.CONVERSATION_ID]


class Delta(Event):
    """A piece of streamed text."""

    at: Annotated[int, Field(ge=0), described("Number of code points of text before this piece, in this attempt.", 6)]
    text: Annotated[str, described("The piece.", "world")]
    n: Annotated[
        Annotated[int, Field(ge=0)] | None,
        described("Position of this piece, as in `llm.request.piece`; absent while the answer has only text.", 57),
    ] = Field(None, exclude_if=absent)


class AnswerPiece(Event):
    """A piece of the answer that is not text: of a tool call, of the reasoning or of a refusal.

    Pieces and deltas come in the order of the answer's items.
    """

    n: Annotated[
        int,
        Field(ge=0),
        described(
            "Position of this piece: the code points of all pieces before it in this attempt, including text, plus one "
            "for each tool call that began before it.",
            6,
        ),
    ]
    kind: Annotated[Literal["tool_call", "tool_arguments", "reasoning", "refusal"], described("Kind of the piece.")]
    index: Annotated[
        Annotated[int, Field(ge=0)] | None, described("Number of the tool call within the answer, from 0.", 0)
    ] = Field(None, exclude_if=absent)
    call_id: Annotated[str | None, described("The call's id; only in `tool_call`.", "call_1")] = Field(
        None, exclude_if=absent
    )
    name: Annotated[str | None, described("Name of the function; only in `tool_call`.", "weather")] = Field(
        None, exclude_if=absent
    )
    text: Annotated[str | None, described("The piece; in all kinds except `tool_call`.", '{"city": ')] = Field(
        None, exclude_if=absent
    )


class Restarted(Event):
    """Discard the text received so far and continue from ``text``."""

    text: Annotated[str, described("The text of the new attempt so far.", "Hello")]
    output: Output = None
    last_error: Annotated[
        RequestError | None, described("Why the last attempt failed, if another one follows later.")
    ] = None


class Completed(Event):
    """The request was answered."""

    reply: Annotated[
        str | None,
        described("The whole text; null if it is longer than 64 KiB: fetch it over HTTP.", "Hello world"),
    ]
    usage: Annotated[Usage, described("Tokens used by the attempt that answered.")]
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    output: Output = None


class Failed(Event):
    """The request failed and is not retried."""

    code: Annotated[ErrorCode, fields.CODE]
    detail: Annotated[str, fields.DETAIL]


class Cancelled(Event):
    """The request was cancelled."""


class Expired(Event):
    """The request was not answered before its deadline."""


EVENT_TYPES: dict[str, type[Event]] = {
    STARTED: Started,
    DELTA: Delta,
    PIECE: AnswerPiece,
    RESTART: Restarted,
    COMPLETED: Completed,
    FAILED: Failed,
    CANCELLED: Cancelled,
    EXPIRED: Expired,
}
ENDING_TYPES = frozenset({COMPLETED, FAILED, CANCELLED, EXPIRED})
