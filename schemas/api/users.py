"""Users: people who sign in with a password."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator

from schemas.requests import storable, visible

Role = Literal["admin", "user"]
MIN_PASSWORD = 8
MAX_PASSWORD = 1024


def _acceptable(password: SecretStr) -> SecretStr:
    # In our own words: pydantic's would tell how long the refused one was.
    if not MIN_PASSWORD <= len(storable(password.get_secret_value())) <= MAX_PASSWORD:
        raise ValueError(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return password


Username = Annotated[str, Field(min_length=1, max_length=200)]
Password = Annotated[
    SecretStr,
    AfterValidator(_acceptable),
    Field(json_schema_extra={"minLength": MIN_PASSWORD, "maxLength": MAX_PASSWORD}),
]


class _UserBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    @field_validator("username", check_fields=False)
    @classmethod
    def _visible(cls, text: str | None) -> str | None:
        return None if text is None else visible(text)


class CreateUser(_UserBody):
    """Body of ``POST /v1/users``. Unknown fields are ignored, as in the system before this one."""

    username: Username
    password: Password
    role: Role = "user"


class ChangeUser(_UserBody):
    """Body of ``PUT /v1/users/{id}``: any of the first three.

    A new password revokes the user's API keys, unless ``keep_keys`` is true. Unknown fields are ignored, as in the
    system before this one.
    """

    username: Username | None = None
    password: Password | None = None
    role: Role | None = None
    keep_keys: bool = False


class ChangePassword(BaseModel):
    """Body of ``PUT /v1/users/me/password``.

    ``old_password`` proves that it is the user themself. Their API keys are revoked, unless ``keep_keys`` is true.
    """

    model_config = ConfigDict(extra="forbid")

    old_password: Annotated[SecretStr, Field(max_length=MAX_PASSWORD)]
    password: Password
    keep_keys: bool = False


class UserResource(BaseModel):
    """A user. The password is never shown."""

    id: UUID
    username: str
    role: Role
    created_at: datetime


class Token(BaseModel):
    """Answer of ``POST /token`` (RFC 6749, 4.3.3). ``expires_in`` in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind, no secret
    expires_in: int
