"""The workers, as operators see them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel

from schemas.errors import ErrorCode
from schemas.json_schema import described

A_WORKER = "5d0b6a3e-9f0c-4c52-8a0e-2f1f5e7c9b11"
REFUSED_DETAIL = described("What the provider said.", "the provider rejected the API key")


class ModelOfWorker(BaseModel):
    """A model as one worker sees it."""

    model: Annotated[str, described("Name of the model, as in requests; truncated to 200 characters.", "llama3")]
    in_flight: Annotated[int, described("Calls of it that run now.", 3)]
    room: Annotated[
        int | None,
        described("How many more calls the worker may start now; null: as many as it has free slots.", 1),
    ]
    held_until: Annotated[
        datetime | None,
        described("When the worker may call it again; null: the model is not held back.", "2026-01-31T12:00:30Z"),
    ]
    code: Annotated[
        ErrorCode | None,
        described("The error with which the model refused the last call; null while it is not held back.", "auth"),
    ]
    detail: Annotated[str | None, REFUSED_DETAIL]


class TopicOfWorker(BaseModel):
    """The partitions of a topic that a worker reads."""

    topic: Annotated[str, described("Name of the topic.", "llm.requests")]
    partitions: Annotated[list[int], described("The numbers of the partitions.", [0, 1, 2])]


class WorkerResource(BaseModel):
    """A registered worker. What it reports is as old as the last renewal of its lease, up to 3 s."""

    id: Annotated[UUID, described("The worker's id. It changes when the worker loses its lease.", A_WORKER)]
    started_at: Annotated[datetime, described("When it took its lease.", "2026-01-31T11:00:00Z")]
    lease_until: Annotated[
        datetime, described("When its lease ends, unless it is renewed before.", "2026-01-31T12:00:15Z")
    ]
    alive: Annotated[bool, described("Whether its lease is valid. If not, its requests go to other workers.", True)]
    drain_requested_at: Annotated[
        datetime | None,
        described("When an operator asked it to drain; null: none did.", "2026-01-31T12:00:00Z"),
    ]
    version: Annotated[
        str | None,
        described(
            "Its release. This and the fields below are null until it first renews its lease, and if this gateway "
            "cannot read the report of a worker of another release.",
            "0.2.0",
        ),
    ]
    draining: Annotated[
        bool | None, described("Whether it takes no new turns, because it is stopping or an operator drains it.", False)
    ]
    in_flight: Annotated[int | None, described("Requests that it runs now.", 12)]
    capacity: Annotated[int | None, described("How many requests it can run at once.", 1000)]
    models: Annotated[
        list[ModelOfWorker] | None, described("Up to 20 of its models, those that are held back or limited first.")
    ]
    topics: Annotated[list[TopicOfWorker] | None, described("The topics and partitions that it reads.")]


class WorkerList(BaseModel):
    """The workers, the one that started last first."""

    data: Annotated[list[WorkerResource], described("The workers.")]
    more: Annotated[bool, described("Whether there are more than the 500 that are listed.", False)]
