"""Sessions: a browser that has signed in, by its cookie."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from schemas import fields
from schemas.api.keys import Scope
from schemas.api.users import Role
from schemas.json_schema import described


class CreateSession(BaseModel):
    """JSON body of ``POST /v1/session``: sign in with an API key."""

    model_config = ConfigDict(extra="forbid")

    api_key: Annotated[
        SecretStr,
        Field(min_length=1, max_length=200),
        described("The API key. The cookie contains its id, but not the key.", "orc_k3x7q2m5ab4c_..."),
    ]


class SessionCaller(BaseModel):
    """The caller, and what they may do."""

    tenant: Annotated[str, described("The tenant whose data they see.", "default")]
    owner: Annotated[
        str,
        described("The owner of what they create: a user's id or a name; empty: the tenant itself.", fields.A_USER),
    ]
    user_id: Annotated[UUID | None, described("The user; null: a program, or no credentials.", fields.A_USER)]
    username: Annotated[str | None, described("The user's name; null: no user.", "ann")]
    role: Annotated[Role | None, described("The user's role; null: no user.", "user")]
    key_id: Annotated[str | None, described("The API key that identified them; null: none did.", "k3x7q2m5ab4c")]
    key_name: Annotated[str | None, described("What that key is for.", "nightly report")]
    scopes: Annotated[list[Scope], described("What they may do.", [Scope.READ, Scope.WRITE])]


class SessionTimes(BaseModel):
    """How long the session of a cookie lasts."""

    signed_in_at: Annotated[datetime, described("When it began.", "2026-01-31T11:59:58Z")]
    recent_until: Annotated[
        datetime,
        described(
            "Until then it may create keys, and create and change users; later such calls fail with `sign_in_again`.",
            "2026-01-31T12:14:58Z",
        ),
    ]
    renew_at: Annotated[
        datetime,
        described(
            "From then on, `GET /v1/session` renews it. Call it when the user does something.", "2026-01-31T12:29:58Z"
        ),
    ]
    expires_at: Annotated[datetime, described("When it ends unless it is renewed.", "2026-01-31T12:59:58Z")]
    ends_at: Annotated[datetime, described("When it ends even if it is renewed.", "2026-01-31T23:59:58Z")]


class SessionResource(BaseModel):
    """Response to ``GET /v1/session``: what a page needs to decide what to show."""

    mode: Annotated[
        Literal["open", "keys", "users"],
        described(
            "`open`: no credentials are required. `keys`: there are no users, so sign in with an API key. `users`: "
            "sign in with username and password, or with an API key."
        ),
    ]
    version: Annotated[str, described("The release of this gateway.", "1.2.3")]
    caller: Annotated[
        SessionCaller | None, described("The caller; null: there are no valid credentials, but they are required.")
    ]
    session: Annotated[SessionTimes | None, described("The session; null: no cookie identified the caller.")]
