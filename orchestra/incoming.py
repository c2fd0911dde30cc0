"""② A record on its way in → whose it is and what it asks for, or why it is refused; the same for what is replayed."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from orchestra.signing import Signer
from schemas.dead_letters import RawHeaders
from schemas.envelope import Envelope, parse_json, read_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MESSAGE_REQUESTED, MessageRequested, RequestRecord, read_record
from schemas.topics import MAX_RECORD_BYTES


@dataclass(frozen=True)
class Incoming:
    """A record that may be taken in. ``user``: who signed for it, None for the tenant's own. ``id``: what it names."""

    envelope: Envelope
    body: RequestRecord
    tenant: str
    user: str | None
    id: UUID | None


def judge(signer: Signer, owner: str, key: bytes | None, value: bytes | None, headers: RawHeaders) -> Incoming:
    """What a record of a topic that belongs to this tenant asks for. Raises ``OrchestraError`` with the reason."""
    envelope = read_headers(headers)
    tenant, user = whose(signer, owner, envelope, key, value)
    parsed = read_value(value)
    body = read_record(envelope.type, parsed)
    if isinstance(body, MessageRequested) and None not in (envelope.id, body.id) and envelope.id != body.id:
        raise OrchestraError(ErrorCode.INVALID_REQUEST, "the id in the body is not the id in ce_id")
    return Incoming(envelope, body, tenant, user, envelope.id or named_id(parsed))


def whose(
    signer: Signer, owner: str, envelope: Envelope, key: bytes | None, value: bytes | None
) -> tuple[str, str | None]:
    """Tenant and user: what a gateway signed, else the tenant to which the topic belongs. Raises ``BAD_SIGNATURE``."""
    if envelope.signature is None:
        return owner, None
    tenant, user = envelope.tenant or "", envelope.user or ""
    genuine = signer.verify(
        envelope.signature,
        id=str(envelope.id or ""),
        type=envelope.type or MESSAGE_REQUESTED,
        tenant=tenant,
        user=user,
        key=key or b"",
        value=value or b"",
    )
    if not genuine or not tenant:
        raise OrchestraError(ErrorCode.BAD_SIGNATURE)
    return tenant, user or None


def read_value(value: bytes | None) -> Any:
    """The JSON of a value. Raises ``TOMBSTONE``, ``TOO_LARGE`` or ``NOT_JSON``."""
    if value is None:
        raise OrchestraError(ErrorCode.TOMBSTONE)
    if len(value) > MAX_RECORD_BYTES:
        raise OrchestraError(ErrorCode.TOO_LARGE)
    return parse_json(value)


def named_id(parsed: Any, name: str = "id") -> UUID | None:
    """The id that a body names, if it can be read, whatever else is wrong with it."""
    try:
        return UUID(parsed[name])
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
