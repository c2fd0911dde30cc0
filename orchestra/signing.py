"""Signs the records that a gateway writes, so that a worker may believe the tenant and user in their headers."""

import hmac

_VERSION = "v1="


class Signer:
    """HMAC-SHA256 over id, type, tenant, user, key and value. ``secrets``: the signing one first."""

    def __init__(self, secrets: list[bytes]) -> None:
        self._secrets = secrets

    def sign(self, *, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> str:
        """The text of the ``orchestra-signature`` header."""
        return _VERSION + _mac(self._secrets[0], id, type, tenant, user, key, value)

    def verify(self, signature: str, *, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> bool:
        """True when one of our secrets made this signature for exactly this record."""
        return any(
            hmac.compare_digest(
                signature.encode(), (_VERSION + _mac(secret, id, type, tenant, user, key, value)).encode()
            )
            for secret in self._secrets
        )


def _mac(secret: bytes, id: str, type: str, tenant: str, user: str, key: bytes, value: bytes) -> str:
    parts = (id.encode(), type.encode(), tenant.encode(), user.encode(), key, value)
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(secret, message, "sha256").hex()
