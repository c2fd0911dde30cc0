"""The records of ``llm.requests``: a message to answer, a cancel, the deletion of a conversation."""

import hashlib
import json
import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    field_validator,
    model_validator,
)

from schemas import fields
from schemas.envelope import in_utc
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import ChatMessage, Priority, Sampling
from schemas.json_schema import described

MESSAGE_REQUESTED = "llm.message.requested"
CANCEL_REQUESTED = "llm.cancel.requested"
CONVERSATION_DELETE_REQUESTED = "llm.conversation.delete.requested"

DEFAULT_PRIORITY = 5
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def storable(text: str) -> str:
    """The text itself. Raises ``ValueError`` for U+0000 and lone surrogates, which Postgres and UTF-8 cannot keep."""
    if "\0" in text:
        raise ValueError("must not contain U+0000")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("must not contain lone surrogates")
    return text


def visible(text: str) -> str:
    """The text itself, a name for people to read. Raises ``ValueError`` for invisible characters, too.

    Those are control characters, line and paragraph separators, and format characters, which can hide or reorder the
    text around them.
    """
    if any(unicodedata.category(character) in _UNSEEN for character in storable(text)):
        raise ValueError("must not contain control or format characters")
    return text


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
AgentName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Moment = Annotated[datetime, BeforeValidator(_dated), AfterValidator(in_utc)]
"""A time; UTC if it has no zone."""
_MetadataName = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(storable)]
_MetadataText = Annotated[str, Field(max_length=512), AfterValidator(storable)]
Metadata = Annotated[dict[_MetadataName, _MetadataText], Field(max_length=16)]


class _Record(BaseModel):
    # Unknown fields are ignored, so that an older worker reads a newer gateway's records during a rolling upgrade.
    model_config = ConfigDict(extra="ignore")


class Message(ChatMessage):
    """One message of a request. Its text is storable."""

    @field_validator("content")
    @classmethod
    def _storable(cls, text: str) -> str:
        return storable(text)


class MessageBody(Sampling, _Record):
    """A message to answer: the body of ``POST /v1/messages`` and the value of a request record."""

    conversation_id: Annotated[
        UUID | None, _OR_EMPTY, described("The conversation to continue; without it a new one.", fields.A_CONVERSATION)
    ] = None
    messages: Annotated[
        list[Message],
        Field(min_length=1, max_length=10_000),
        described("The new message, with any that come before it, oldest first.", [fields.A_MESSAGE]),
    ]
    model: Annotated[Annotated[str, Field(min_length=1, max_length=200)] | None, _OR_EMPTY, fields.MODEL] = None
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


def _or_a_prompt(schema: dict[str, Any]) -> None:
    """The published schema's counterpart of `_prompt_is_a_message`."""
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
    schema["anyOf"] = [{"required": ["messages"]}, {"required": ["prompt"]}]


class MessageRequested(MessageBody):
    """Value of a request record: the body of ``POST /v1/messages`` plus an optional ``id``.

    ``prompt``, with or without ``history``, may replace ``messages``.
    """

    model_config = ConfigDict(json_schema_extra=_or_a_prompt)

    id: Annotated[UUID | None, fields.REQUEST_ID] = None
    task_type: Annotated[AgentName | None, fields.TASK_TYPE] = None
    retry_of: Annotated[UUID | None, fields.RETRY_OF] = None

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


def describe(error: ValidationError) -> str:
    """Where and why a body is invalid, without repeating any of it."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    # pydantic quotes the invalid character of a UUID, which is input and may not be storable.
    lines = [f"{_place(each['loc'])}: {_PLAIN.get(each['type'], each['msg'])}" for each in problems[:5]]
    return "; ".join(lines) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")


_PLAIN = {"uuid_parsing": "Input should be a valid UUID"}


def _place(loc: tuple[int | str, ...]) -> str:
    # A name chosen by the client (a metadata key) is input too: show only indices and our own field names.
    return ".".join(str(part) for part in loc if isinstance(part, int) or part in _FIELD_NAMES) or "body"


_FIELD_NAMES = (
    frozenset(MessageRequested.model_fields)
    | frozenset(ChatMessage.model_fields)
    | frozenset("request_id prompt history type user created_after created_before".split())
    | frozenset("username password role name scopes expires_at user_id".split())
    | frozenset("reason topic cursor key key_base64 value value_base64 headers".split())
)


def read_record(type_name: str | None, value: Any) -> RequestRecord:
    """Parsed JSON as the record of its type.

    Raises ``OrchestraError``: ``UNKNOWN_TYPE``, or ``INVALID_REQUEST`` with where and why.
    """
    model = RECORD_TYPES.get(type_name or MESSAGE_REQUESTED)
    if model is None:
        raise OrchestraError(ErrorCode.UNKNOWN_TYPE, "the record's ce_type is not known")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, describe(error)) from None
