"""Bodies of ``POST /v1/messages``."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.generation import FinishReason, Usage
from schemas.requests import MessageBody

Warnings = Annotated[
    list[str],
    Field(
        exclude_if=lambda names: not names,
        description="Names of fields that were sent and ignored, and `priority` where it was lowered; 10 at most. "
        "`other`: fields whose names are longer than 64 characters, or have others than letters, digits, dots and "
        "underscores; they are not repeated.",
    ),
]


class PostMessage(MessageBody):
    """Body of ``POST /v1/messages``: the old system's fields and ours.

    ``max_completion_tokens`` is read as ``max_tokens``. Fields of other APIs that would change the answer are refused
    by name (``not_supported``), unless their value asks for nothing; other unknown fields are ignored, and named in
    ``warnings``.
    """


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
    warnings: Warnings = []
