"""JSON Web Tokens, signed with the gateways' shared secret: access tokens of users, and session cookies of pages."""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from pydantic import SecretStr

from orchestra.store.keys import Session
from orchestra.store.users import StoredUser

LIFETIME = timedelta(hours=1)
# A session is renewed while its user acts, but must begin with a sign-in.
LONGEST_SESSION = timedelta(hours=12)
# How long after a sign-in a session may create credentials that outlive it.
RECENT = timedelta(minutes=15)
_ISSUER = "llm-orchestra"
_ALGORITHM = "HS256"
_PASSWORD_SET_AT = "pwd_at"  # noqa: S105 - the name of a claim
_SIGNED_IN_AT = "auth_time"
_CLAIMS = ["sub", "iat", "exp", "iss", _PASSWORD_SET_AT]
_CLAIMS_OF_SESSION = ["sub", "iat", "exp", "iss", _SIGNED_IN_AT]
_MAX_CHARACTERS = 2048


@dataclass(frozen=True)
class WebSession:
    """A session in a browser. ``who``: the session of a user, or the id of the API key that signed in.

    ``signed_in_at``: when it began; ``issued_at``: when its cookie was last renewed.
    """

    who: Session | str
    signed_in_at: datetime
    issued_at: datetime

    @property
    def expires_at(self) -> datetime:
        """When it ends unless it is renewed."""
        return min(self.issued_at + LIFETIME, self.ends_at)

    @property
    def ends_at(self) -> datetime:
        """When it ends in any case."""
        return self.signed_in_at + LONGEST_SESSION

    @property
    def renew_at(self) -> datetime:
        """From when it can be renewed."""
        return self.issued_at + LIFETIME / 2

    @property
    def recent_until(self) -> datetime:
        """Until when it may create credentials."""
        return self.signed_in_at + RECENT


class Tokens:
    """Signs and reads tokens. ``secrets``: the signing one first; keys for tokens are derived from each.

    A token of one kind is never valid as the other, so an access token cannot be renewed.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._keys = [hmac.digest(secret, b"access tokens", "sha256") for secret in secrets]
        self._keys_of_sessions = [hmac.digest(secret, b"web sessions", "sha256") for secret in secrets]

    def sign(self, user: StoredUser, now: datetime | None = None) -> SecretStr:
        """A token for this user, valid for an hour."""
        now = now or datetime.now(UTC)
        claims = {
            "sub": str(user.resource.id),
            "iat": now,
            "exp": now + LIFETIME,
            "iss": _ISSUER,
            _PASSWORD_SET_AT: user.password_set_at.isoformat(),
        }
        return SecretStr(jwt.encode(claims, self._keys[0], _ALGORITHM))

    def issued(self, text: str) -> bool:
        """True for a token that names us as its issuer, valid or not."""
        if len(text) > _MAX_CHARACTERS:
            return False
        try:
            claims = jwt.decode(text, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return False
        return bool(claims.get("iss") == _ISSUER)

    def read(self, text: str) -> Session | None:
        """The session of a valid token; None for any other text."""
        for key in self._keys:
            try:
                return _session(_decoded(text, key, _CLAIMS))
            except _INVALID:
                continue
        return None

    def sign_session(self, session: WebSession) -> SecretStr:
        """The value of a cookie for this session."""
        claims: dict[str, Any] = {
            "iat": session.issued_at,
            "exp": session.expires_at,
            "iss": _ISSUER,
            _SIGNED_IN_AT: session.signed_in_at.timestamp(),
        }
        if isinstance(session.who, str):
            claims["sub"] = session.who
        else:
            claims["sub"] = str(session.who.user_id)
            claims[_PASSWORD_SET_AT] = session.who.password_set_at.isoformat()
        return SecretStr(jwt.encode(claims, self._keys_of_sessions[0], _ALGORITHM))

    def read_session(self, text: str) -> WebSession | None:
        """The session of a valid cookie; None for any other text."""
        if len(text) > _MAX_CHARACTERS:
            return None
        for key in self._keys_of_sessions:
            try:
                claims = _decoded(text, key, _CLAIMS_OF_SESSION)
                who = _session(claims) if _PASSWORD_SET_AT in claims else claims["sub"]
                return WebSession(who, _moment(claims[_SIGNED_IN_AT]), _moment(claims["iat"]))
            except _INVALID:
                continue
        return None


_INVALID = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


def _decoded(text: str, key: bytes, required: list[str]) -> dict[str, Any]:
    # An iat in the future only means that another gateway's clock is ahead.
    options: Any = {"require": required, "verify_iat": False}
    return dict(jwt.decode(text, key, algorithms=[_ALGORITHM], issuer=_ISSUER, options=options))


def _session(claims: dict[str, Any]) -> Session:
    return Session(UUID(claims["sub"]), datetime.fromisoformat(claims[_PASSWORD_SET_AT]))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
