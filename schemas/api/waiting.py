"""Why a request waits, and about how long."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, Field

from schemas import fields
from schemas.content import absent
from schemas.json_schema import described
from schemas.status import Status


class WaitReason(StrEnum):
    """Why a request waits: a closed list."""

    NOT_READ_YET = "not_read_yet"
    """No worker has read its record yet."""
    BEHIND_IN_CONVERSATION = "behind_in_conversation"
    """An earlier request of its conversation is open."""
    NOT_BEFORE = "not_before"
    """Its ``not_before`` has not come."""
    BACKING_OFF = "backing_off"
    """An attempt failed; the next one is later."""
    MODEL_PAUSED = "model_paused"
    """An operator has paused its model."""
    TENANT_PAUSED = "tenant_paused"
    """An operator has paused its tenant."""
    NO_WORKER = "no_worker"
    """No worker is alive that takes requests."""
    MODEL_HELD_BACK = "model_held_back"
    """Its model refuses calls, so every worker holds it back."""
    NO_FREE_SLOT = "no_free_slot"
    """Others come first, or hold the slots of workers, of its model or of its owner."""
    CANCELLING = "cancelling"
    """A cancel was accepted and takes effect soon."""


class Reason(BaseModel):
    """A reason for which a request waits."""

    code: Annotated[WaitReason, described("The reason, one of a closed list.", "no_worker")]
    detail: Annotated[
        str,
        described("What the request waits for, and what can be done about it.", "No worker is alive: start one."),
    ]
    until: Annotated[
        datetime | None,
        described("When the reason ends or is checked again; null: not known.", "2026-01-31T12:00:00Z"),
    ] = None
    request_id: Annotated[
        UUID | None,
        Field(exclude_if=absent),
        described("The request that it waits for; only for `behind_in_conversation`.", fields.A_REQUEST),
    ] = None


class Ahead(BaseModel):
    """The requests that compete for the same slots and may be taken first."""

    urgent: Annotated[int, described("Those of a higher priority.", 3)]
    same: Annotated[int, described("Those of the same priority that have waited longer.", 40)]
    older: Annotated[
        int,
        described("Those of a lower priority that have waited longer: one in eight is taken by age alone.", 12),
    ]
    more: Annotated[bool, described("Whether counting stopped at its limit: there may be more.", False)]


class WaitingState(BaseModel):
    """Why a request waits, how many are ahead of it, and about how long it will take until an attempt begins.

    If the request has ended, all fields but `id` and `status` are null or empty. While it runs, `cancelling` is the
    only possible reason.
    """

    id: Annotated[UUID, fields.REQUEST_ID]
    status: Annotated[Status, fields.STATUS]
    position: Annotated[
        int | None,
        described(
            "Its position among the requests that compete for the same slots, from 1; null while it cannot be taken, "
            "and if counting stopped.",
            44,
        ),
    ] = None
    ahead: Annotated[Ahead | None, described("The requests ahead of it; null while it cannot be taken.")] = None
    estimate_seconds: Annotated[
        float | None,
        described(
            "About how many more seconds it will wait, at the rate at which similar requests were taken in the last "
            "minute; null if there were fewer than 10 of these, and if it is not known when a reason ends.",
            12.5,
        ),
    ] = None
    reasons: Annotated[
        list[Reason], described("Why it waits, the strongest reason first; empty: it does not wait.")
    ] = []
