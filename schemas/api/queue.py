"""The queue, as operators see it."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from schemas import fields
from schemas.api.pauses import PauseResource
from schemas.api.workers import REFUSED_DETAIL
from schemas.errors import ErrorCode
from schemas.json_schema import described

RUNNABLE = "Requests that are due, including those that are held or paused."
_RUNNABLE = described(RUNNABLE, 120)
_HELD = described("Those of `runnable` that wait because their model refuses calls.", 0)
_PAUSED = described("Those of `runnable` that wait because an operator has paused their model or the tenant.", 0)
_DELAYED = described("Requests that wait for their `not_before`, or after a failed attempt.", 4)
UNREAD = described(
    "Accepted records of all tenants that no worker has read yet, so that they are only in Kafka. At most 5 s old; "
    "null: Kafka does not respond.",
    0,
)
OLDEST = described(
    "How many seconds the oldest request that a worker could take now has waited; null: there is none.", 3.5
)
_MORE = described("Whether counting stopped at its limit: there may be more.", False)


class Count(BaseModel):
    """A count with a limit."""

    count: Annotated[int, described("How many were counted.", 120)]
    more: Annotated[bool, _MORE]


class DepthOfPriority(BaseModel):
    """The waiting requests of one priority."""

    priority: Annotated[int, fields.SHOWN_PRIORITY]
    runnable: Annotated[int, _RUNNABLE]
    held: Annotated[int, _HELD]
    paused: Annotated[int, _PAUSED]
    delayed: Annotated[int, _DELAYED]
    oldest_seconds: Annotated[float | None, OLDEST]
    more: Annotated[bool, _MORE]


class DepthOfModel(BaseModel):
    """The waiting requests for one model."""

    model: Annotated[str | None, described("Name of the model; null: all others together.", "llama3")]
    runnable: Annotated[int, _RUNNABLE]
    held: Annotated[int, _HELD]
    paused: Annotated[int, _PAUSED]
    delayed: Annotated[int, _DELAYED]
    oldest_seconds: Annotated[float | None, OLDEST]


class DepthOfBoth(DepthOfModel):
    """The waiting requests for one model, of one priority."""

    priority: Annotated[int, fields.SHOWN_PRIORITY]


class HeldModel(BaseModel):
    """A model that refuses calls, so that workers do not call it for a while."""

    model: Annotated[str, described("Name of the model.", "llama3")]
    workers: Annotated[int, described("How many workers hold it back.", 2)]
    until: Annotated[datetime, described("When the last of these workers may call it again.", "2026-01-31T12:00:30Z")]
    code: Annotated[ErrorCode | None, described("The error with which the model refused the last call.", "auth")]
    detail: Annotated[str | None, REFUSED_DETAIL]


class NextRequest(BaseModel):
    """A request near the head of the queue."""

    id: Annotated[UUID, fields.REQUEST_ID]
    conversation_id: Annotated[UUID, fields.CONVERSATION_ID]
    owner: Annotated[str | None, described("Its owner; null: the tenant itself.", "ada")]
    model: Annotated[str, described("Name of its model.", "llama3")]
    priority: Annotated[int, fields.SHOWN_PRIORITY]
    waited_seconds: Annotated[float, described("For how many seconds it has been ready to run.", 3.5)]
    last_error: Annotated[
        str | None, described("Error code of its last failed attempt; null: none failed.", "rate_limited")
    ]


class QueueState(BaseModel):
    """The queue of the tenant.

    At most 500 requests of each priority are counted. A request that waits behind another one of its conversation is
    counted only in `waiting`.
    """

    open: Annotated[int, described("All open requests, without a limit. A worker counts them every few seconds.", 135)]
    parked: Annotated[int, described("Those of `open` whose `not_before` was in the future when they were counted.", 4)]
    runnable: Annotated[Count, described(RUNNABLE)]
    delayed: Annotated[Count, described("Requests that wait for their `not_before`, or after a failed attempt.")]
    unread: Annotated[int | None, UNREAD]
    waiting: Annotated[Count, described("Requests behind another one of their conversation, up to 1,000.")]
    in_progress: Annotated[Count, described("Requests that workers run now, up to 2,000.")]
    oldest_seconds: Annotated[float | None, OLDEST]
    by_priority: Annotated[
        list[DepthOfPriority], described("By priority, highest first; priorities without requests are left out.")
    ]
    by_model: Annotated[
        list[DepthOfModel], described("By model, the longest queue first; after 20 models all others together.")
    ]
    by_both: Annotated[
        list[DepthOfBoth],
        described("By model and priority, for the models of `by_model`; pairs without requests are left out."),
    ]
    held: Annotated[list[HeldModel], described("The models that refuse calls, as the workers last reported.")]
    pauses: Annotated[list[PauseResource], described("The pauses in force; one of the whole tenant comes first.")]
    head: Annotated[list[NextRequest], described("The requests that run next, up to 10.")]
