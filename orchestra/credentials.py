"""API keys as text: created, parsed, and stored only as a hash."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field

KEY_PREFIX = "orc_"
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_ID = re.compile(f"[{_BASE32}]{{12}}")
_KEY = re.compile(f"{KEY_PREFIX}({_ID.pattern})_([0-9a-f]{{64}})")


@dataclass(frozen=True)
class NewKey:
    """A new key. ``text`` is shown once and never stored."""

    id: str
    text: str = field(repr=False)
    secret_hash: bytes = field(repr=False)


def new_key() -> NewKey:
    """``orc_<id>_<secret>``: 60 random bits of id and 256 of secret."""
    id, secret = "".join(secrets.choice(_BASE32) for _ in range(12)), secrets.token_hex(32)
    return NewKey(id, f"{KEY_PREFIX}{id}_{secret}", _hash(secret))


def read_key(text: str) -> tuple[str, bytes] | None:
    """The id of a key and the SHA-256 of its secret; None for text that is not in the form of a key."""
    found = _KEY.fullmatch(text)
    return (found[1], _hash(found[2])) if found else None


def is_key_id(text: str) -> bool:
    """True for text in the form of a key's id."""
    return _ID.fullmatch(text) is not None


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
