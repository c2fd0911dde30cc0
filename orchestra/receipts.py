"""Request ids that are their own receipts: any gateway can tell an id that a gateway gave out from an invented one.

UUIDv8 (RFC 9562), 122 free bits: 1 kind, 87 payload, 34 tag. 20 bits of the tag are an HMAC over tenant, kind and
payload, and 14 also over the user. Ids are verified by the first part alone for principals that may see a whole tenant.
"""

import hmac
import secrets as randomness
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

_PAYLOAD_BITS = 87
_RANDOM_BITS = 42
_TENANT_BITS = 20
_USER_BITS = 14
_TAG_BITS = _TENANT_BITS + _USER_BITS
_DERIVED = 1
_EPOCH = datetime.fromtimestamp(0, tz=UTC)
# Maximum clock skew between two gateways.
_AHEAD = timedelta(seconds=15)


@dataclass(frozen=True)
class Receipt:
    """What a genuine id says. ``minted_at`` is None for an id derived from an Idempotency-Key."""

    minted_at: datetime | None


class Receipts:
    """Creates and verifies request ids with the secret that all gateways share.

    ``secrets``: the signing secret first; the others only verify.
    """

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets

    def mint(self, tenant: str, user: str, now: datetime) -> UUID:
        """A new id: 45 bits of milliseconds since 1970, then 42 random bits."""
        milliseconds = (now - _EPOCH) // timedelta(milliseconds=1) & ((1 << 45) - 1)
        return self._seal(tenant, user, 0, milliseconds << _RANDOM_BITS | randomness.randbits(_RANDOM_BITS))

    def derive(self, tenant: str, principal: str, method: str, route: str, key: str) -> UUID:
        """The id for what this principal (a username) sends to this route under this Idempotency-Key."""
        digest = _hmac(self._secrets[0], "derive", tenant, principal, method, route, key)
        return self._seal(tenant, principal, _DERIVED, int.from_bytes(digest, "big") >> (256 - _PAYLOAD_BITS))

    def verify(self, tenant: str, user: str | None, request_id: UUID, now: datetime) -> Receipt | None:
        """The receipt of an id that a gateway gave out to this user (None: to any user of the tenant), else None."""
        if request_id.version != 8:
            return None
        bits = _free_bits(request_id)
        body, tag = bits >> _TAG_BITS, bits & ((1 << _TAG_BITS) - 1)
        if not any(_same(tag, _tag(secret, tenant, user, body), whole=user is not None) for secret in self._secrets):
            return None
        if body >> _PAYLOAD_BITS == _DERIVED:
            return Receipt(minted_at=None)
        milliseconds = (body & ((1 << _PAYLOAD_BITS) - 1)) >> _RANDOM_BITS
        minted_at = _EPOCH + timedelta(milliseconds=milliseconds)
        return Receipt(minted_at) if minted_at <= now + _AHEAD else None

    def _seal(self, tenant: str, user: str, kind: int, payload: int) -> UUID:
        body = kind << _PAYLOAD_BITS | payload
        return _uuid8(body << _TAG_BITS | _tag(self._secrets[0], tenant, user, body))


def _tag(secret: bytes, tenant: str, user: str | None, body: int) -> int:
    """The tenant's part, then the user's, which is 0 without a user."""
    first = int.from_bytes(_hmac(secret, "tag", tenant, str(body)), "big") >> (256 - _TENANT_BITS)
    second = 0 if user is None else int.from_bytes(_hmac(secret, "user", tenant, user, str(body)), "big")
    return first << _USER_BITS | second >> (256 - _USER_BITS)


def _same(shown: int, genuine: int, *, whole: bool) -> bool:
    shift = 0 if whole else _USER_BITS
    return hmac.compare_digest(_bytes(shown >> shift), _bytes(genuine >> shift))


def _hmac(secret: bytes, *parts: str) -> bytes:
    # Each part is preceded by its length, so that no two lists of parts hash the same.
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
    return hmac.digest(secret, message, "sha256")


def _bytes(tag: int) -> bytes:
    return tag.to_bytes(5, "big")


def _uuid8(bits: int) -> UUID:
    # 48 bits, version, 12 bits, variant, 62 bits.
    high, middle, low = bits >> 74, (bits >> 62) & 0xFFF, bits & ((1 << 62) - 1)
    return UUID(int=high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low)


def _free_bits(value: UUID) -> int:
    whole = value.int
    return (whole >> 80) << 74 | ((whole >> 64) & 0xFFF) << 62 | whole & ((1 << 62) - 1)
