"""Dead letters: records that were not taken in, as an operator lists, mends and replays them."""

import base64
import binascii
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.dead_letters import RawHeaders
from schemas.errors import ErrorCode
from schemas.replies import RequestError
from schemas.requests import Moment, storable

_TopicName = Annotated[str, Field(min_length=1, max_length=249), AfterValidator(storable)]
_Cursor = Annotated[str, Field(max_length=512)]


def _encodable(text: str) -> str:
    # U+0000 is fine here: the text stands for bytes.
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
    """Which letters: all that is named must hold. Times are inclusive at the start and exclusive at the end."""

    model_config = ConfigDict(extra="forbid")

    reason: ErrorCode | None = None
    topic: _TopicName | None = None
    created_after: Moment | None = None
    created_before: Moment | None = None


class DeadLetterQuery(DeadLetterFilter):
    """The query of ``GET /v1/dead-letters``."""

    replayed: Literal["true", "false"] | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: _Cursor | None = None


class ReplayDeadLetters(DeadLetterFilter):
    """Body of ``POST /v1/dead-letters/replay``; ``cursor``: go on where an earlier answer ended."""

    cursor: _Cursor | None = None

    @property
    def empty(self) -> bool:
        """True when it names nothing, and so means every letter."""
        return all(getattr(self, name) is None for name in DeadLetterFilter.model_fields)


class ReplayedDeadLetters(BaseModel):
    """Answer of ``POST /v1/dead-letters/replay``.

    ``skipped``: those that would be refused again, or that nobody vouches for; they are left as they were. ``next``:
    the cursor of the following call, null when all were looked at.
    """

    replayed: int
    skipped: int
    next: str | None


class DeadLetterSummary(BaseModel):
    """A letter in a list. ``offset`` and ``timestamp_ms`` (milliseconds since 1970) are those of the record.

    ``value_bytes``: how long the value is that came, also where it is not kept; null where none came, or where that is
    not known. ``replayed_as``: the request id that the last replay went by.
    """

    id: int
    request_id: UUID | None
    reason: ErrorCode
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value_bytes: int | None
    created_at: datetime
    edited_at: datetime | None
    replayed_at: datetime | None
    replayed_as: UUID | None


class LetterHeader(BaseModel):
    """A header: text where it is UTF-8, else ``value_base64``; both null where it has no value."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=1000), AfterValidator(storable)]
    value: _Text | None = None
    value_base64: _Base64 | None = None

    @model_validator(mode="after")
    def _one_value(self) -> "LetterHeader":
        _at_most_one(self.value, self.value_base64, "value")
        return self

    @property
    def raw(self) -> bytes | None:
        """Its bytes."""
        return _bytes(self.value, self.value_base64)


class LetterRecord(BaseModel):
    """Key, value and headers of a record: text where the bytes are UTF-8, else base64; both null where there is none.

    A value that is longer than any record may be is cut.
    """

    key: str | None
    key_base64: str | None
    value: str | None
    value_base64: str | None
    headers: list[LetterHeader]

    @classmethod
    def of(cls, key: bytes | None, value: bytes | None, headers: RawHeaders) -> "LetterRecord":
        """The record of these bytes."""
        (key_text, key_base64), (text, text_base64) = _shown(key), _shown(value)
        shown = [_header(name, raw) for name, raw in headers]
        return cls(key=key_text, key_base64=key_base64, value=text, value_base64=text_base64, headers=shown)


class DeadLetterResource(DeadLetterSummary, LetterRecord):
    """One letter. Key, value and headers are what a replay would send; ``original`` what came, where that is edited.

    ``obstacle``: why it cannot be replayed as it stands, null when it can.
    """

    original: LetterRecord | None
    obstacle: RequestError | None


class EditDeadLetter(BaseModel):
    """Body of ``PUT /v1/dead-letters/{id}``: what a replay sends from now on; what is not named stays as it is.

    Key and value as text or in base64, null for none; ``headers`` are all of them.
    """

    model_config = ConfigDict(extra="forbid")

    key: _Text | None = None
    key_base64: _Base64 | None = None
    value: _Text | None = None
    value_base64: _Base64 | None = None
    headers: Annotated[list[LetterHeader], Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "EditDeadLetter":
        _at_most_one(self.key, self.key_base64, "key")
        _at_most_one(self.value, self.value_base64, "value")
        return self

    @property
    def empty(self) -> bool:
        """True when it names nothing."""
        return not self.model_fields_set or (self.model_fields_set == {"headers"} and self.headers is None)

    def over(
        self, key: bytes | None, value: bytes | None, headers: RawHeaders
    ) -> tuple[bytes | None, bytes | None, RawHeaders]:
        """Key, value and headers after this edit of these."""
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
        raise ValueError(f"{name} and {name}_base64 are one thing: give one of them")
