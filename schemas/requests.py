"""The records of ``llm.requests``: a message to answer, a cancel, the deletion of a conversation."""

import hashlib
import json
import re
from collections.abc import Collection
from datetime import datetime
from itertools import zip_longest
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from schemas import fields
from schemas.content import OF_A_FIELD, DialogueMessage, FileId, JsonObject, storable
from schemas.envelope import in_utc
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import Options, Priority
from schemas.invalid import problems_of
from schemas.json_schema import described, names_of

MESSAGE_REQUESTED = "llm.message.requested"
CANCEL_REQUESTED = "llm.cancel.requested"
CONVERSATION_DELETE_REQUESTED = "llm.conversation.delete.requested"

DEFAULT_PRIORITY = 5
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def _dated(value: Any) -> Any:
    # pydantic also accepts numbers, and guesses from their size whether they are seconds or milliseconds.
    if isinstance(value, datetime) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError("must be a time, as in 2026-01-31T12:00:00Z")


def _or_empty(schema: dict[str, Any]) -> None:
    # The published schema's counterpart of `_empty_is_absent`.
    schema["anyOf"].append({"const": ""})


_OR_EMPTY = Field(json_schema_extra=_or_empty)
Context = Literal["auto", "given", "stored"]
OnBusy = Literal["enqueue", "reject", "interrupt"]
OnDisconnect = Literal["continue", "cancel"]
Door = Literal["chat", "responses"]
DOORS = ("messages", "tasks", "chat", "responses")
"""The APIs by which a request can come."""
AgentName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Moment = Annotated[datetime, BeforeValidator(_dated), AfterValidator(in_utc)]
"""A time; UTC if it has no zone."""
_MetadataName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(storable)]
_MetadataText = Annotated[str, Field(max_length=512), AfterValidator(storable)]
Metadata = Annotated[dict[_MetadataName, _MetadataText], Field(max_length=16)]


class _Record(BaseModel):
    # Unknown fields are ignored, so that an older worker reads a newer gateway's records during a rolling upgrade.
    model_config = ConfigDict(extra="ignore")


class Message(DialogueMessage):
    """One message of a request. Its texts must not contain U+0000 or lone surrogates."""

    @field_validator("content", "name", "refusal")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable(value) if type(value) is str else value


Messages = Annotated[
    list[Message],
    Field(min_length=1, max_length=10_000),
    described("The new message, after any earlier messages that are sent with it; oldest first.", [fields.A_MESSAGE]),
]
MAX_MODEL_NAME = 200
ModelName = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)]


class MessageBody(Options, _Record):
    """A message to answer: the body of ``POST /v1/messages`` and the value of a request record."""

    conversation_id: Annotated[
        UUID | None, _OR_EMPTY, described("The conversation to continue; null: a new one.", fields.A_CONVERSATION)
    ] = None
    messages: Messages
    model: Annotated[ModelName | None, _OR_EMPTY, fields.MODEL] = None
    agent: Annotated[AgentName | None, _OR_EMPTY, fields.AGENT] = None
    context: Annotated[
        Context | None,
        described(
            "Which messages the model sees: `given`, those of this request; `stored`, the conversation's history too; "
            "`auto` (default), `given` if assistant messages are among those of the request, otherwise `stored`.",
            "auto",
        ),
    ] = None
    stream: Annotated[StrictBool | None, described("Answer with server-sent events.", False)] = None
    priority: Annotated[Priority | None, fields.PRIORITY] = None
    deadline: Annotated[Moment | None, fields.DEADLINE] = None
    not_before: Annotated[Moment | None, fields.NOT_BEFORE] = None
    on_busy: Annotated[OnBusy | None, fields.ON_BUSY] = None
    metadata: Annotated[Metadata | None, fields.METADATA] = None

    @model_validator(mode="before")
    @classmethod
    def _newer_name(cls, value: Any) -> Any:
        """Accept OpenAI's newer name of ``max_tokens``."""
        if not isinstance(value, dict) or "max_completion_tokens" not in value:
            return value
        newer, older = value["max_completion_tokens"], value.get("max_tokens")
        if None not in (newer, older) and newer != older:
            detail = "max_completion_tokens: another name of max_tokens; give only one of them"
            raise PydanticCustomError(OF_A_FIELD, detail)
        rest = {name: given for name, given in value.items() if name != "max_completion_tokens"}
        return {**rest, "max_tokens": older if newer is None else newer}

    @field_validator("conversation_id", "model", "agent", mode="before")
    @classmethod
    def _empty_is_absent(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("model")
    @classmethod
    def _storable(cls, text: str | None) -> str | None:
        return None if text is None else storable(text)

    @field_validator("stop")
    @classmethod
    def _storable_stop(cls, stop: list[str] | None) -> list[str] | None:
        return stop and [storable(text) for text in stop]

    def canonical(self) -> bytes:
        """The same bytes for the same body: JSON with sorted keys and without absent fields.

        ``stream`` is left out: it says how to answer, not what.
        """
        body = self.model_dump(mode="json", exclude_none=True, exclude={"stream", "id"})
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def body_hash(self) -> str:
        """SHA-256 of the canonical body, in hex. An idempotency key with a different hash was reused."""
        return hashlib.sha256(self.canonical()).hexdigest()


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class BodyRef(BaseModel):
    """The file with the rest of a large body, as JSON."""

    file_id: FileId
    sha256: Annotated[Sha256, described("SHA-256 of the file, in hex.")]
    bytes: Annotated[int, Field(ge=1), described("Length of the file.", 3_000_000)]
    body_hash: Annotated[Sha256, described("The hash of the whole body, by which repeated requests are compared.")]


def _or_a_prompt(schema: dict[str, Any]) -> None:
    """The published schema's counterpart of `_prompt_is_a_message` and of `ReferredMessage`."""
    messages = schema["properties"]["messages"]
    schema["properties"] |= {
        "prompt": {"type": "string", "description": "The user message; instead of `messages`."},
        "history": {
            "type": "array",
            "items": messages["items"],
            "description": "With `prompt`: the messages before it, oldest first.",
        },
    }
    schema["required"] = [name for name in schema["required"] if name != "messages"]
    schema["properties"]["body_ref"] = _published_ref()
    schema["anyOf"] = [{"required": [name]} for name in ("messages", "prompt", "body_ref")]


def _published_ref() -> dict[str, Any]:
    schema = BodyRef.model_json_schema()
    what = "Replaces `messages` if the body is too large for a record. Only gateways write it."
    return {**schema, "description": what}


class MessageRequested(MessageBody):
    """Value of a request record: the body of ``POST /v1/messages`` plus an optional ``id``.

    ``prompt``, with or without ``history``, may replace ``messages``.
    """

    model_config = ConfigDict(json_schema_extra=_or_a_prompt)

    id: Annotated[UUID | None, fields.REQUEST_ID] = None
    task_type: Annotated[AgentName | None, fields.TASK_TYPE] = None
    retry_of: Annotated[UUID | None, fields.RETRY_OF] = None
    door: Annotated[Door | None, fields.DOOR] = None
    store: Annotated[StrictBool | None, fields.STORE] = None
    store_from: Annotated[Annotated[StrictInt, Field(ge=0)] | None, fields.STORE_FROM] = None
    asked: Annotated[JsonObject | None, fields.ASKED] = None

    @model_validator(mode="before")
    @classmethod
    def _prompt_is_a_message(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "prompt" not in value or "messages" in value:
            return value
        history, prompt = value.get("history") or [], value["prompt"]
        if not isinstance(history, list):
            raise ValueError("history must be a list of messages")  # noqa: TRY004  pydantic wants a ValueError
        rest = {name: given for name, given in value.items() if name not in ("history", "prompt")}
        return {**rest, "messages": [*history, {"role": "user", "content": prompt}]}

    @model_validator(mode="after")
    def _one_agent(self) -> "MessageRequested":
        if self.task_type and self.agent and self.agent != self.task_type:
            raise ValueError("task_type names an agent already; agent must be the same or absent")
        return self

    @property
    def agent_name(self) -> str | None:
        """The agent that answers it, if any."""
        return self.agent or self.task_type


class ReferredMessage(MessageRequested):
    """A message whose body exceeds a record. Its messages and schemas are where ``body_ref`` says.

    Only gateways write it.
    """

    model_config = ConfigDict(json_schema_extra={})

    messages: Annotated[list[Message], Field(max_length=0, exclude=True)] = []
    body_ref: BodyRef

    def body_hash(self) -> str:
        """The hash of the whole body."""
        return self.body_ref.body_hash


class CancelRequested(_Record):
    """Value of a cancel record. It may arrive before the request that it cancels."""

    request_id: Annotated[UUID, described("The request to cancel.", fields.A_REQUEST)]


class ConversationDeleteRequested(_Record):
    """Value of a record that deletes a conversation with everything in it."""

    conversation_id: Annotated[UUID, described("The conversation to delete.", fields.A_CONVERSATION)]


RequestRecord = MessageRequested | CancelRequested | ConversationDeleteRequested
RECORD_TYPES: dict[str, type[MessageRequested] | type[CancelRequested] | type[ConversationDeleteRequested]] = {
    MESSAGE_REQUESTED: MessageRequested,
    CANCEL_REQUESTED: CancelRequested,
    CONVERSATION_DELETE_REQUESTED: ConversationDeleteRequested,
}


def refused(error: ValidationError, model: type[BaseModel] | None = None) -> OrchestraError:
    """The error for an invalid body: where and why, without repeating any of it. ``model``: that of the body."""
    code = next((code for each in problems_of(error) if (code := _code_of(each))), ErrorCode.INVALID_REQUEST)
    return OrchestraError(code, describe(error, model))


def _code_of(problem: ErrorDetails) -> ErrorCode | None:
    """The code of a problem that has one of its own."""
    kind, place = problem["type"], problem["loc"]
    if kind == ErrorCode.UNSUPPORTED_PART:
        return ErrorCode.UNSUPPORTED_PART
    if kind == "union_tag_invalid":
        return ErrorCode.UNSUPPORTED_PART if place[0] == "messages" else ErrorCode.UNSUPPORTED_OPTION
    return ErrorCode.UNSUPPORTED_OPTION if kind == "literal_error" and place[0] in _OPEN_LISTS else None


# Options whose values other APIs have more of, such as other types of tools.
_OPEN_LISTS = frozenset({"reasoning", "reasoning_effort", "response_format", "tool_choice", "tools"})


def describe(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """Where and why a body is invalid, without repeating any of it. ``model``: that of the body, if it is no record."""
    problems = problems_of(error)
    known = _FIELD_NAMES | names_of(model) if model else _FIELD_NAMES
    lines = "; ".join(_line(each, known) for each in problems[:5])
    return lines + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")


def _line(problem: ErrorDetails, known: Collection[str]) -> str:
    place, text = _place(problem["loc"], known), problem["msg"]
    if problem["type"] == OF_A_FIELD:
        return f"{place}.{text}" if place else text
    return f"{place or 'body'}: {text}"


def _place(loc: tuple[int | str, ...], known: Collection[str]) -> str:
    # A name chosen by the client (a metadata key) is input too: show only indices and our own field names.
    names = [str(part) for part in loc if isinstance(part, int) or part in known]
    # In a union the name of the type comes first, which is that of the field with its data.
    return ".".join(name for name, following in zip_longest(names, names[1:]) if name.isdigit() or name != following)


_FIELD_NAMES = (
    frozenset(MessageRequested.model_fields)
    | frozenset(Message.model_fields)
    | frozenset("text image_url url detail input_audio data format file file_data file_id filename".split())
    | frozenset("function arguments parameters description strict type json_schema schema id".split())
    | frozenset("request_id prompt history type user created_after created_before".split())
    | frozenset("body_ref sha256 bytes body_hash".split())
    | frozenset("max_completion_tokens stream_options include_usage service_tier on_disconnect".split())
)


def read_record(type_name: str | None, value: Any) -> RequestRecord:
    """Parsed JSON as the record of its type.

    Raises ``OrchestraError``: ``UNKNOWN_TYPE``, or ``INVALID_REQUEST`` with where and why.
    """
    model = RECORD_TYPES.get(type_name or MESSAGE_REQUESTED)
    if model is None:
        raise OrchestraError(ErrorCode.UNKNOWN_TYPE, "the record's ce_type is not known")
    if model is MessageRequested and type(value) is dict and "body_ref" in value:
        model = ReferredMessage
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refused(error) from None
