"""A form with one file (``multipart/form-data``), read piece by piece: memory does not grow with the file."""

from collections.abc import AsyncIterator, Callable, Iterator

from fastapi import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from gateway.http.bodies import must_be_plain
from gateway.http.problems import UNREAD
from orchestra.files.home import MAX_CHUNK_BYTES
from orchestra.files.media_type import HEAD_BYTES, media_type
from schemas.api.files import Purpose
from schemas.content import storable, visible
from schemas.errors import ErrorCode, OrchestraError

MAX_FRAMING_BYTES = 64 * 1024
"""Limit of everything in the body except the bytes of the file."""
_MAX_PARTS = 8
_MAX_HEADER_BYTES = 8 * 1024
_MAX_HEADERS = 8
_MAX_NAME = 255
_FIELDS = "form: must have one `file` and one `purpose`, and nothing else"
_PURPOSE = f"purpose: must be one of {', '.join(Purpose)}"


class Upload:
    """The form of one call. ``purpose``, ``filename`` and ``media_type`` are known after ``chunks``.

    ``claimed_bytes``: at least how long the file claims to be.
    """

    def __init__(self, request: Request) -> None:
        """Raises ``UNSUPPORTED_MEDIA_TYPE``, and ``INVALID_REQUEST`` for a body that is no such form."""
        must_be_plain(request)
        kind, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not 1 <= len(boundary) <= 200 or not boundary.isascii():
            raise _invalid("Content-Type: must be multipart/form-data with a boundary")
        self._request = request
        self._parser = PushMultipartParser(
            boundary, max_segment_count=_MAX_PARTS, max_header_size=_MAX_HEADER_BYTES, max_header_count=_MAX_HEADERS
        )
        self.claimed_bytes = max(0, int(request.headers.get("content-length", 0)) - MAX_FRAMING_BYTES)
        self._fields: dict[str, bytearray] = {}
        self._part = ""
        self._size = 0
        self.filename = ""
        self._head = b""

    @property
    def media_type(self) -> str:
        """What the file is, by its first bytes."""
        return media_type(self._head, whole=self._size <= HEAD_BYTES)

    @property
    def purpose(self) -> Purpose:
        """What the file is for."""
        return Purpose(self._fields["purpose"].decode())

    async def chunks(self, allow: Callable[[int], None]) -> AsyncIterator[bytes]:
        """The file, in chunks of at most 1 MiB. At its end the whole form has been read, and is valid.

        ``allow`` is called with the length so far, and raises if it is too much. Raises ``INVALID_REQUEST`` and
        ``TOO_LARGE``.
        """
        waiting = bytearray()
        received = 0
        try:
            async for raw in self._request.stream():
                received += len(raw)
                for piece in self._file_pieces(raw):
                    waiting += piece
                    self._size += len(piece)
                    allow(self._size)
                if received - self._size > MAX_FRAMING_BYTES:
                    raise OrchestraError(ErrorCode.TOO_LARGE, "form: the parts beside the file are too long")
                while len(waiting) >= MAX_CHUNK_BYTES:
                    yield self._cut(waiting, MAX_CHUNK_BYTES)
            self._parser.close()
        except MultipartError:
            raise _invalid("form: is not valid multipart/form-data") from None
        self._request.scope[UNREAD] = False
        self._check()
        while waiting:
            yield self._cut(waiting, MAX_CHUNK_BYTES)

    def _cut(self, waiting: bytearray, length: int) -> bytes:
        chunk = bytes(waiting[:length])
        del waiting[:length]
        if len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        return chunk

    def _file_pieces(self, raw: bytes) -> Iterator[bytes | bytearray]:
        for found in self._parser.parse(raw):
            if isinstance(found, MultipartSegment):
                self._begin(found)
            elif found and self._part == "file":
                yield found
            elif found:
                self._fields[self._part] += found

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name
        if name in self._fields or name not in {"file", "purpose"}:
            raise _invalid(_FIELDS)
        self._part = name
        self._fields[name] = bytearray()
        if name == "file":
            self.filename = _file_name(segment.filename or "")

    def _check(self) -> None:
        if self._fields.keys() != {"file", "purpose"}:
            raise _invalid(_FIELDS)
        if not self._size:
            raise _invalid("file: is empty")
        try:
            _ = self.purpose
        except ValueError:
            raise _invalid(_PURPOSE) from None


def _file_name(text: str) -> str:
    """The name without folders. Raises ``INVALID_REQUEST``."""
    name = text.replace("\\", "/").rpartition("/")[2]
    try:
        if 1 <= len(name) <= _MAX_NAME:
            return visible(storable(name))
    except ValueError:
        pass
    raise _invalid(f"file: must have a file name of 1 to {_MAX_NAME} characters, without control characters")


def _invalid(detail: str) -> OrchestraError:
    return OrchestraError(ErrorCode.INVALID_REQUEST, detail)
