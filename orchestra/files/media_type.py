"""What kind of file this is, by its first bytes. What a client claims is never used."""

import codecs

import filetype

HEAD_BYTES = 8192
"""The first bytes that decide."""
_TEXT = "text/plain; charset=utf-8"
_UNKNOWN = "application/octet-stream"
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")


def media_type(head: bytes, *, whole: bool) -> str:
    """The media type of a file that begins with ``head``. ``whole``: that is all of it."""
    found = filetype.guess_mime(head)
    if found:
        return str(found)
    return _TEXT if _is_text(head, whole=whole) else _UNKNOWN


def _is_text(head: bytes, *, whole: bool) -> bool:
    try:
        # A character may be cut at the end of the head.
        codecs.getincrementaldecoder("utf-8")().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return _CONTROLS.isdisjoint(head)
