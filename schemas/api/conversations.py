"""Conversations and their messages."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.pages import Page
from schemas.content import Output, Part, absent
from schemas.generation import FinishReason
from schemas.json_schema import described
from schemas.requests import Metadata


class CreateConversation(BaseModel):
    """Body of ``POST /v1/conversations``."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[
        UUID | None, described("An id of the client's own choice; without it a new one.", fields.A_CONVERSATION)
    ] = None
    metadata: Annotated[Metadata, described("Up to 16 key-value pairs of the client's own.", {"topic": "logs"})] = {}


class ConversationResource(BaseModel):
    """A conversation, with the requests in it that have not ended."""

    id: Annotated[UUID, described("The conversation's id.", fields.A_CONVERSATION)]
    created_at: Annotated[datetime, described("When it was created.", "2026-01-31T11:59:58.123456Z")]
    metadata: Annotated[dict[str, str], described("As sent when it was created.", {"topic": "logs"})]
    open_requests: Annotated[
        list[UUID], described("Ids of the requests that have not ended, oldest first.", [fields.A_REQUEST])
    ]


class ConversationPage(Page[ConversationResource]):
    """One page of conversations."""


class StoredMessage(BaseModel):
    """One message of the history."""

    id: Annotated[int, described("Grows within the conversation.", 17)]
    role: Annotated[str, described("The speaker: `system`, `developer`, `user`, `assistant` or `tool`.", "assistant")]
    content: Annotated[str, described("The text of the message.", "Hello world")]
    created_at: Annotated[datetime, described("When it was stored.", "2026-01-31T11:59:59.345678Z")]
    request_id: Annotated[
        UUID | None, described("The request that it belongs to; null for rows inserted by SQL.", fields.A_REQUEST)
    ]
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    parts: Annotated[list[Part] | None, described("The parts of the message, if it is not a plain text.")] = Field(
        None, exclude_if=absent
    )
    tool_call_id: Annotated[
        str | None, described("The call that it is the result of, in `tool` messages.", "call_1")
    ] = Field(None, exclude_if=absent)
    output: Output = None


class MessagePage(Page[StoredMessage]):
    """One page of messages."""
