"""Bodies of ``POST /v1/messages``."""

from uuid import UUID

from pydantic import BaseModel

from schemas.generation import FinishReason, Usage
from schemas.requests import MessageBody


class PostMessage(MessageBody):
    """Body of ``POST /v1/messages``: the old system's fields and ours. Unknown fields are ignored."""


class MessageReply(BaseModel):
    """Answer of a ``POST /v1/messages`` that waited and was completed.

    ``finish_reason``: ``length`` when the reply was cut off at its token limit. ``metadata``: as it was sent.
    """

    conversation_id: UUID
    reply: str
    request_id: UUID
    model: str | None
    usage: Usage | None
    finish_reason: FinishReason | None = None
    metadata: dict[str, str] | None = None
