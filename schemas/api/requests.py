"""The request resource: the body of a 202, of a poll and of a cancel."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from schemas import fields
from schemas.api.messages import Warnings
from schemas.api.pages import SearchedPage
from schemas.content import Output, absent, storable
from schemas.errors import ErrorCode
from schemas.generation import ANumber, FinishReason, Priority, Usage
from schemas.json_schema import described
from schemas.replies import RecordSource, RequestError
from schemas.requests import AgentName, Door, Message, Moment
from schemas.status import Status

MAX_IDS = 100
"""Requests that a list may name."""
MAX_ERRORS = 100
"""Errors of attempts that a request shows, the newest ones."""
MAX_WAIT = 7 * 24 * 3600
_MAX_INTEGER = 2**31 - 1

OwnerName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]


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


class ListedRequest(RequestResource):
    """A request in a list."""

    owner: Annotated[str | None, described("Its owner; null: the tenant itself.", "ada")] = None
    priority: Annotated[int | None, fields.SHOWN_PRIORITY] = None


class AttemptError(BaseModel):
    """Why one attempt failed, and when."""

    attempt: Annotated[int, described("Number of the attempt.", 1)]
    code: Annotated[ErrorCode, fields.CODE]
    detail: Annotated[str, fields.DETAIL]
    at: Annotated[datetime, described("When it failed.", "2026-01-31T11:59:59.345678Z")]


class RequestDetail(ListedRequest):
    """A request in full. Until a worker has read its record, the fields may be null or empty."""

    accepted_at: Annotated[
        datetime | None,
        described(
            "When it was written to Kafka; `created_at` is when a worker read it. Null if its record has no such time, "
            "and, for a request with an `Idempotency-Key`, until a worker has read it.",
            "2026-01-31T11:59:58.023Z",
        ),
    ] = None
    not_before: Annotated[
        datetime | None, described("It does not start before this time; null: no limit.", "2026-01-31T11:00:00Z")
    ] = None
    deadline: Annotated[datetime | None, described("When it expires.", "2026-01-31T12:00:00Z")] = None
    runnable_at: Annotated[
        datetime | None,
        described(
            "The earliest time of its next attempt; once a worker has taken it, that of its latest attempt. Null while "
            "it waits behind another request of its conversation.",
            "2026-01-31T11:59:58.123456Z",
        ),
    ] = None
    tries: Annotated[
        int | None,
        described(
            "Attempts that count towards `max_tries`; rate limits, shutdowns and faults of the account do not.", 1
        ),
    ] = None
    max_tries: Annotated[int | None, described("The request fails after this many tries.", 5)] = None
    errors: Annotated[
        list[AttemptError], described(f"Why attempts failed, oldest first; only the newest {MAX_ERRORS}.")
    ] = []
    messages: Annotated[
        list[Message] | None,
        described(
            "The messages that were sent; the answer is in `reply` and `output`. Null until a worker has read the "
            "request, once its texts are deleted, for operators who are not its owner, and if the body is kept as a "
            "file because it exceeds a Kafka record (2 MiB).",
            [fields.A_MESSAGE],
        ),
    ] = None
    record: Annotated[RecordSource | None, described("Where its record is in Kafka.")] = None
    trace_id: Annotated[
        str | None, described("Id of the trace that it belongs to.", "4bf92f3577b34da6a3ce929d0e0e4736")
    ] = None
    cost: Annotated[float | None, described("Price of the answer in US dollars, if known.", 0.00031)] = None
    worker: Annotated[UUID | None, described("The worker that runs it; null: none does.", fields.A_REQUEST)] = None


class RequestPage(SearchedPage[ListedRequest]):
    """One page of requests. It may be empty although there are more."""

    newest: Annotated[
        str | None,
        described(
            "The `newer_than` of a later call that returns only newer requests; null: the page is empty.",
            "WzE3Njk4NjA3OTgsImEiXQ",
        ),
    ] = None


class AcceptedRequest(RequestResource):
    """The 202 of ``POST /v1/messages``: the request. Its id is also in ``request_id``, as in the 200."""

    request_id: Annotated[UUID, fields.REQUEST_ID]
    warnings: Warnings = []


class ChangedRequest(RequestResource):
    """The 200 of ``PATCH /v1/requests/{id}``. ``warnings`` contains `priority` if it was lowered."""

    warnings: Warnings = []


class RequestFilter(BaseModel):
    """Selects the requests that match every given field."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, described("Only those in this state.", "failed")] = None
    model: Annotated[
        Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)] | None,
        described("Only those for this model, by the name that was sent.", "llama3"),
    ] = None
    conversation_id: Annotated[UUID | None, described("Only those of this conversation.", fields.A_CONVERSATION)] = None
    task_type: Annotated[AgentName | None, described("Only tasks of this type.", "analyst")] = None
    door: Annotated[Door | None, described("Only those sent through this OpenAI-compatible API.", "chat")] = None
    owner: Annotated[OwnerName | None, described("Only those of this owner.", "ada")] = None
    error_code: Annotated[
        ErrorCode | None,
        described("Only those that failed with this error, or whose latest attempt did.", "timeout"),
    ] = None
    worker: Annotated[UUID | None, described("Only those that this worker runs now.", fields.A_REQUEST)] = None
    priority: Annotated[Priority | None, described("Only those of this priority.", 5)] = None
    attempts_min: Annotated[
        Annotated[int, Field(ge=0, le=_MAX_INTEGER), ANumber] | None,
        described("Only those with at least this many attempts.", 2),
    ] = None
    waited_min: Annotated[
        Annotated[float, Field(ge=0, le=MAX_WAIT, allow_inf_nan=False), ANumber] | None,
        described(
            "Only those that waited at least this many seconds for their first attempt, or already wait as long.",
            60,
        ),
    ] = None
    id: Annotated[
        Annotated[list[UUID], Field(min_length=1, max_length=MAX_IDS)] | None,
        described(f"Only these, up to {MAX_IDS}.", [fields.A_REQUEST]),
    ] = None
    created_after: Annotated[Moment | None, fields.CREATED_AFTER] = None
    created_before: Annotated[Moment | None, fields.CREATED_BEFORE] = None


class RequestQuery(RequestFilter):
    """The query of ``GET /v1/requests``."""

    limit: Annotated[int, Field(ge=1, le=100), fields.LIMIT] = 20
    cursor: Annotated[Annotated[str, Field(max_length=512)] | None, fields.CURSOR] = None
    newer_than: Annotated[
        Annotated[str, Field(max_length=512)] | None,
        described(
            "`newest` of an earlier page: only requests that are newer than all of that page.", "WzE3Njk4NjA3OTgsImEiXQ"
        ),
    ] = None

    @field_validator("priority", "attempts_min", "waited_min", mode="before")
    @classmethod
    def _number_of(cls, text: object) -> object:
        # A query has only texts.
        if isinstance(text, str):
            with suppress(ValueError):
                return float(text)
        return text
