"""The part of a file that a client wants (``Range``, RFC 9110, 14.2)."""

import re

from fastapi import Request

# One range. Everything else is ignored, as the RFC allows: then the whole file is sent.
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def read_range(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """The wanted part, from its first byte to before its last. None: the whole file.

    ``If-Range`` with another version's ``etag`` asks for the whole file.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(0, size - int(last or 0)), size
    return (start, stop) if start < stop else None
