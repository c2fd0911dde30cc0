"""Dead letters: records that could not become requests, as operators list, edit and replay them."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from schemas import fields
from schemas.api.pages import SearchedPage
from schemas.content import storable
from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode
from schemas.json_schema import described
from schemas.replies import RequestError
from schemas.requests import Moment

_TopicName = Annotated[str, Field(min_length=1, max_length=249), AfterValidator(storable)]
_Cursor = Annotated[str, Field(max_length=512)]
_KEY = described("The key, if it is UTF-8; null if there is none.", fields.A_CONVERSATION)
_KEY_BASE64 = described("The key in base64, if it is not UTF-8.", "/w==")
_VALUE = described("The value, if it is UTF-8; null if there is none.", '{"messages": [')
_VALUE_BASE64 = described("The value in base64, if it is not UTF-8.", "/w==")
_REASON = described("Why it could not become a request.", "not_json")


def _encodable(text: str) -> str:
    # U+0000 is fine here: the text represents bytes.
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain lone surrogates") from None
    return text


def _decodable(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    return text


_Text = Annotated[str, AfterValidator(_encodable)]
_Base64 = Annotated[str, AfterValidator(_decodable)]


class DeadLetterFilter(BaseModel):
    """Which dead letters: those that match every given field."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[ErrorCode | None, described("Only those with this reason.", "not_json")] = None
    topic: Annotated[_TopicName | None, described("Only those from this topic.", "llm.requests")] = None
    created_after: Annotated[Moment | None, fields.CREATED_AFTER] = None
    created_before: Annotated[Moment | None, fields.CREATED_BEFORE] = None


class DeadLetterQuery(DeadLetterFilter):
    """The query of ``GET /v1/dead-letters``."""

    replayed: Annotated[
        Literal["true", "false"] | None,
        described("`true`: only those that were replayed. `false`: only those that were not.", "false"),
    ] = None
    limit: Annotated[int, Field(ge=1, le=100), fields.LIMIT] = 20
    cursor: Annotated[_Cursor | None, fields.CURSOR] = None


class ReplayDeadLetters(DeadLetterFilter):
    """Body of ``POST /v1/dead-letters/replay``."""

    dry_run: Annotated[StrictBool, described("Send nothing: count what would be sent and what would not.", False)] = (
        False
    )
    cursor: Annotated[
        _Cursor | None, described("`next` of the previous call, to continue there.", "WzE3Njk4NjA3OTgsNDJd")
    ] = None

    @property
    def empty(self) -> bool:
        """True if no field is given, so that it matches every dead letter."""
        return all(getattr(self, name) is None for name in DeadLetterFilter.model_fields)


class ReplayedDeadLetters(BaseModel):
    """Response to ``POST /v1/dead-letters/replay``."""

    replayed: Annotated[int, described("Number of dead letters that were sent, or in a dry run would be.", 480)]
    skipped: Annotated[
        int, described("Number of dead letters that were skipped: they would be rejected again, or are not signed.", 20)
    ]
    next: Annotated[
        str | None,
        described("The `cursor` of the following call; null when there are no more.", "WzE3Njk4NjA3OTgsNDJd"),
    ]


class DeadLetterSummary(BaseModel):
    """A dead letter in a list."""

    id: Annotated[int, described("The dead letter's id.", 42)]
    request_id: Annotated[
        UUID | None,
        described("The id of the request that it would have become; null if it is not known.", fields.A_REQUEST),
    ]
    reason: Annotated[ErrorCode, _REASON]
    detail: Annotated[str, described("The reason in words.", "The body is not JSON")]
    topic: Annotated[str, described("The record's topic.", "llm.requests")]
    partition: Annotated[int, described("The record's partition.", 3)]
    offset: Annotated[int, described("The record's offset.", 43)]
    timestamp_ms: Annotated[int, described("The record's timestamp, in milliseconds since 1970.", 1_769_860_798_123)]
    value_bytes: Annotated[
        int | None,
        described(
            "Length of the original value in bytes, even if it is not kept; null if there was none or it is not known.",
            14,
        ),
    ]
    created_at: Annotated[datetime, described("When it became a dead letter.", "2026-01-31T11:59:58.123456Z")]
    edited_at: Annotated[datetime | None, described("When it was last edited; null: never.", "2026-01-31T12:10:00Z")]
    replayed_at: Annotated[
        datetime | None, described("When it was last replayed; null: never.", "2026-01-31T12:11:00Z")
    ]
    replayed_as: Annotated[
        UUID | None, described("The request id of the last replay; null: never replayed.", fields.A_REQUEST)
    ]


class DeadLetterPage(SearchedPage[DeadLetterSummary]):
    """One page of dead letters."""


class LetterHeader(BaseModel):
    """A header of a record. Its value is text or base64; both are null if it has none."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=1000), AfterValidator(storable), described("Its name.", "ce_type")]
    value: Annotated[_Text | None, described("Its value, if it is UTF-8.", "llm.message.requested")] = None
    value_base64: Annotated[_Base64 | None, _VALUE_BASE64] = None

    @model_validator(mode="after")
    def _one_value(self) -> "LetterHeader":
        _at_most_one(self.value, self.value_base64, "value")
        return self

    @property
    def raw(self) -> bytes | None:
        """The bytes of its value."""
        return _bytes(self.value, self.value_base64)


class LetterRecord(BaseModel):
    """Key, value and headers of a record, as text if the bytes are UTF-8, otherwise in base64.

    A value that is longer than any record may be is truncated.
    """

    key: Annotated[str | None, _KEY]
    key_base64: Annotated[str | None, _KEY_BASE64]
    value: Annotated[str | None, _VALUE]
    value_base64: Annotated[str | None, _VALUE_BASE64]
    headers: Annotated[list[LetterHeader], described("The headers, in order.")]

    @classmethod
    def of(cls, key: bytes | None, value: bytes | None, headers: RawHeaders) -> "LetterRecord":
        """The record of these bytes."""
        (key_text, key_base64), (text, text_base64) = _shown(key), _shown(value)
        shown = [_header(name, raw) for name, raw in headers]
        return cls(key=key_text, key_base64=key_base64, value=text, value_base64=text_base64, headers=shown)


class DeadLetterResource(DeadLetterSummary, LetterRecord):
    """One dead letter. Key, value and headers are what a replay would send."""

    original: Annotated[LetterRecord | None, described("The record as it arrived; null if it was not edited.")]
    obstacle: Annotated[RequestError | None, described("Why it cannot be replayed as it is; null if it can.")]


class CheckedDeadLetter(BaseModel):
    """Response to ``POST /v1/dead-letters/{id}/check``."""

    obstacle: Annotated[
        RequestError | None, described("Why it could not be replayed with this edit; null if it could.")
    ]
    request_id: Annotated[
        UUID | None, described("The request id of such a replay; null if there is an obstacle.", fields.A_REQUEST)
    ]


class EditDeadLetter(BaseModel):
    """Body of ``PUT /v1/dead-letters/{id}`` and of ``…/check``: what a replay sends. Absent fields stay as they are."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[_Text | None, described("The new key as text; null: no key.", fields.A_CONVERSATION)] = None
    key_base64: Annotated[_Base64 | None, described("The new key in base64.", "/w==")] = None
    value: Annotated[
        _Text | None,
        described("The new value as text; null: no value.", '{"messages": [{"role": "user", "content": "hi"}]}'),
    ] = None
    value_base64: Annotated[_Base64 | None, described("The new value in base64.", "e30=")] = None
    headers: Annotated[
        Annotated[list[LetterHeader], Field(max_length=1000)] | None,
        described("The new headers; they replace all of the old ones."),
    ] = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "EditDeadLetter":
        _at_most_one(self.key, self.key_base64, "key")
        _at_most_one(self.value, self.value_base64, "value")
        return self

    @property
    def empty(self) -> bool:
        """True if it changes nothing."""
        return not self.model_fields_set or (self.model_fields_set == {"headers"} and self.headers is None)

    def over(
        self, key: bytes | None, value: bytes | None, headers: RawHeaders
    ) -> tuple[bytes | None, bytes | None, RawHeaders]:
        """These key, value and headers with this edit applied."""
        named = self.model_fields_set
        return (
            _bytes(self.key, self.key_base64) if named & {"key", "key_base64"} else key,
            _bytes(self.value, self.value_base64) if named & {"value", "value_base64"} else value,
            headers if self.headers is None else [(each.name, each.raw) for each in self.headers],
        )


def _shown(raw: bytes | None) -> tuple[str | None, str | None]:
    if raw is None:
        return None, None
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError:
        return None, base64.b64encode(raw).decode()


def _header(name: str, raw: bytes | None) -> LetterHeader:
    text, encoded = _shown(raw)
    return LetterHeader.model_construct(name=name, value=text, value_base64=encoded)


def _bytes(text: str | None, encoded: str | None) -> bytes | None:
    if encoded is not None:
        return base64.b64decode(encoded)
    return None if text is None else text.encode()


def _at_most_one(text: str | None, encoded: str | None, name: str) -> None:
    if text is not None and encoded is not None:
        raise ValueError(f"{name} and {name}_base64 exclude each other")
