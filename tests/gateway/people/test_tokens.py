import base64
import json
import warnings
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from gateway.people.tokens import Session, Tokens
from orchestra.store.users import StoredUser
from schemas.api.users import UserResource

NEW, OLD = b"n" * 32, b"o" * 32
NOW = datetime.now(UTC)
USER = StoredUser(UserResource(id=uuid4(), username="ann", role="user", created_at=NOW), "default", NOW)
SESSION = Session(USER.resource.id, NOW)


def forged(key: bytes | None, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token like ours with changes; None removes a claim."""
    claims = jwt.decode(Tokens([NEW]).sign(USER).get_secret_value(), options={"verify_signature": False})
    claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The key is short for its algorithm.
        return jwt.encode(claims, key, algorithm, headers)


def key_of(tokens: Tokens) -> bytes:
    return tokens._keys[0]


def test_a_token_says_who_signed_in() -> None:
    """Any gateway with the same secret reads it, to the microsecond."""
    token = Tokens([NEW]).sign(USER)

    assert Tokens([NEW]).read(token.get_secret_value()) == SESSION
    assert Tokens([NEW]).issued(token.get_secret_value())
    assert token.get_secret_value() not in repr(token)


def test_a_change_of_secret() -> None:
    """A token of the old secret is valid while that secret still verifies, and no longer."""
    token = Tokens([OLD]).sign(USER).get_secret_value()

    assert Tokens([NEW, OLD]).read(token) == SESSION
    assert Tokens([NEW]).read(token) is None


def test_an_hour() -> None:
    """A token of 59 minutes is valid, one of 61 is not."""
    tokens = Tokens([NEW])
    young = tokens.sign(USER, datetime.now(UTC) - timedelta(minutes=59)).get_secret_value()
    old = tokens.sign(USER, datetime.now(UTC) - timedelta(minutes=61)).get_secret_value()

    assert (SESSION, None) == (tokens.read(young), tokens.read(old))


def test_another_gateways_clock() -> None:
    """A token issued a little in the future is valid."""
    ahead = Tokens([NEW]).sign(USER, datetime.now(UTC) + timedelta(seconds=10)).get_secret_value()

    assert Tokens([NEW]).read(ahead) == SESSION


def bad_tokens() -> dict[str, str]:
    tokens = Tokens([NEW])
    good, key = tokens.sign(USER).get_secret_value(), key_of(tokens)
    head, body, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"sub": str(uuid4()), "iss": "llm-orchestra"}).encode()).decode()
    return {
        "none": forged(None, "none"),
        "the secret itself": forged(NEW),
        "another key": forged(b"x" * 32),
        "no key": forged(bytes(32)),
        "another algorithm": forged(key, "HS512"),
        "a path as kid": forged(b"x" * 32, headers={"kid": "/dev/null"}),
        "a key of its own": forged(b"x" * 32, headers={"jwk": {"kty": "oct", "k": "eHh4"}}),
        "another issuer": forged(key, iss="somebody"),
        "no issuer": forged(key, iss=None),
        "no end": forged(key, exp=None),
        "no start": forged(key, iat=None),
        "no user": forged(key, sub=None),
        "no time of password": forged(key, pwd_at=None),
        "a user that is not a UUID": forged(key, sub="admin"),
        "an invalid time": forged(key, pwd_at=3),
        "an invalid end": forged(key, exp="never"),
        "another body": f"{head}.{other.rstrip('=')}.{signature}",
        "no signature": f"{head}.{body}.",
        "cut": good[:-4],
        "nothing": "..",
        "not even base64": "ä.ö.ü",
        "too long": good + "a" * 5000,
    }


@pytest.mark.parametrize("name", bad_tokens())
def test_bad_tokens(name: str) -> None:
    """A token with anything wrong is not valid."""
    assert Tokens([NEW]).read(bad_tokens()[name]) is None


@pytest.mark.parametrize("text", ["sk-123", "", "a.b.c", "..", "x" * 5000, forged(b"x" * 32, iss="elsewhere")])
def test_what_was_never_ours(text: str) -> None:
    """A token of another issuer is distinguished from an invalid one of ours."""
    assert not Tokens([NEW]).issued(text)
    assert Tokens([NEW]).issued(forged(b"x" * 32))
