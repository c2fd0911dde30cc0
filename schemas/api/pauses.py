"""Pauses: what operators have stopped from being claimed."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.content import storable
from schemas.json_schema import described
from schemas.requests import Moment

_REASON = "the provider is being moved"
_UNTIL = described(
    "When the pause ends by itself; null: only when it is resumed. UTC if it has no zone.", "2026-01-31T14:00:00Z"
)


class PauseWork(BaseModel):
    """Body of the calls that pause a model or a tenant."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str,
        Field(max_length=500),
        AfterValidator(storable),
        described("Why it is paused. Callers whose requests wait can read it, too.", _REASON),
    ] = ""
    until: Annotated[Moment | None, _UNTIL] = None


class PauseResource(BaseModel):
    """A pause in force. The requests that it applies to wait; those that are running continue."""

    model: Annotated[
        str | None, described("Name of the model, which is paused under its aliases too; null: all models.", "llama3")
    ]
    reason: Annotated[str, described("Why it is paused; empty if no reason was given.", _REASON)]
    paused_by: Annotated[str, described("The credential that paused it, as in the audit.", "key:k3x7q2m5ab4c")]
    paused_at: Annotated[datetime, described("When it began.", "2026-01-31T12:00:00Z")]
    until: Annotated[datetime | None, _UNTIL]
