"""API keys: how programs say who they are."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.requests import Moment, visible


class Scope(StrEnum):
    """What a caller may do. ``admin`` may do all of it, to everybody's.

    ``priority``: ask for any priority. ``operate``: keep the queue going, as by looking at dead letters and replaying
    them. Only an admin gives either to a key.
    """

    READ = "read"
    WRITE = "write"
    PRIORITY = "priority"
    OPERATE = "operate"
    ADMIN = "admin"


class CreateKey(BaseModel):
    """Body of ``POST /v1/keys``.

    ``user_id``: whose key it is, only for admins to say; without it an admin's key is a program's own, and anybody
    else's is their own. ``expires_at``: a time, UTC where it names no zone; without it the key is good until it is
    revoked.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = [Scope.READ, Scope.WRITE]
    expires_at: Moment | None = None
    user_id: UUID | None = None

    @field_validator("name")
    @classmethod
    def _speakable(cls, text: str) -> str:
        return visible(text)  # It is also a part of an owner's name.


class KeyResource(BaseModel):
    """A key without its secret. ``last_used_at`` is right to a minute or so."""

    id: str
    name: str
    user_id: UUID | None
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class CreatedKey(KeyResource):
    """The answer to ``POST /v1/keys``, the only one that has the ``key`` itself."""

    key: str
