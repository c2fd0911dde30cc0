"""What messages and tasks may ask for, as keyword arguments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict
from uuid import UUID

from pydantic import TypeAdapter

from schemas.api.audit import Action
from schemas.content import ResponseFormat, Tool, ToolChoice
from schemas.errors import ErrorCode
from schemas.requests import Context, Door, Message, OnBusy, OnDisconnect
from schemas.status import Status

# A text is one message of the user.
Messages = str | Sequence[Mapping[str, Any] | Message]

_JSON = TypeAdapter(dict[str, Any])


class SamplingOptions(TypedDict, total=False):
    """How the model chooses its words, and what it may and must do. Fields of ``schemas.generation.Options``."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    stop: Sequence[str] | str | None
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None
    tools: Sequence[Tool] | None
    tool_choice: ToolChoice | None
    parallel_tool_calls: bool | None
    response_format: ResponseFormat | None
    user: str | None
    reasoning: Literal["include"] | None


class CommonOptions(SamplingOptions, total=False):
    """What messages and tasks have in common. Times without a zone are UTC."""

    conversation_id: UUID | str | None
    model: str | None
    priority: int | None
    deadline: datetime | None
    not_before: datetime | None
    on_busy: OnBusy | None
    metadata: Mapping[str, str] | None


class MessageOptions(CommonOptions, total=False):
    """Fields of the body of ``POST /v1/messages`` (``schemas.api.messages.PostMessage``), beside ``messages``."""

    agent: str | None
    context: Context | None
    on_disconnect: OnDisconnect | None


class TaskOptions(CommonOptions, total=False):
    """Fields of the body of ``POST /v1/tasks`` (``schemas.api.tasks.CreateTask``), beside its type and its prompt."""

    history: Sequence[Mapping[str, Any] | Message] | None


class RequestFilters(TypedDict, total=False):
    """Which requests: those that match every given one. Fields of ``schemas.api.requests.RequestFilter``."""

    status: Status | str | None
    model: str | None
    conversation_id: UUID | str | None
    task_type: str | None
    door: Door | str | None
    owner: str | None
    error_code: ErrorCode | str | None
    worker: UUID | str | None
    priority: int | None
    attempts_min: int | None
    waited_min: float | None
    id: Sequence[UUID | str] | None
    created_after: datetime | str | None
    created_before: datetime | str | None


class AuditFilters(TypedDict, total=False):
    """Which changes: those that match every given one. Fields of ``schemas.api.audit.AuditFilter``."""

    actor: str | None
    action: Action | str | None
    target: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None


class Changes(TypedDict, total=False):
    """What to change of a request. None sets the default of a new request. Times without a zone are UTC."""

    priority: int | None
    not_before: datetime | str | None
    deadline: datetime | str | None


def body_of(**fields: Any) -> bytes:
    """A body without the fields that are None. Raises ``ValueError`` for what is not JSON."""
    return whole_body_of(**{name: value for name, value in fields.items() if value is not None})


def whole_body_of(**fields: Any) -> bytes:
    """A body in which None is null. Raises ``ValueError`` for what is not JSON."""
    return _JSON.dump_json(fields)


def check_names(options: Any, known: Any) -> None:
    """Raise ``TypeError`` if there is an option that ``known``, a class of options, does not have."""
    if unknown := options.keys() - known.__optional_keys__:
        raise TypeError(f"there is no option {min(unknown)!r}")


def dialogue(messages: Messages) -> Sequence[Mapping[str, Any] | Message]:
    """The messages of a request."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
