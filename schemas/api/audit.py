"""What people and keys have changed, for admins."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas import fields
from schemas.api.pages import SearchedPage
from schemas.content import storable
from schemas.json_schema import described
from schemas.requests import Moment

_A_TARGET = f"requests/{fields.A_REQUEST}"
_ACTOR = "key:k3x7q2m5ab4c"


class Action(StrEnum):
    """What was done. Later releases add actions."""

    USER_CREATE = "user.create"
    USER_UPDATE = "user.update"
    USER_DELETE = "user.delete"
    USER_PASSWORD = "user.password"  # noqa: S105  no password
    OWNER_ERASE = "owner.erase"
    KEY_CREATE = "key.create"
    KEY_REVOKE = "key.revoke"
    REQUEST_CANCEL = "request.cancel"
    REQUEST_CHANGE = "request.change"
    REQUEST_RETRY = "request.retry"
    REQUEST_DELETE = "request.delete"
    CONVERSATION_BRANCH = "conversation.branch"
    CONVERSATION_COPY = "conversation.copy"
    CONVERSATION_UPDATE = "conversation.update"
    CONVERSATION_DELETE = "conversation.delete"
    ITEM_DELETE = "item.delete"
    FILE_DELETE = "file.delete"
    DEAD_LETTER_EDIT = "dead_letter.edit"
    DEAD_LETTER_REPLAY = "dead_letter.replay"
    MODEL_PAUSE = "model.pause"
    MODEL_RESUME = "model.resume"
    TENANT_PAUSE = "tenant.pause"
    TENANT_RESUME = "tenant.resume"
    WORKER_DRAIN = "worker.drain"
    WORKER_RESUME = "worker.resume"


class AuditEntry(BaseModel):
    """One change."""

    id: Annotated[int, described("The entry's number; later entries have higher ones, with gaps.", 4711)]
    created_at: Annotated[datetime, described("When it was made.", "2026-01-31T11:59:58.123456Z")]
    actor: Annotated[
        str,
        described(
            "The credential that made it: `user:ID` for a user who signed in, `key:ID` for an API key, "
            "`nobody` without credentials, "
            "`command:NAME` for the `orchestra` command that a user of the operating system ran on the database.",
            _ACTOR,
        ),
    ]
    action: Annotated[
        str, described("What was done: one of the actions in the query, or of a later release.", "request.cancel")
    ]
    target: Annotated[str, described("What was changed, as a path below `/v1`.", _A_TARGET)]
    before: Annotated[
        dict[str, Any] | None,
        described("Fields as they were, without texts and secrets; null: none.", {"status": "pending"}),
    ]
    after: Annotated[
        dict[str, Any] | None,
        described("Fields as they became, without texts and secrets; null: none.", {"cancel_requested": True}),
    ]
    trace_id: Annotated[
        str | None,
        described(
            "Id of the call's trace, from its `traceparent`; null: it had none.", "4bf92f3577b34da6a3ce929d0e0e4736"
        ),
    ]


class AuditPage(SearchedPage[AuditEntry]):
    """One page of entries, newest first."""


class AuditFilter(BaseModel):
    """Selects the entries that match every given field."""

    model_config = ConfigDict(extra="forbid")

    actor: Annotated[
        str | None,
        Field(min_length=1, max_length=200),
        AfterValidator(storable),
        described("Only changes by this credential.", _ACTOR),
    ] = None
    action: Annotated[Action | None, described("Only this action.", Action.REQUEST_CANCEL)] = None
    target: Annotated[
        str | None,
        Field(min_length=1, max_length=300),
        AfterValidator(storable),
        described("Only changes of this target, a path below `/v1`.", _A_TARGET),
    ] = None
    created_after: Annotated[
        Moment | None, described("Only changes at this time or later. UTC if it has no zone.", "2026-01-31T00:00:00Z")
    ] = None
    created_before: Annotated[
        Moment | None, described("Only changes before this time. UTC if it has no zone.", "2026-02-01T00:00:00Z")
    ] = None


class AuditQuery(AuditFilter):
    """Query of ``GET /v1/audit``."""

    limit: Annotated[int, Field(ge=1, le=1000), fields.LIMIT] = 100
    cursor: Annotated[str | None, Field(max_length=512), fields.CURSOR] = None
