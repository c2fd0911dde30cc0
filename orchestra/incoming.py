"""② An incoming record → its owner and what it asks for, or why it is refused. Replays are judged the same way."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from orchestra.receipts import Receipts
from orchestra.signing import ChangeSigner, HintSigner, Signer
from schemas.changes import Change
from schemas.content import refuse_web_urls
from schemas.dead_letters import RawHeaders
from schemas.envelope import Envelope, parse_json, read_headers, readable_headers
from schemas.errors import ErrorCode, OrchestraError
from schemas.requests import MESSAGE_REQUESTED, MessageRequested, ReferredMessage, RequestRecord, read_record
from schemas.topics import MAX_RECORD_BYTES


@dataclass(frozen=True)
class Incoming:
    """A record that may be taken in. ``user``: its owner, None for the tenant itself. ``id``: the id that it names.

    ``change``: what a person or key changes by it, as a gateway signed it. None: it is not audited.
    """

    envelope: Envelope
    body: RequestRecord
    tenant: str
    user: str | None
    id: UUID | None
    change: Change | None = None


class Named(NamedTuple):
    """The owner of a refused record, and the id that it names. ``vouched``: a gateway signed it."""

    tenant: str
    id: UUID | None
    vouched: bool


class Judge:
    """Judges records, with the secrets that gateways and workers share. ``media_urls``: whether media may be URLs."""

    def __init__(self, secrets: list[bytes], *, media_urls: bool = False) -> None:
        self._media_urls = media_urls
        self._signer = Signer(secrets)
        self._hints = HintSigner(secrets)
        self._changes = ChangeSigner(secrets)
        self._receipts = Receipts(secrets)
        self._hints_are_signed = False

    def judge(
        self, owner: str, key: bytes | None, value: bytes | None, headers: RawHeaders, *, vouched: bool = False
    ) -> Incoming:
        """What a record asks for, on a topic that belongs to the tenant ``owner``. Raises ``OrchestraError``.

        An unsigned record may not use an id that a gateway gave out (``UNSIGNED``): if it came first, it would take
        the place of the request that was promised to the caller. Nor may it name a body in the home of files.
        ``vouched``: the record is known to have been signed.
        """
        envelope = read_headers(headers)
        tenant, user = self.whose(owner, envelope, key, value)
        parsed = read_value(value)
        body = read_record(envelope.type, parsed)
        if isinstance(body, MessageRequested) and None not in (envelope.id, body.id) and envelope.id != body.id:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "the id in the body is not the id in ce_id")
        id = envelope.id or named_id(parsed)
        if envelope.signature is None and not vouched:
            if self._is_a_gateways(tenant, id):
                raise OrchestraError(
                    ErrorCode.UNSIGNED, "a gateway gave out the id that it names, and has not signed it"
                )
            if isinstance(body, MessageRequested) and not self._media_urls:
                refuse_web_urls(body.messages)
            if isinstance(body, ReferredMessage):
                raise OrchestraError(ErrorCode.UNSIGNED, "only a gateway may write body_ref; name files by their ids")
        change = self._change(envelope, tenant) if envelope.change else None
        return Incoming(self._trusted(envelope), body, tenant, user, id, change)

    def whose(self, owner: str, envelope: Envelope, key: bytes | None, value: bytes | None) -> tuple[str, str | None]:
        """Tenant and user: as signed by a gateway, else the topic's tenant ``owner``. Raises ``BAD_SIGNATURE``."""
        if envelope.signature is None:
            return owner, None
        tenant, user = envelope.tenant or "", envelope.user or ""
        genuine = self._signer.verify(
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

    def named(self, owner: str, key: bytes | None, value: bytes | None, headers: RawHeaders) -> Named:
        """What a refused record names, as far as it can be trusted."""
        said = readable_headers(headers)
        try:
            tenant, _ = self.whose(owner, said, key, value)
            vouched = said.signature is not None
        except OrchestraError:
            tenant, vouched = owner, False
        id = said.id or id_in(value)
        return Named(tenant, id if vouched or not self._is_a_gateways(tenant, id) else None, vouched)

    def _is_a_gateways(self, tenant: str, id: UUID | None) -> bool:
        return id is not None and self._receipts.verify(tenant, None, id, datetime.now(UTC)) is not None

    def _change(self, envelope: Envelope, tenant: str) -> Change | None:
        """The change in the record's header; None if no gateway signed it, or a later release has another form."""
        text = self._changes.read(envelope.change, envelope.signature or "")
        if text is None:
            return None
        try:
            change = Change.model_validate_json(text)
        except ValidationError:
            return None
        return change if change.tenant == tenant else None

    def _trusted(self, envelope: Envelope) -> Envelope:
        """The envelope without hints that a third party may have added next to a gateway's signature.

        Older gateways do not sign hints: until the first signed ones are seen, ``traceparent`` and
        ``orchestra-caller-waits`` count without a signature. The deadline is in the body.
        """
        if envelope.signature is None:
            return envelope
        shown = envelope.hints_signature
        if self._hints.verify(shown, envelope.signature, envelope.hints):
            self._hints_are_signed = True
            return envelope
        trusted = envelope.without_hints
        if shown or self._hints_are_signed:
            return trusted
        return replace(trusted, traceparent=envelope.traceparent, caller_waits=envelope.caller_waits)


def read_value(value: bytes | None) -> Any:
    """The value as JSON. Raises ``TOMBSTONE``, ``TOO_LARGE`` or ``NOT_JSON``."""
    if value is None:
        raise OrchestraError(ErrorCode.TOMBSTONE)
    if len(value) > MAX_RECORD_BYTES:
        raise OrchestraError(ErrorCode.TOO_LARGE)
    return parse_json(value)


def named_id(parsed: Any, name: str = "id") -> UUID | None:
    """The id that a body names, if it can be read, whatever else is wrong with the body."""
    try:
        return UUID(parsed[name])
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def id_in(value: bytes | None, name: str = "id") -> UUID | None:
    """The id in a raw value; None if it cannot be read."""
    try:
        return named_id(read_value(value), name)
    except OrchestraError:
        return None
