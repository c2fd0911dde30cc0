"""Tasks: requests with a ``task_type``, in the shapes of the v0 API and of v1."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.messages import Warnings
from schemas.api.pages import Page
from schemas.api.requests import AttemptError, OwnerName
from schemas.content import Output, storable
from schemas.generation import FinishReason, Options, Priority, Sampling, Usage
from schemas.json_schema import described
from schemas.replies import RequestError
from schemas.requests import AgentName, Message, Metadata, Moment, OnBusy
from schemas.status import Status


class PostTask(Sampling):
    """Body of ``POST /tasks``. Unknown fields are ignored, as in the v0 API; ``POST /v1/tasks`` rejects them."""

    model_config = ConfigDict(extra="ignore")

    task_type: Annotated[AgentName, described("Name of the agent that answers the task.", "analyst")]
    prompt: Annotated[str, AfterValidator(storable), described("What to do.", "Which region sold most in May?")]
    history: Annotated[
        Annotated[list[Message], Field(max_length=9_999)] | None,
        described("Messages before the prompt, oldest first.", [fields.A_MESSAGE]),
    ] = None
    conversation_id: Annotated[
        UUID | None, described("The conversation to continue; null: a new one.", fields.A_CONVERSATION)
    ] = None
    model: Annotated[str | None, described("Name or alias of the model; null: the agent's.", "llama3")] = None
    priority: Annotated[Priority | None, fields.PRIORITY] = None
    deadline: Annotated[Moment | None, fields.DEADLINE] = None
    not_before: Annotated[Moment | None, fields.NOT_BEFORE] = None
    on_busy: Annotated[OnBusy | None, fields.ON_BUSY] = None
    metadata: Annotated[Metadata | None, fields.METADATA] = None


class CreateTask(Options, PostTask):
    """Body of ``POST /v1/tasks``. Unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid")


class AcceptedTask(BaseModel):
    """Response to ``POST /tasks``."""

    task_id: Annotated[UUID, described("The task's id.", fields.A_REQUEST)]
    status: Annotated[Status, fields.STATUS]


class TaskResource(BaseModel):
    """A task. Until a worker has read its record, most fields may be null."""

    id: Annotated[UUID, described("The task's id.", fields.A_REQUEST)]
    task_id: Annotated[UUID, described("The same as `id`, under its name in the v0 API.", fields.A_REQUEST)]
    user_id: Annotated[str | None, described("The owner of the task.", "ann")] = None
    task_type: Annotated[str | None, described("Name of the agent that answers the task.", "analyst")] = None
    prompt: Annotated[str | None, described("What to do.", "Which region sold most in May?")] = None
    history: Annotated[list[Message], described("Messages before the prompt, oldest first.", [fields.A_MESSAGE])] = []
    status: Annotated[Status, fields.STATUS]
    result: Annotated[
        str | None, described("The answer; the text of the error if it failed; otherwise null.", "The north.")
    ] = None
    created_at: Annotated[datetime | None, fields.CREATED_AT] = None
    started_at: Annotated[datetime | None, fields.STARTED_AT] = None
    completed_at: Annotated[datetime | None, fields.FINISHED_AT] = None
    conversation_id: Annotated[UUID | None, fields.CONVERSATION_ID] = None
    model: Annotated[str | None, fields.MODEL] = None
    priority: Annotated[int | None, fields.SHOWN_PRIORITY] = None
    not_before: Annotated[
        datetime | None, described("It does not start before this time; null: no limit.", "2026-01-31T11:00:00Z")
    ] = None
    deadline: Annotated[datetime | None, described("When it expires.", "2026-01-31T12:00:00Z")] = None
    attempts: Annotated[int, fields.ATTEMPTS] = 0
    errors: Annotated[list[AttemptError], described("Why attempts failed, oldest first.")] = []
    usage: Annotated[Usage | None, fields.USAGE] = None
    cancel_requested: Annotated[bool, fields.CANCEL_REQUESTED] = False
    retry_of: Annotated[UUID | None, described("The task that this one retries.", fields.A_REQUEST)] = None
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    last_error: Annotated[RequestError | None, fields.LAST_ERROR] = None
    metadata: Annotated[dict[str, str] | None, fields.METADATA] = None
    output: Output = None


class TaskPage(Page[TaskResource]):
    """One page of tasks."""


class CreatedTask(TaskResource):
    """Response to ``POST /v1/tasks``. ``warnings`` can name ``priority``, and fields of the messages in ``history``."""

    warnings: Warnings = []


def prompt_and_history(messages: Sequence[Message]) -> tuple[str | None, list[Message]]:
    """The prompt of a task and the messages before it: its last user message, or its last one if none is a user's."""
    if not messages:
        return None, []
    users = [place for place, message in enumerate(messages) if message.role == "user"]
    place = users[-1] if users else len(messages) - 1
    return messages[place].text, list(messages[:place])


class TaskFilter(BaseModel):
    """Selects the tasks that match every given field."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, described("Only those in this state.", "pending")] = None
    type: Annotated[AgentName | None, described("Only those of this `task_type`.", "analyst")] = None
    user: Annotated[OwnerName | None, described("Only those of this owner.", "ann")] = None
    created_after: Annotated[Moment | None, fields.CREATED_AFTER] = None
    created_before: Annotated[Moment | None, fields.CREATED_BEFORE] = None

    @property
    def empty(self) -> bool:
        """True if no field is given, so that it matches every task."""
        return all(value is None for value in self.model_dump().values())


class CancelledTasks(BaseModel):
    """Response to ``POST /v1/tasks/cancel``."""

    cancel_requested: Annotated[int, described("Number of tasks that will be cancelled.", 12)]
    more: Annotated[bool, described("True if there are more matching tasks: call again for the rest.", False)]
