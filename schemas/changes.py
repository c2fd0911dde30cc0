"""A change that a person or key made, as it is audited. A gateway signs it next to a record that carries it out."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Fields = dict[str, Any]
"""A few short fields of what was changed: states, numbers, names from closed lists. Never a text or a secret."""


class Change(BaseModel):
    """One change. ``id``: the same wherever and however often it is written. The rest is as in the audit.

    ``at``: when a gateway signed it, by its clock; None: it is made as it is written, or the gateway is older.
    """

    # Unknown fields are ignored, so that an older worker reads a newer gateway's records during a rolling upgrade.
    model_config = ConfigDict(extra="ignore", frozen=True)

    id: UUID
    tenant: Annotated[str, Field(min_length=1)]
    actor: str
    action: str
    target: str
    before: Fields | None = None
    after: Fields | None = None
    trace_id: str | None = None
    at: datetime | None = None
