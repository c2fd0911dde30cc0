"""Bodies of ``POST /v1/messages``."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas import fields
from schemas.content import Output
from schemas.generation import FinishReason, Usage
from schemas.json_schema import described
from schemas.requests import MessageBody, OnDisconnect

Warnings = Annotated[
    list[str],
    Field(exclude_if=lambda names: not names),
    described(
        "Names of fields that were sent and ignored, and `priority` if it was lowered; at most 10. Names that are "
        "longer than 64 characters, or have characters other than letters, digits, dots and underscores, are not "
        "repeated: they are listed together as `other`.",
        ["logprobs"],
    ),
]


class PostMessage(MessageBody):
    """Body of ``POST /v1/messages``.

    ``max_completion_tokens`` is accepted as another name of ``max_tokens``. Fields of other APIs that would change the
    answer are rejected by name (``not_supported``), unless they have a neutral value. Other unknown fields are ignored
    and listed in ``warnings``. ``on_disconnect`` applies to this call alone: a repeat with the same ``Idempotency-Key``
    may have another value.
    """

    on_disconnect: Annotated[OnDisconnect | None, Field(exclude=True), fields.ON_DISCONNECT] = None


class MessageReply(BaseModel):
    """Response to a ``POST /v1/messages`` that waited until the request was completed."""

    conversation_id: Annotated[UUID, fields.CONVERSATION_ID]
    reply: Annotated[str, described("The text of the answer.", "Hello world")]
    request_id: Annotated[UUID, fields.REQUEST_ID]
    model: Annotated[str | None, described("The model that was requested.", "llama3")]
    usage: Annotated[Usage | None, described("Tokens used by the attempt that answered; null if not known.")]
    finish_reason: Annotated[FinishReason | None, fields.FINISH_REASON] = None
    metadata: Annotated[dict[str, str] | None, fields.METADATA] = None
    output: Output = None
    warnings: Warnings = []
