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
            "Like the header `Idempotency-Key` of `POST /v1/messages`, which gives the same request for the same key.",
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
            "Up to 1,000 messages, within the maximum length of any body. Messages of one conversation are answered in "
            "the order of this list.",
            [{"messages": [fields.A_MESSAGE], "idempotency_key": "order-7"}],
        ),
    ]


class BulkError(BaseModel):
    """Why one message was not accepted."""

    code: Annotated[ErrorCode, fields.CODE]
    detail: Annotated[str, described("What is wrong with this message.", "messages: Field required")]
    status: Annotated[int, described("The HTTP status that a `POST /v1/messages` would have had.", 422)]
    retryable: Annotated[
        bool, described("Whether the same message may be accepted later. Send it with an `idempotency_key`.", False)
    ]


class BulkOutcome(BaseModel):
    """The outcome of one message: accepted if ``error`` is null."""

    request_id: Annotated[
        UUID | None,
        described(
            "The request. Null if it was not accepted, except with `outcome_unknown` and `idempotency_key_reused`.",
            fields.A_REQUEST,
        ),
    ] = None
    status: Annotated[
        Status | None, described("State of the request: `pending`, or that of an earlier call's.", "pending")
    ] = None
    conversation_id: Annotated[UUID | None, fields.CONVERSATION_ID] = None
    warnings: Warnings = []
    error: Annotated[BulkError | None, described("Why it was not accepted.", None)] = None


class BulkResult(BaseModel):
    """Response to a bulk call."""

    data: Annotated[list[BulkOutcome], described("One outcome for each message, in the same order.")]
    accepted: Annotated[int, described("How many messages were accepted.", 1)]
    refused: Annotated[int, described("How many were not.", 0)]
