"""The request resource: a 202, a poll, the answer to a cancel."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from schemas.generation import Usage
from schemas.replies import RequestError
from schemas.status import Status


class RequestResource(BaseModel):
    """A request as a caller sees it. Before its row exists all but ``id`` and ``status`` may be null."""

    id: UUID
    status: Status
    conversation_id: UUID | None = None
    model: str | None = None
    task_type: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int | None = None
    reply: str | None = None
    usage: Usage | None = None
    error: RequestError | None = None
    cancel_requested: bool = False
    retry_of: UUID | None = None


class AcceptedRequest(RequestResource):
    """The 202 of a POST: the resource, and its id under the name that the POST's 200 gives it too."""

    request_id: UUID
