"""The records of ``llm.erasures``: whose data were deleted, so that they stay deleted when a backup is restored."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from schemas import fields
from schemas.json_schema import described

ERASED = "llm.owner.erased"


class Erased(BaseModel):
    """The data of an owner are deleted. It does not name the owner."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Annotated[UUID, fields.ERASURE_ID]
    tenant: Annotated[str, described("The owner's tenant.", "default")]
    owner_hash: Annotated[str, described("HMAC of tenant and owner, in hex; its key is a secret of the deployment.")]
    requested_at: Annotated[datetime, described("When it was requested.", "2026-11-30T10:00:00.123456Z")]
    refuses_until: Annotated[
        datetime | None,
        described("Workers discard requests of the owner that Kafka received up to then; null: all of them.", None),
    ]
