"""The records of ``llm.replies``: how a request ended. Once per request in Postgres, at least once here."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas import fields
from schemas.content import Output
from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.json_schema import described
from schemas.status import Status

REPLY = "llm.reply"


class RequestError(BaseModel):
    """Why a request failed."""

    code: Annotated[ErrorCode, fields.CODE]
    detail: Annotated[str, fields.DETAIL]


class RecordSource(BaseModel):
    """The position of the request's record."""

    topic: Annotated[str, described("Its topic.", "llm.requests")]
    partition: Annotated[int, described("Its partition.", 3)]
    offset: Annotated[int, described("Its offset.", 42)]


class Reply(BaseModel):
    """How a request ended."""

    request_id: Annotated[UUID, fields.REQUEST_ID]
    conversation_id: Annotated[UUID, fields.CONVERSATION_ID]
    status: Annotated[Status, fields.STATUS]
    reply: Annotated[
        str | None,
        described(
            "The text of the answer; null unless `status` is `completed`, and if it is longer than 64 KiB.",
            "Hello world",
        ),
    ]
    reply_url: Annotated[
        str | None,
        described("Where to fetch a longer reply over HTTP.", f"/v1/requests/{fields.A_REQUEST}"),
    ] = None
    error: Annotated[RequestError | None, fields.ERROR]
    usage: Annotated[Usage | None, fields.USAGE]
    attempts: Annotated[int, Field(ge=0), fields.ATTEMPTS]
    model: Annotated[str | None, described("The model that was requested.", "llama3")]
    source: Annotated[RecordSource | None, described("Position of the request's record; null if it is not known.")]
    finished_at: Annotated[datetime, described("When it ended.", "2026-01-31T11:59:59.345678Z")]
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    metadata: Annotated[dict[str, str] | None, fields.METADATA] = None
    output: Output = None
