"""What is on ``llm.events``: the life of a request as it happens, best effort, keyed by request id.

``attempt`` is the request's fence: it only ever grows, so an event of an older attempt is recognised and dropped.
"""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.errors import ErrorCode
from schemas.generation import FinishReason, Usage
from schemas.replies import RequestError

STARTED = "llm.request.started"
DELTA = "llm.request.delta"
RESTART = "llm.request.restart"
COMPLETED = "llm.request.completed"
FAILED = "llm.request.failed"
CANCELLED = "llm.request.cancelled"
EXPIRED = "llm.request.expired"

# A longer reply is fetched over HTTP instead of travelling in records.
MAX_REPLY_BYTES_IN_RECORD = 64 * 1024


class Event(BaseModel):
    """What every event says."""

    attempt: Annotated[int, Field(ge=0)]


class Started(Event):
    """A worker began an attempt. Text of earlier attempts is void."""

    conversation_id: UUID


class Delta(Event):
    """A piece of text. ``at``: how many code points of this attempt came before it."""

    at: Annotated[int, Field(ge=0)]
    text: str


class Restarted(Event):
    """Throw away what you have of this request; ``text`` is the text so far.

    ``last_error``: why the attempt failed, when another one follows later.
    """

    text: str
    last_error: RequestError | None = None


class Completed(Event):
    """The turn is done. ``reply`` is null when it is longer than 64 KiB: fetch it over HTTP.

    ``finish_reason``: ``length`` when the reply was cut off at its token limit, ``stop`` when it is whole. A record of
    an older release has none.
    """

    reply: str | None
    usage: Usage
    finish_reason: FinishReason | None = None


class Failed(Event):
    """The turn failed for good."""

    code: ErrorCode
    detail: str


class Cancelled(Event):
    """The turn was cancelled."""


class Expired(Event):
    """The turn was not answered before its deadline."""


EVENT_TYPES: dict[str, type[Event]] = {
    STARTED: Started,
    DELTA: Delta,
    RESTART: Restarted,
    COMPLETED: Completed,
    FAILED: Failed,
    CANCELLED: Cancelled,
    EXPIRED: Expired,
}
ENDING_TYPES = frozenset({COMPLETED, FAILED, CANCELLED, EXPIRED})
