"""What is on ``llm.replies``: how a request ended, once per request in Postgres, at least once here."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.status import Status

REPLY = "llm.reply"


class RequestError(BaseModel):
    """Why a request failed."""

    code: ErrorCode
    detail: str


class RecordSource(BaseModel):
    """Where the request's record lay."""

    topic: str
    partition: int
    offset: int


class Reply(BaseModel):
    """The ending of a request. ``reply`` is null unless completed, or when longer than 64 KiB (``reply_url``).

    ``finish_reason`` is there when completed: ``length`` when the reply was cut off at its token limit. ``metadata`` is
    the request's own, and absent when it had none.
    """

    request_id: UUID
    conversation_id: UUID
    status: Status
    reply: str | None
    reply_url: str | None = None
    error: RequestError | None
    usage: Usage | None
    attempts: Annotated[int, Field(ge=0)]
    model: str | None
    source: RecordSource | None
    finished_at: datetime
    finish_reason: FinishReason | None = None
    metadata: dict[str, str] | None = None
