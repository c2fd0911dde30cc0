"""The frames of ``GET /v1/live``, one a second."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.queue import OLDEST, RUNNABLE, UNREAD, Count
from schemas.api.stats import CANCELLED, COST, EXPIRED, FAILED, INPUT_TOKENS, OUTPUT_TOKENS
from schemas.json_schema import described

MAX_IDS = 100
_OPEN = described("All open requests. A worker counts them every few seconds.", 135)
_PARKED = described("Those of `open` whose `not_before` was in the future when they were counted.", 4)
_AT = described("When the frame was made.", "2026-01-31T12:00:00Z")


class LiveQuery(BaseModel):
    """The query of ``GET /v1/live``."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[
        str,
        Field(max_length=MAX_IDS * 37),
        described(
            "Up to 100 ids of requests, separated by commas: an event `changed` names those that have changed.",
            fields.A_REQUEST,
        ),
    ] = ""


class LiveWorkers(BaseModel):
    """The workers together."""

    alive: Annotated[int, described("Workers whose lease is valid.", 3)]
    in_flight: Annotated[int, described("Requests that they run, of all tenants.", 12)]
    draining: Annotated[int, described("Those of `alive` that drain: they take no new requests.", 0)]
    capacity: Annotated[int, described("How many requests they can run at once, without the workers that drain.", 3000)]


class LiveMinute(BaseModel):
    """The requests that ended in one minute. Numbers of the current minute still grow."""

    minute: Annotated[datetime, described("Start of the minute.", "2026-01-31T12:00:00Z")]
    completed: Annotated[int, described("Requests that were answered.", 40)]
    failed: Annotated[int, FAILED]
    cancelled: Annotated[int, CANCELLED]
    expired: Annotated[int, EXPIRED]
    input_tokens: Annotated[int, INPUT_TOKENS]
    output_tokens: Annotated[int, OUTPUT_TOKENS]
    cost: Annotated[float, COST]


class LiveFrame(BaseModel):
    """The data of the event ``frame``, for operators. All fields but `unread` are at most 2 s old."""

    at: Annotated[datetime, _AT]
    open: Annotated[int, _OPEN]
    parked: Annotated[int, _PARKED]
    runnable: Annotated[Count, described(RUNNABLE)]
    delayed: Annotated[Count, described("Requests that wait for their `not_before`, or after a failed attempt.")]
    unread: Annotated[int | None, UNREAD]
    in_progress: Annotated[Count, described("Requests that workers run now.")]
    oldest_seconds: Annotated[float | None, OLDEST]
    held_models: Annotated[list[str], described("Models that refuse calls.", ["llama3"])]
    workers: Annotated[LiveWorkers, described("The workers.")]
    dead_letters: Annotated[Count, described("Dead letters that have not been replayed.")]
    minutes: Annotated[list[LiveMinute], described("The last two minutes in which requests ended.")]


class OwnFrame(BaseModel):
    """The data of the event ``frame``, for all other callers: counts of their own requests."""

    at: Annotated[datetime, _AT]
    open: Annotated[int, _OPEN]
    parked: Annotated[int, _PARKED]
    oldest_seconds: Annotated[float | None, OLDEST]


class Changed(BaseModel):
    """The data of the event ``changed``: requests that changed their state or began another attempt."""

    ids: Annotated[list[UUID], described("Ids of requests.", [fields.A_REQUEST])]
