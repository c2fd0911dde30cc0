"""Headers that link a call to its request, for the logs, and to its trace, for the provider."""

import re
from collections.abc import Mapping

from schemas.envelope import TRACEPARENT, TRACEPARENT_FORM
from schemas.generation import REQUEST_ID

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_TRACEPARENT = re.compile(TRACEPARENT_FORM.pattern.encode())
_REQUEST_ID_NAME, _TRACEPARENT_NAME = REQUEST_ID.encode(), TRACEPARENT.encode()


def request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The caller's id of the request: a UUID or another short token. None for anything else."""
    named = headers.get(_REQUEST_ID_NAME, b"")
    return named.decode() if _REQUEST_ID.fullmatch(named) else None


def traceparent(headers: Mapping[bytes, bytes]) -> str | None:
    """The caller's trace context; None if it has none, or an invalid one."""
    trace = headers.get(_TRACEPARENT_NAME, b"")
    return trace.decode() if _TRACEPARENT.fullmatch(trace) else None
