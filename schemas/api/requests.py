"""The request resource: the body of a 202, of a poll and of a cancel."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.messages import Warnings
from schemas.api.pages import Page
from schemas.content import Output, absent, storable
from schemas.generation import FinishReason, Usage
from schemas.json_schema import described
from schemas.replies import RequestError
from schemas.requests import AgentName, Door, Moment
from schemas.status import Status


class RequestResource(BaseModel):
    """A request. Until a worker has read its record, all fields but ``id`` and ``status`` may be null."""

    id: Annotated[UUID, fields.REQUEST_ID]
    status: Annotated[Status, fields.STATUS]
    conversation_id: Annotated[UUID | None, fields.CONVERSATION_ID] = None
    model: Annotated[str | None, fields.MODEL] = None
    task_type: Annotated[str | None, fields.TASK_TYPE] = None
    created_at: Annotated[datetime | None, fields.CREATED_AT] = None
    started_at: Annotated[datetime | None, fields.STARTED_AT] = None
    finished_at: Annotated[datetime | None, fields.FINISHED_AT] = None
    attempts: Annotated[int | None, fields.ATTEMPTS] = None
    reply: Annotated[str | None, fields.REPLY] = None
    usage: Annotated[Usage | None, fields.USAGE] = None
    error: Annotated[RequestError | None, fields.ERROR] = None
    cancel_requested: Annotated[bool, fields.CANCEL_REQUESTED] = False
    retry_of: Annotated[UUID | None, fields.RETRY_OF] = None
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    last_error: Annotated[RequestError | None, fields.LAST_ERROR] = None
    metadata: Annotated[dict[str, str] | None, fields.METADATA] = None
    output: Output = None
    door: Annotated[Door | None, Field(exclude_if=absent), fields.DOOR] = None


class RequestPage(Page[RequestResource]):
    """One page of requests."""


class AcceptedRequest(RequestResource):
    """The 202 of a POST: the resource, with its id also as ``request_id``, the name in the POST's 200."""

    request_id: Annotated[UUID, fields.REQUEST_ID]
    warnings: Warnings = []


class RequestFilter(BaseModel):
    """Which requests to list: those that match every given field."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, described("Only those in this state.", "failed")] = None
    model: Annotated[
        Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)] | None,
        described("Only those for this model, by the name that was sent.", "llama3"),
    ] = None
    conversation_id: Annotated[UUID | None, described("Only those of this conversation.", fields.A_CONVERSATION)] = None
    task_type: Annotated[AgentName | None, described("Only tasks of this type.", "analyst")] = None
    door: Annotated[Door | None, described("Only those that came by this API of OpenAI's.", "chat")] = None
    created_after: Annotated[Moment | None, fields.CREATED_AFTER] = None
    created_before: Annotated[Moment | None, fields.CREATED_BEFORE] = None


class RequestQuery(RequestFilter):
    """The query of ``GET /v1/requests``."""

    limit: Annotated[int, Field(ge=1, le=100), fields.LIMIT] = 20
    cursor: Annotated[Annotated[str, Field(max_length=512)] | None, fields.CURSOR] = None
