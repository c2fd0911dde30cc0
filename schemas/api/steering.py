"""Acting on requests: retry, change or cancel one of them, many by their ids, or all that match a filter."""

from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

from schemas import fields
from schemas.api.messages import Warnings
from schemas.api.requests import RequestFilter
from schemas.content import OF_A_FIELD
from schemas.generation import Priority
from schemas.json_schema import described
from schemas.requests import Moment

MAX_AT_ONCE = 1000
"""Requests that one call acts on at most."""


class SkipCode(StrEnum):
    """Why a call skipped a request: a closed list.

    Those from ``invalid_request`` on are the errors with which a retry is refused, as any new message can be. A cancel
    can fail with the last four.
    """

    NOT_FOUND = "not_found"
    ENDED = "ended"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    UNCHANGED = "unchanged"
    NOT_BEFORE_DEADLINE = "not_before_deadline"
    NOT_ENDED = "not_ended"
    COMPLETED = "completed"
    RETRIED = "retried"
    IS_RETRY = "is_retry"
    NOT_KEPT = "not_kept"

    INVALID_REQUEST = "invalid_request"
    UNSUPPORTED_PART = "unsupported_part"
    UNSUPPORTED_OPTION = "unsupported_option"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_AGENT = "unknown_agent"
    CONVERSATION_DELETED = "conversation_deleted"
    CONVERSATION_FULL = "conversation_full"
    FILE_NOT_FOUND = "file_not_found"
    TOO_LARGE = "too_large"
    QUOTA_EXCEEDED = "quota_exceeded"
    TOO_MANY_OPEN = "too_many_open"
    TOO_MANY_PARKED = "too_many_parked"
    STORAGE_FULL = "storage_full"
    TOO_MANY_CALLS = "too_many_calls"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"


class ChangeRequest(BaseModel):
    """Body of ``PATCH /v1/requests/{id}``. Absent fields stay as they are; null sets the default of a new request."""

    model_config = ConfigDict(extra="forbid")

    priority: Annotated[Priority | None, fields.PRIORITY] = None
    not_before: Annotated[Moment | None, fields.NOT_BEFORE] = None
    deadline: Annotated[Moment | None, fields.DEADLINE] = None


class _Selection(BaseModel):
    """Which requests a call acts on."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[
        Annotated[list[UUID], Field(min_length=1, max_length=MAX_AT_ONCE)] | None,
        described("Ids of up to 1,000 requests; instead of `filter`.", [fields.A_REQUEST]),
    ] = None
    filter: Annotated[
        RequestFilter | None,
        described(
            "Selects the requests that match every given field, of which there must be at least one; instead of `ids`."
        ),
    ] = None
    dry_run: Annotated[
        StrictBool, described("Change nothing: `done` counts the requests that the call would act on.", True)
    ] = False
    cursor: Annotated[
        Annotated[str, Field(max_length=512)] | None,
        described("`next` of the previous call with the same selection, to continue there.", "WzE3Njk4NjA3OTgsNDJd"),
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("give either ids or filter")
        if self.filter and all(value is None for value in self.filter.model_dump().values()):
            raise PydanticCustomError(OF_A_FIELD, "filter: name at least one field to select requests by")
        return self


class CancelRequests(_Selection):
    """Body of ``POST /v1/requests/cancel``. A filter selects requests that have not ended."""


class RetryRequests(_Selection):
    """Body of ``POST /v1/requests/retry``. A filter selects failed, expired and cancelled requests.

    It skips those that are retries themselves, so that the call can be repeated. Retry these by their ids.
    """


class ChangeRequests(_Selection):
    """Body of ``POST /v1/requests/change``. A filter selects requests that no worker runs yet."""

    change: Annotated[ChangeRequest, described("What to set, as in `PATCH /v1/requests/{id}`.")]


class Skipped(BaseModel):
    """How many requests were skipped for one reason."""

    code: Annotated[SkipCode, described("The reason.", "retried")]
    count: Annotated[int, described("Number of requests.", 3)]


class RequestsDone(BaseModel):
    """Response to a call that acts on many requests. ``matched`` is the sum of ``done`` and all ``skipped``."""

    scope: Annotated[
        Literal["own", "tenant"] | None,
        described(
            "Whose requests the call can select, as in `GET /v1/requests`: the caller's `own`, or, for operators and "
            "admins, those of all owners of the `tenant`.",
            "tenant",
        ),
    ] = None
    matched: Annotated[int, described("Number of selected requests that this call looked at, at most 1,000.", 40)]
    more: Annotated[bool, described("True if there may be more: call again with `next` as `cursor`.", False)]
    done: Annotated[int, described("Number of requests that were retried, changed, or will be cancelled.", 37)]
    skipped: Annotated[list[Skipped], described("How many were skipped, by reason.")]
    next: Annotated[
        str | None,
        described("The `cursor` of the following call; null when there are no more.", "WzE3Njk4NjA3OTgsNDJd"),
    ] = None


class RequestsChanged(RequestsDone):
    """Response to ``POST /v1/requests/change``."""

    warnings: Warnings = []
