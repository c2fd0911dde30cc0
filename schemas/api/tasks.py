"""Tasks: requests with a ``task_type``, in the shapes of the old task service and ours."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.api.messages import Warnings
from schemas.errors import ErrorCode
from schemas.generation import ANumber, FinishReason, Sampling, Usage
from schemas.replies import RequestError
from schemas.requests import AgentName, Message, Metadata, Moment, OnBusy, storable
from schemas.status import Status

OwnerName = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]


class PostTask(Sampling):
    """Body of ``POST /tasks``. The old service knew the first three; the rest is as in a message.

    Unknown fields are ignored, as there; ``POST /v1/tasks`` refuses them.
    """

    model_config = ConfigDict(extra="ignore")

    task_type: AgentName
    prompt: Annotated[str, AfterValidator(storable)]
    history: Annotated[list[Message], Field(max_length=9_999)] | None = None
    conversation_id: UUID | None = None
    model: str | None = None
    priority: Annotated[int, Field(ge=0, le=9), ANumber] | None = None
    deadline: Moment | None = None
    not_before: Moment | None = None
    on_busy: OnBusy | None = None
    metadata: Metadata | None = None


class CreateTask(PostTask):
    """Body of ``POST /v1/tasks``: the same, but unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class AcceptedTask(BaseModel):
    """The 201 of ``POST /tasks``."""

    task_id: UUID
    status: Status


class AttemptError(BaseModel):
    """Why one attempt failed, and when."""

    attempt: int
    code: ErrorCode
    detail: str
    at: datetime


class TaskResource(BaseModel):
    """A task. ``result``: the answer, or the error's text when it failed, else null.

    ``attempts`` counts the times that a worker took it or another model stood in; ``errors`` has why attempts failed,
    the first first. ``not_before`` and ``deadline`` are as they hold now. ``finish_reason``: ``length`` when the answer
    was cut off at its token limit. ``last_error``: why it has not been answered, while it is open and when it expired.
    """

    id: UUID
    task_id: UUID
    user_id: str | None = None
    task_type: str | None = None
    prompt: str | None = None
    history: list[Message] = []
    status: Status
    result: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    conversation_id: UUID | None = None
    model: str | None = None
    priority: int | None = None
    not_before: datetime | None = None
    deadline: datetime | None = None
    attempts: int = 0
    errors: list[AttemptError] = []
    usage: Usage | None = None
    cancel_requested: bool = False
    retry_of: UUID | None = None
    finish_reason: FinishReason | None = None
    last_error: RequestError | None = None
    metadata: dict[str, str] | None = None


class CreatedTask(TaskResource):
    """The 201 of ``POST /v1/tasks``: the task, and which fields were ignored in its history's messages, or lowered."""

    warnings: Warnings = []


def prompt_and_history(messages: Sequence[Message]) -> tuple[str | None, list[Message]]:
    """What a task asks, which is its last user message (of all, where none is from a user), and what comes before."""
    if not messages:
        return None, []
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    place = users[-1] if users else len(messages) - 1
    return messages[place].content, list(messages[:place])


class TaskFilter(BaseModel):
    """Which tasks: all that is named must hold. Times are inclusive at the start and exclusive at the end."""

    model_config = ConfigDict(extra="forbid")

    status: Status | None = None
    type: AgentName | None = None
    user: OwnerName | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None

    @property
    def empty(self) -> bool:
        """True when it names nothing, and so means every task."""
        return all(value is None for value in self.model_dump().values())


class CancelledTasks(BaseModel):
    """Answer of ``POST /v1/tasks/cancel``: how many will be cancelled; ``more``: call again for the rest."""

    cancel_requested: int
    more: bool
