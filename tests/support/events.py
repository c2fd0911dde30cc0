"""Events as a worker writes them, signed or as an older release left them."""

from typing import Any
from uuid import UUID

import orjson

from gateway.following.events import Hub
from orchestra.signing import EventSigner
from schemas import envelope
from tests.support.records import SECRET

SIGNER = EventSigner([SECRET])


def sign(signer: EventSigner, headers: list[tuple[str, bytes]], value: bytes) -> list[tuple[str, bytes]]:
    """The headers of an event with its signature."""
    said = dict(headers)
    names = (envelope.TYPE, envelope.SUBJECT, envelope.BODY_HASH, envelope.TENANT)
    return [*headers, (envelope.SIGNATURE, signer.sign(*(said[name] for name in names), value))]


def tell(
    hub: Hub,
    kind: str,
    id: UUID,
    /,
    tenant: str = "default",
    body_hash: str = "hash",
    *,
    signer: EventSigner | None = SIGNER,
    **value: Any,
) -> None:
    """Have a gateway take an event in. ``signer`` None: it has no signature."""
    names = {"ce_type": kind, "ce_subject": str(id), "orchestra-tenant": tenant, "orchestra-body-hash": body_hash}
    headers, raw = [(name, text.encode()) for name, text in names.items()], orjson.dumps(value)
    hub.take(str(id).encode(), sign(signer, headers, raw) if signer else headers, raw)
