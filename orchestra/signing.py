"""Signs requests of gateways, so that a worker can trust their owner, and the events of workers."""

import hashlib
import hmac
from collections.abc import Sequence

_VERSION = "v1="
# Keyed BLAKE2 (RFC 7693) with a 128-bit output for short texts: HMAC-SHA256 costs five times as much.
_OF_EVENTS = b"llm.events"
_OF_HINTS = b"hints"
_OF_CHANGES = b"changes"
_OF_OWNERS = "owners"
_SHORT_BYTES = 16


class Signer:
    """HMAC-SHA256 over id, type, tenant, user, key and value. ``secrets``: the signing one first."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets

    def sign(self, *, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> str:
        """The value of the ``orchestra-signature`` header."""
        return _VERSION + _mac(self._secrets[0], id, type, tenant, user, key, value)

    def verify(self, signature: str, *, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> bool:
        """True if one of our secrets made this signature for exactly this record."""
        return any(
            hmac.compare_digest(
                signature.encode(), (_VERSION + _mac(secret, id, type, tenant, user, key, value)).encode()
            )
            for secret in self._secrets
        )


class HintSigner:
    """Keyed BLAKE2b over the signature of a record and the values of its hints. ``secrets``: the signing one first.

    The hints are ``traceparent``, ``correlation_id``, ``deadline`` and ``orchestra-caller-waits``, empty where absent.
    None of our headers contains a NUL.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._begun = _begun(secrets, _OF_HINTS)

    def sign(self, signature: str, hints: Sequence[str]) -> str:
        """The value of the ``orchestra-hints`` header: 32 hexadecimal digits."""
        return _short_mac(self._begun[0], "\0".join((signature, *hints)).encode()).decode()

    def verify(self, shown: str, signature: str, hints: Sequence[str]) -> bool:
        """True if one of our secrets signed exactly these hints for the record with this signature."""
        return _verify(self._begun, shown.encode(), "\0".join((signature, *hints)).encode())


class ChangeSigner:
    """Keyed BLAKE2b over the signature of a record and the change that it carries out. ``secrets``: signing one first.

    The header is 32 hexadecimal digits, a space, and the change as JSON.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._begun = _begun(secrets, _OF_CHANGES)

    def sign(self, signature: str, change: str) -> str:
        """The value of the ``orchestra-change`` header."""
        return f"{_short_mac(self._begun[0], _about(signature, change)).decode()} {change}"

    def read(self, shown: str, signature: str) -> str | None:
        """The change in such a header; None if it was not signed by one of our secrets for this record."""
        mac, _, change = shown.partition(" ")
        return change if _verify(self._begun, mac.encode(), _about(signature, change)) else None


class EventSigner:
    """Keyed BLAKE2b over the content of an event and its request. ``secrets``: the signing one first.

    The parts are type, request id, body hash, tenant and value. None contains a NUL: they are types and ids of ours,
    text from Postgres, and JSON.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._begun = _begun(secrets, _OF_EVENTS)

    def sign(self, *parts: bytes) -> bytes:
        """The ``orchestra-signature`` header of an event: 32 hexadecimal digits."""
        return _short_mac(self._begun[0], b"\0".join(parts))

    def verify(self, signature: bytes, *parts: bytes) -> bool:
        """True if one of our secrets made this signature for exactly this event."""
        return _verify(self._begun, signature, b"\0".join(parts))


class OwnerHasher:
    """HMAC-SHA256 of a tenant and an owner: what an erasure remembers of them. ``secrets``: the present one first."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets

    def hash(self, tenant: str, owner: str) -> str:
        """The hash by the present secret: 64 hexadecimal digits."""
        return self.hashes(tenant, owner)[0]

    def hashes(self, tenant: str, owner: str) -> list[str]:
        """The hashes by every secret, so that those of the previous one are recognized, too."""
        return [
            hmac.digest(secret, f"{_OF_OWNERS}\0{tenant}\0{owner}".encode(), "sha256").hex() for secret in self._secrets
        ]


def _about(signature: str, change: str) -> bytes:
    return f"{signature}\0{change}".encode()


def _verify(every: list["hashlib.blake2b"], shown: bytes, message: bytes) -> bool:
    return any(hmac.compare_digest(shown, _short_mac(begun, message)) for begun in every)


def _begun(secrets: list[bytes], purpose: bytes) -> list["hashlib.blake2b"]:
    keys = [hashlib.sha256(secret).digest() for secret in secrets]
    return [hashlib.blake2b(key=key, digest_size=_SHORT_BYTES, person=purpose) for key in keys]


def _short_mac(begun: "hashlib.blake2b", message: bytes) -> bytes:
    mac = begun.copy()
    mac.update(message)
    return mac.hexdigest().encode()


def _mac(secret: bytes, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> str:
    parts = (id.encode(), type.encode(), tenant.encode(), user.encode(), key, value)
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(secret, message, "sha256").hex()
