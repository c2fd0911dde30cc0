"""Statistics of what has ended, by time."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.json_schema import described
from schemas.requests import Moment

MAX_POINTS = 1000
MAX_DAYS = 31
FAILED = described("Those that failed.", 1)
CANCELLED = described("Those that were cancelled.", 1)
EXPIRED = described("Those whose deadline passed.", 0)
INPUT_TOKENS = described("Tokens of the prompts.", 8000)
OUTPUT_TOKENS = described("Tokens of the answers.", 2100)
COST = described("Their cost in US dollars, as far as their models have a price.", 0.31)


class StatsQuery(BaseModel):
    """The query of ``GET /v1/stats``."""

    model_config = ConfigDict(extra="forbid")

    from_: Annotated[
        Moment | None,
        Field(alias="from"),
        described("Start, rounded down to a minute; by default an hour before `to`.", "2026-01-31T11:00:00Z"),
    ] = None
    to: Annotated[
        Moment | None,
        described("End, rounded up to a minute; by default now. At most 31 days later.", "2026-01-31T12:00:00Z"),
    ] = None
    step: Annotated[
        int,
        Field(ge=60, le=31 * 86_400, multiple_of=60),
        described("Seconds of each point, a multiple of 60. There may be at most 1,000 points.", 300),
    ] = 60
    by: Annotated[
        Literal["model", "outcome"] | None, described("Split each point by model or by outcome.", "model")
    ] = None


class Durations(BaseModel):
    """How long something took, over many requests. A percentile is within 14 % of the exact one, up to 22 hours."""

    mean: Annotated[float | None, described("The mean in seconds; null: nothing was measured.", 1.2)]
    p50: Annotated[float | None, described("The median in seconds.", 0.8)]
    p95: Annotated[float | None, described("The 95th percentile in seconds.", 4.1)]
    p99: Annotated[float | None, described("The 99th percentile in seconds.", 9.3)]


class StatsPoint(BaseModel):
    """The requests that ended in one step."""

    at: Annotated[datetime, described("Start of the step.", "2026-01-31T11:05:00Z")]
    key: Annotated[
        str | None, described("The model or the outcome; null: all, or with `by=model` all other models.", "llama3")
    ]
    requests: Annotated[int, described("Requests that ended.", 42)]
    completed: Annotated[int, described("Those that were answered.", 40)]
    failed: Annotated[int, FAILED]
    cancelled: Annotated[int, CANCELLED]
    expired: Annotated[int, EXPIRED]
    input_tokens: Annotated[int, INPUT_TOKENS]
    output_tokens: Annotated[int, OUTPUT_TOKENS]
    cost: Annotated[float, COST]
    queue_seconds: Annotated[Durations, described("From `created_at`, or a later `not_before`, to the first attempt.")]
    model_seconds: Annotated[
        Durations, described("From the first attempt to the end, including pauses between attempts.")
    ]


class StatsAnswer(BaseModel):
    """Statistics of the tenant's requests that ended."""

    counted_at: Annotated[
        datetime,
        described(
            "Requests that ended before this time are counted; usually it is a few seconds ago.", "2026-01-31T11:59:58Z"
        ),
    ]
    step: Annotated[int, described("Seconds of each point.", 300)]
    data: Annotated[list[StatsPoint], described("The points, oldest first, without steps in which nothing ended.")]
