"""Users: people who sign in with a password."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StrictBool, field_validator

from schemas import fields
from schemas.content import storable, visible
from schemas.json_schema import described

Role = Literal["admin", "user"]
MIN_PASSWORD = 8
MAX_PASSWORD = 1024


def _acceptable(password: SecretStr) -> SecretStr:
    # A message of our own: pydantic's would reveal how long the rejected password was.
    if not MIN_PASSWORD <= len(storable(password.get_secret_value())) <= MAX_PASSWORD:
        raise ValueError(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters")
    return password


Username = Annotated[str, Field(min_length=1, max_length=200)]
_USERNAME = described("The name to sign in with.", "ann")
_ROLE = described("`admin` may do everything; `user` only what concerns their own data.", "user")
_PASSWORD = described(f"{MIN_PASSWORD} to {MAX_PASSWORD} characters.", "correct horse battery staple")
_KEEP_KEYS = described("Whether the user's API keys stay valid; by default a new password revokes them.", False)
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
    """Body of ``POST /v1/users``. Unknown fields are ignored, as in the v0 API."""

    username: Annotated[Username, _USERNAME]
    password: Annotated[Password, _PASSWORD]
    role: Annotated[Role, _ROLE] = "user"


class ChangeUser(_UserBody):
    """Body of ``PUT /v1/users/{id}``. At least one of ``username``, ``password`` and ``role`` must be given.

    Unknown fields are ignored, as in the v0 API.
    """

    username: Annotated[Username | None, _USERNAME] = None
    password: Annotated[Password | None, _PASSWORD] = None
    role: Annotated[Role | None, _ROLE] = None
    keep_keys: Annotated[StrictBool, _KEEP_KEYS] = False


class ChangePassword(BaseModel):
    """Body of ``PUT /v1/users/me/password``."""

    model_config = ConfigDict(extra="forbid")

    old_password: Annotated[
        SecretStr, Field(max_length=MAX_PASSWORD), described("The current password.", "tr0ub4dor&3")
    ]
    password: Annotated[Password, _PASSWORD]
    keep_keys: Annotated[StrictBool, _KEEP_KEYS] = False


class UserResource(BaseModel):
    """A user. The password is never shown."""

    id: Annotated[UUID, described("The user's id.", fields.A_USER)]
    username: Annotated[str, _USERNAME]
    role: Annotated[Role, _ROLE]
    created_at: Annotated[datetime, described("When the user was created.", "2026-01-31T11:59:58.123456Z")]


class Token(BaseModel):
    """Response to ``POST /token`` (RFC 6749, 4.3.3)."""

    access_token: Annotated[str, described("The token, for `Authorization: Bearer`.", "eyJhbGciOi...")]
    token_type: Annotated[Literal["bearer"], described("Always `bearer`.")] = "bearer"  # noqa: S105 - a kind, no secret
    expires_in: Annotated[int, described("Seconds until it expires.", 3600)]
