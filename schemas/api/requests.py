"""The request resource: a 202, a poll, the answer to a cancel."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.api.messages import Warnings
from schemas.generation import FinishReason, Usage
from schemas.replies import RequestError
from schemas.requests import AgentName, Moment, storable
from schemas.status import Status


class RequestResource(BaseModel):
    """A request as a caller sees it. Before its row exists all but ``id`` and ``status`` may be null.

    ``finish_reason``: ``length`` when the reply was cut off at its token limit. ``error``: why it failed.
    ``last_error``: why it has not been answered, while it is open and when it expired. ``metadata``: as it was sent.
    """

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
    finish_reason: FinishReason | None = None
    last_error: RequestError | None = None
    metadata: dict[str, str] | None = None


class AcceptedRequest(RequestResource):
    """The 202 of a POST: the resource, and its id under the name that the POST's 200 gives it too."""

    request_id: UUID
    warnings: Warnings = []


class RequestFilter(BaseModel):
    """Which requests: all that is named must hold. Times are inclusive at the start and exclusive at the end."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    model: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)] | None = None
    conversation_id: UUID | None = None
    task_type: AgentName | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None


class RequestQuery(RequestFilter):
    """The query of ``GET /v1/requests``."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=512)] | None = None
