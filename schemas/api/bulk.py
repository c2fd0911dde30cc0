"""Bodies of ``POST /v1/messages/bulk``."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.messages import PostMessage, Warnings
from schemas.errors import ErrorCode
from schemas.json_schema import described
from schemas.status import Status

MAX_MESSAGES = 1000
KEY_PATTERN = "^[!-~]{1,255}$"


class BulkMessage(PostMessage):
    """One message of a bulk call: the body of ``POST /v1/messages``.

    ``stream: true`` is refused, and ``on_disconnect`` is ignored.
    """

    idempotency_key: Annotated[
        Annotated[str, Field(pattern=KEY_PATTERN)] | None,
        Field(exclude=True),
        described(
            "Makes it safe to send the message again: the same key with the same message is the same request. "
            "The header `Idempotency-Key` of `POST /v1/messages` does the same.",
            "order-7",
        ),
    ] = None


class BulkMessages(BaseModel):
    """Body of ``POST /v1/messages/bulk``."""

    model_config = ConfigDict(extra="forbid")

    requests: Annotated[
        list[BulkMessage],
        Field(min_length=1, max_length=MAX_MESSAGES),
        described(
            "Up to 1,000 messages; the whole body has at most 1 MiB. Messages of one conversation are answered in the "
            "order of this list.",
            [{"messages": [fields.A_MESSAGE], "idempotency_key": "order-7"}],
        ),
    ]


class BulkError(BaseModel):
    """Why one message was not accepted."""

    code: Annotated[ErrorCode, fields.CODE]
    detail: Annotated[str, described("What is wrong with this message.", "messages: is required")]
    status: Annotated[int, described("The HTTP status with which `POST /v1/messages` would have responded.", 422)]
    retryable: Annotated[
        bool, described("Whether the message may be accepted if it is sent again, with its `idempotency_key`.", False)
    ]


class BulkOutcome(BaseModel):
    """The outcome of one message: accepted if ``error`` is null."""

    request_id: Annotated[
        UUID | None,
        described(
            "The request's id. Null if refused, except with `outcome_unknown` and `idempotency_key_reused`.",
            fields.A_REQUEST,
        ),
    ] = None
    status: Annotated[
        Status | None,
        described("State of the request: `pending`, or a later one if an earlier call has sent it.", "pending"),
    ] = None
    conversation_id: Annotated[UUID | None, fields.CONVERSATION_ID] = None
    warnings: Warnings = []
    error: Annotated[BulkError | None, described("Why the message was refused; null if it was accepted.", None)] = None


class BulkResult(BaseModel):
    """Response to a bulk call."""

    data: Annotated[list[BulkOutcome], described("One outcome for each message, in the same order.")]
    accepted: Annotated[int, described("Number of messages that were accepted.", 1)]
    refused: Annotated[int, described("Number of messages that were refused.", 0)]
