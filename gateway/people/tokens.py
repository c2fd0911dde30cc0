"""Access tokens for users who sign in with a password: JSON Web Tokens, signed with the gateways' shared secret."""

import hmac
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
from pydantic import SecretStr

from orchestra.store.keys import Session
from orchestra.store.users import StoredUser

LIFETIME = timedelta(hours=1)
_ISSUER = "llm-orchestra"
_ALGORITHM = "HS256"
_PASSWORD_SET_AT = "pwd_at"  # noqa: S105 - the name of a claim
_CLAIMS = ["sub", "iat", "exp", "iss", _PASSWORD_SET_AT]
_MAX_CHARACTERS = 2048


class Tokens:
    """Signs and reads tokens. ``secrets``: the signing one first; a key for tokens is derived from each."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._keys = [hmac.digest(secret, b"access tokens", "sha256") for secret in secrets]

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
                # An iat in the future only means that another gateway's clock is ahead.
                options: Any = {"require": _CLAIMS, "verify_iat": False}
                claims = jwt.decode(text, key, algorithms=[_ALGORITHM], issuer=_ISSUER, options=options)
                return Session(UUID(claims["sub"]), datetime.fromisoformat(claims[_PASSWORD_SET_AT]))
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
        return None
