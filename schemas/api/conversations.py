"""Conversations: create, list, get, messages."""

from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas.generation import FinishReason
from schemas.requests import Metadata

Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """A page of a list; ``next`` is the cursor of the following page, null on the last."""

    data: list[Item]
    next: str | None


class CreateConversation(BaseModel):
    """Body of ``POST /v1/conversations``. The client may choose the id."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = None
    metadata: Metadata = {}


class ConversationResource(BaseModel):
    """A conversation and the requests in it that are not answered yet, oldest first."""

    id: UUID
    created_at: datetime
    metadata: dict[str, str]
    open_requests: list[UUID]


class StoredMessage(BaseModel):
    """One message of the history. ``request_id`` is null for rows that came in by plain SQL.

    ``finish_reason`` is an answer's: ``length`` when it was cut off at its token limit; null where it is not known.
    """

    id: int
    role: str
    content: str
    created_at: datetime
    request_id: UUID | None
    finish_reason: FinishReason | None = None
