"""The headers of records: CloudEvents (Kafka binding, binary mode), trace context, deadline, identity.

Source: CloudEvents 1.0.2, Kafka protocol binding; W3C Trace Context. Every header is optional for a producer.
"""

import codecs
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from schemas.errors import ErrorCode, OrchestraError

ID = "ce_id"
TYPE = "ce_type"
SOURCE = "ce_source"
SUBJECT = "ce_subject"
SPEC_VERSION = "ce_specversion"
CONTENT_TYPE = "content-type"
TRACEPARENT = "traceparent"
# https://www.w3.org/TR/trace-context/#traceparent-header
TRACEPARENT_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
CORRELATION_ID = "correlation_id"
DEADLINE = "deadline"
SIGNATURE = "orchestra-signature"
TENANT = "orchestra-tenant"
USER = "orchestra-user"
# Signs the hints below. In a gateway's record, hints that it does not sign are ignored.
HINTS = "orchestra-hints"
# The change that a gateway's record carries out, and its author, for the audit.
CHANGE = "orchestra-change"
BODY_HASH = "orchestra-body-hash"
# A client holds a connection open for the answer: fewer attempts, short back-off. A hint, not an identity.
CALLER_WAITS = "orchestra-caller-waits"

DEFAULT_TENANT = "default"
MAX_HEADER_BYTES = 4096
_KNOWN = frozenset(
    {
        ID,
        TYPE,
        SOURCE,
        SUBJECT,
        TRACEPARENT,
        CORRELATION_ID,
        DEADLINE,
        SIGNATURE,
        HINTS,
        TENANT,
        USER,
        CALLER_WAITS,
        CHANGE,
    }
)


Headers = list[tuple[str, str]]


class Hints(NamedTuple):
    """The headers that say how to answer, in the order in which they are signed; empty if absent."""

    traceparent: str = ""
    correlation_id: str = ""
    deadline: str = ""
    caller_waits: str = ""


HINT_HEADERS = (TRACEPARENT, CORRELATION_ID, DEADLINE, CALLER_WAITS)


@dataclass(frozen=True)
class Envelope:
    """The decoded headers of one record that this system uses. Other headers are left alone."""

    id: UUID | None
    type: str | None
    traceparent: str | None
    correlation_id: str | None
    deadline: datetime | None
    tenant: str | None
    user: str | None
    signature: str | None
    caller_waits: bool
    # As received, to check their signature.
    hints: Hints
    hints_signature: str
    change: str

    @property
    def without_hints(self) -> "Envelope":
        """The same without any hint."""
        return replace(self, traceparent=None, correlation_id=None, deadline=None, caller_waits=False)


def read_headers(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """Decode a record's headers.

    Raises ``OrchestraError(BAD_HEADER)`` if a known one is not UTF-8, too long, or invalid.
    """
    known = {name: _text(name, value) for name, value in headers if name in _KNOWN and value is not None}
    return Envelope(
        id=_uuid(known.get(ID)),
        type=known.get(TYPE),
        traceparent=known.get(TRACEPARENT),
        correlation_id=known.get(CORRELATION_ID),
        deadline=_time(known.get(DEADLINE)),
        tenant=known.get(TENANT),
        user=known.get(USER),
        signature=known.get(SIGNATURE),
        caller_waits=known.get(CALLER_WAITS) == "1",
        hints=Hints(*[known.get(name, "") for name in HINT_HEADERS]),
        hints_signature=known.get(HINTS, ""),
        change=known.get(CHANGE, ""),
    )  # fmt: skip


def readable_headers(headers: Sequence[tuple[str, bytes | None]]) -> Envelope:
    """The headers of a record that can be read; invalid ones count as absent."""
    return read_headers([each for each in headers if each[0] in _KNOWN and _can_be_read(each)])


def trace_id_of(traceparent: str | None) -> str | None:
    """The id of the trace that a valid traceparent names; None for any other (W3C Trace Context)."""
    return traceparent[3:35] if traceparent and TRACEPARENT_FORM.fullmatch(traceparent) else None


def is_signed(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """True if a record has a signature, valid or not."""
    return any(name == SIGNATURE and value is not None for name, value in headers)


def write_headers(
    *, id: UUID | str, type: str, source: str, subject: str | None = None, extra: Iterable[tuple[str, str | None]] = ()
) -> Headers:
    """The CloudEvents headers of one of our records, then those of ``extra`` that have a value."""
    headers = [(SPEC_VERSION, "1.0"), (ID, str(id)), (TYPE, type), (SOURCE, source), (CONTENT_TYPE, "application/json")]
    if subject is not None:
        headers.append((SUBJECT, subject))
    return headers + [(name, value) for name, value in extra if value is not None]


def parse_json(raw: bytes) -> Any:
    """Parse JSON as in RFC 8259: UTF-8, no NaN or Infinity. A leading byte order mark is skipped (section 8.1).

    Raises ``OrchestraError(NOT_JSON)`` for anything else, including nesting that is too deep to read.
    """
    try:
        return json.loads(raw.removeprefix(codecs.BOM_UTF8).decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise OrchestraError(ErrorCode.NOT_JSON) from None


def _can_be_read(header: tuple[str, bytes | None]) -> bool:
    try:
        read_headers([header])
    except OrchestraError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _text(name: str, value: bytes) -> str:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise OrchestraError(ErrorCode.BAD_HEADER, f"header {name} is not UTF-8") from None
    if len(value) > MAX_HEADER_BYTES or "\0" in text:
        raise OrchestraError(ErrorCode.BAD_HEADER, f"header {name} is longer than {MAX_HEADER_BYTES} bytes or has NUL")
    return text


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise OrchestraError(ErrorCode.BAD_HEADER, f"header {ID} is not a UUID") from None


def _time(text: str | None) -> datetime | None:
    try:
        return in_utc(datetime.fromisoformat(text)) if text else None
    except ValueError:
        raise OrchestraError(ErrorCode.BAD_HEADER, f"header {DEADLINE} is not an RFC 3339 time") from None


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC. A time without a zone is taken as UTC.

    Raises ``ValueError`` if UTC has no year for it (year 1 east of Greenwich).
    """
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise ValueError("is out of range") from None
