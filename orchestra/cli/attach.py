"""Files that go with a message, as the parts of its content."""

import base64
import codecs
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# A gateway reads no more.
MAX_BODY_BYTES = 1024 * 1024
# For what a message gets on its way: that it is to be streamed.
_SPARE_BYTES = 64
_ROOM_FOR_TEXT = 64 * 1024
_IMAGES = {".gif": "gif", ".jpeg": "jpeg", ".jpg": "jpeg", ".png": "png", ".webp": "webp"}
_AUDIO = frozenset({".mp3", ".wav"})

Part = dict[str, Any]
_TOO_LARGE = "the message and its files are too large: at most 1 MiB as JSON, in which media take a third more"


class UnusableFileError(Exception):
    """A file that cannot go with a message, and why."""


def attach_all(paths: Sequence[Path], upload: Callable[[Path], str | None]) -> list[Part]:
    """Files as parts of one message. ``upload`` stores a file that is too large for the message, and returns its id.

    It returns None if the gateway keeps no files. Raises ``UnusableFileError``.
    """
    room = MAX_BODY_BYTES - _ROOM_FOR_TEXT
    parts: list[Part] = []
    for path in paths:
        part = attach(path)
        size = len(json.dumps(part, ensure_ascii=False).encode())
        if part is None or size > room:
            part = _by_id(path, upload) or part
        else:
            room -= size
        if part is None:
            raise UnusableFileError(f"{path}: {_TOO_LARGE}")
        parts.append(part)
    return parts


def attach(path: Path) -> Part | None:
    """A file as a part: an image, a recording (WAV, MP3), a PDF, or text in UTF-8. None if it is larger than 1 MiB.

    Raises ``UnusableFileError``.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BODY_BYTES + 1)
    except OSError as error:
        raise UnusableFileError(f"{path}: {error.strerror}") from None
    whole = len(data) <= MAX_BODY_BYTES
    suffix = path.suffix.lower()
    if suffix not in {*_IMAGES, *_AUDIO, ".pdf"}:
        text = _text(path, data, whole=whole)
        return {"type": "text", "text": text} if whole else None
    if not whole:
        return None
    encoded = base64.b64encode(data).decode()
    if suffix in _IMAGES:
        return {"type": "image_url", "image_url": {"url": f"data:image/{_IMAGES[suffix]};base64,{encoded}"}}
    if suffix in _AUDIO:
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": suffix[1:]}}
    return {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{encoded}", "filename": path.name}}


def _by_id(path: Path, upload: Callable[[Path], str | None]) -> Part | None:
    suffix = path.suffix.lower()
    # No part names a recording by its id.
    id = None if suffix in _AUDIO else upload(path)
    kind = "image_url" if suffix in _IMAGES else "file"
    return {"type": kind, kind: {"file_id": id}} if id else None


def _text(path: Path, data: bytes, *, whole: bool) -> str:
    try:
        # A character may be cut at the end of what was read.
        return codecs.getincrementaldecoder("utf-8")().decode(data, final=whole)
    except UnicodeDecodeError:
        known = "an image (GIF, JPEG, PNG, WebP), a recording (MP3, WAV), a PDF or text in UTF-8"
        raise UnusableFileError(f"{path}: is not {known}") from None


def with_files(body: dict[str, Any], files: Sequence[Part]) -> dict[str, Any]:
    """A body of one message, with these parts before its text. Raises ``UnusableFileError`` if it is too large."""
    (message,) = body["messages"]
    parts = [*files, {"type": "text", "text": message["content"]}]
    larger = {**body, "messages": [{**message, "content": parts}]}
    if len(json.dumps(larger, ensure_ascii=False).encode()) > MAX_BODY_BYTES - _SPARE_BYTES:
        raise UnusableFileError(_TOO_LARGE)
    return larger
