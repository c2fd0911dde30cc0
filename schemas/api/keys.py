"""API keys: credentials of programs."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas import fields
from schemas.api.pages import Page
from schemas.content import visible
from schemas.json_schema import described
from schemas.requests import Moment


class Scope(StrEnum):
    """What a caller may do.

    ``read`` and ``write`` are for the caller's own data; ``admin`` includes all others, for the data of all users.
    ``priority`` allows any priority. ``operate`` is for running the system, such as reading and replaying dead letters.
    Only an admin can give ``admin``, ``priority`` or ``operate`` to a key.
    """

    READ = "read"
    WRITE = "write"
    PRIORITY = "priority"
    OPERATE = "operate"
    ADMIN = "admin"


class CreateKey(BaseModel):
    """Body of ``POST /v1/keys``."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100), described("What the key is for.", "nightly report")]
    scopes: Annotated[
        list[Scope],
        Field(min_length=1, max_length=len(Scope)),
        described("What the key allows.", [Scope.READ, Scope.WRITE]),
    ] = [Scope.READ, Scope.WRITE]
    expires_at: Annotated[
        Moment | None,
        described("When it expires; null: never. UTC if it has no zone.", "2027-01-31T00:00:00Z"),
    ] = None
    user_id: Annotated[
        UUID | None,
        described(
            "The user who owns the key; only admins may name another one. Without it a key made by an admin belongs "
            "to a program, any other to the caller.",
            fields.A_USER,
        ),
    ] = None

    @field_validator("name")
    @classmethod
    def _speakable(cls, text: str) -> str:
        return visible(text)  # It becomes part of an owner's name.


class KeyResource(BaseModel):
    """A key without its secret."""

    id: Annotated[str, described("The key's id, the part of the key that is not secret.", "k3x7q2m5ab4c")]
    name: Annotated[str, described("What the key is for.", "nightly report")]
    user_id: Annotated[UUID | None, described("The user who owns it; null: a program.", fields.A_USER)]
    scopes: Annotated[list[Scope], described("What the key allows.", [Scope.READ, Scope.WRITE])]
    created_at: Annotated[datetime, described("When it was created.", "2026-01-31T11:59:58.123456Z")]
    expires_at: Annotated[datetime | None, described("When it expires; null: never.", "2027-01-31T00:00:00Z")]
    last_used_at: Annotated[
        datetime | None, described("When it was last used, to about a minute; null: never.", "2026-02-01T08:00:00Z")
    ]
    revoked_at: Annotated[datetime | None, described("When it was revoked; null: it was not.", "2026-03-01T00:00:00Z")]


class KeyPage(Page[KeyResource]):
    """One page of keys."""


class CreatedKey(KeyResource):
    """Response to ``POST /v1/keys``, the only one that contains the key itself."""

    key: Annotated[
        str,
        described(
            "The key, as clients send it in `Authorization: Bearer`. Store it: it is shown once.",
            "orc_k3x7q2m5ab4c_...",
        ),
    ]
