"""Conversations and their messages."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas import fields
from schemas.api.pages import Page
from schemas.content import Output, Part, absent
from schemas.generation import ANumber, FinishReason
from schemas.json_schema import described
from schemas.requests import Metadata


class CreateConversation(BaseModel):
    """Body of ``POST /v1/conversations``."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[
        UUID | None,
        described("An id that the client chooses, best a random UUID; null: a new one.", fields.A_CONVERSATION),
    ] = None
    metadata: Annotated[Metadata, described("Up to 16 key-value pairs of the client's own.", {"topic": "logs"})] = {}


class CopyConversation(BaseModel):
    """Body of ``POST /v1/conversations/{id}/copy``."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[
        UUID | None,
        described("An id that the client chooses, best a random UUID; null: a new one.", fields.A_CONVERSATION),
    ] = None
    metadata: Annotated[
        Metadata | None, described("Up to 16 key-value pairs; null: those of the original.", {"topic": "logs"})
    ] = None


class BranchConversation(CopyConversation):
    """Body of ``POST /v1/conversations/{id}/branch``.

    Without ``after_request`` and ``after_message``, the branch begins with all messages.
    """

    after_request: Annotated[
        UUID | None,
        described(
            "The branch begins with the messages up to and including those of this completed request.", fields.A_REQUEST
        ),
    ] = None
    after_message: Annotated[
        Annotated[int, Field(ge=1, le=2**63 - 1), ANumber] | None,
        described("The branch begins with the messages up to and including the one with this id.", 17),
    ] = None

    @model_validator(mode="after")
    def _one_place(self) -> "BranchConversation":
        if self.after_request is not None and self.after_message is not None:
            raise ValueError("give only one of after_request and after_message")
        return self


class ConversationResource(BaseModel):
    """A conversation, with the requests in it that have not ended."""

    id: Annotated[UUID, described("The conversation's id.", fields.A_CONVERSATION)]
    created_at: Annotated[datetime, described("When it was created.", "2026-01-31T11:59:58.123456Z")]
    metadata: Annotated[dict[str, str], described("Key-value pairs of the client's own.", {"topic": "logs"})]
    open_requests: Annotated[
        list[UUID], described("Ids of the requests that have not ended, oldest first.", [fields.A_REQUEST])
    ]
    branch_of: Annotated[
        UUID | None,
        described(
            "The conversation that this one is a branch of; absent if it is not a branch.", fields.A_CONVERSATION
        ),
    ] = Field(None, exclude_if=absent)
    beginning: Annotated[
        str | None,
        described("In lists: the first 100 characters of the first user message; absent if there is none.", "Hi!"),
    ] = Field(None, exclude_if=absent)


class ConversationPage(Page[ConversationResource]):
    """One page of conversations."""


class StoredMessage(BaseModel):
    """One message of the history."""

    id: Annotated[int, described("The message's id. It grows within a conversation.", 17)]
    role: Annotated[str, described("The speaker: `system`, `developer`, `user`, `assistant` or `tool`.", "assistant")]
    content: Annotated[str, described("The text of the message.", "Hello world")]
    created_at: Annotated[datetime, described("When it was stored.", "2026-01-31T11:59:59.345678Z")]
    request_id: Annotated[
        UUID | None,
        described("The request that it belongs to; null for copies and for rows inserted by SQL.", fields.A_REQUEST),
    ]
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    parts: Annotated[list[Part] | None, described("The parts of the message; absent if it is one text.")] = Field(
        None, exclude_if=absent
    )
    tool_call_id: Annotated[
        str | None, described("Id of the call that it is the result of; only in `tool` messages.", "call_1")
    ] = Field(None, exclude_if=absent)
    output: Output = None


class MessagePage(Page[StoredMessage]):
    """One page of messages."""
