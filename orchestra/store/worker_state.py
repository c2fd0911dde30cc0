"""What a worker says of itself with each renewal of its lease, for operators.

Later releases add fields; what is unknown is ignored.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from schemas.errors import ErrorCode

MAX_MODELS = 20
"""Maximum number of models that a worker names."""
MAX_TOPICS = 50
"""Maximum number of topics that it names."""
MAX_PARTITIONS = 1000
"""Maximum number of partitions of each that it names."""
_MAX_TEXT = 200


def short(text: str) -> str:
    """At most 200 characters of a text that others chose, as Postgres can store it."""
    text = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


class StateOfModel(BaseModel):
    """A model as one worker sees it.

    ``room``: how many more calls of it the worker may start now; None: as many as it has slots. ``held_seconds``: for
    how long it does not call the model, because of the error ``code``; None: it calls it.
    """

    model: str
    in_flight: int = 0
    room: int | None = None
    held_seconds: float | None = None
    code: ErrorCode | None = None
    detail: str | None = None


class StateOfTopic(BaseModel):
    """A topic that the worker reads, the tenant that its records belong to, and the worker's partitions of it."""

    topic: str
    tenant: str
    partitions: list[int] = []


class WorkerState(BaseModel):
    """The state of a worker when it renewed its lease.

    ``models``: at most 20, those that are held back first. ``draining``: it takes nothing new. ``owner_slots`` and
    ``tenant_slots``: how many of its slots one owner and one tenant may hold; None: all of them.
    """

    version: str
    in_flight: int
    capacity: int
    draining: bool = False
    owner_slots: int | None = None
    tenant_slots: int | None = None
    models: Annotated[list[StateOfModel], Field(max_length=MAX_MODELS)] = []
    topics: Annotated[list[StateOfTopic], Field(max_length=MAX_TOPICS)] = []
