"""A provider's error responses, broken connections and timeouts as errors of our closed list."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
import httpx

from llm_service.providers.error_document import Said, from_body, from_document, longest_wait
from llm_service.providers.meanings import meaning
from schemas.errors import ErrorCode, OrchestraError

_MAX_CHARACTERS = 300
# The meaning of a status if the error document says no more.
_BY_STATUS = {
    **dict.fromkeys((400, 404, 405, 406, 410, 411, 413, 414, 415, 422, 431), ErrorCode.REFUSED_BY_PROVIDER),
    401: ErrorCode.AUTH,
    402: ErrorCode.QUOTA_EXHAUSTED,
    403: ErrorCode.AUTH,
    408: ErrorCode.TIMEOUT,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.TIMEOUT,
    529: ErrorCode.OVERLOADED,
}


class RefusalError(OrchestraError):
    """A provider's own error.

    ``provider_code`` is its name for it. ``words`` are its text, which may repeat the prompt: it is in no detail and no
    log unless a setting allows it.
    """

    def __init__(self, code: ErrorCode, what: str, said: Said, wait: float | None) -> None:
        super().__init__(code, f"{what}: {said.marks}." if said.marks else f"{what}.", retry_after=wait)
        self.provider_code = said.code
        self.words = " ".join(said.words)

    def tell_words(self) -> None:
        """Add the provider's words to the detail: at most 300 characters, without control characters."""
        words = "".join(each if each.isprintable() else " " for each in self.words[:_MAX_CHARACTERS]).strip()
        self.detail = f"{self.detail} {words}" if words else self.detail


def refused(status: int, headers: Mapping[str, str], body: bytes) -> RefusalError:
    """The error for a response that is not 200."""
    said = from_body(body)
    said.status = status
    code = meaning(said.names, said.words) or _BY_STATUS.get(status, ErrorCode.BAD_UPSTREAM)
    wait = retry_after(headers)
    what = f"The model's provider answered with status {status}"
    return RefusalError(code, what, said, said.wait if wait is None else wait)


def stated(error: object) -> RefusalError:
    """The error for an error document in a 200 response."""
    said = from_document(error)
    code = meaning(said.names, said.words) or _BY_STATUS.get(said.status or 0)
    if code is None:
        faulty = any("invalid" in name.lower() for name in said.names)
        code = ErrorCode.REFUSED_BY_PROVIDER if faulty else ErrorCode.BAD_UPSTREAM
    return RefusalError(code, "The model's provider stopped with an error", said, said.wait)


def understood(error: Exception, otherwise: ErrorCode) -> RefusalError:
    """The error for one that any-llm has recognized; ``otherwise`` is the meaning of its class."""
    fields = {name: getattr(error, name, None) for name in ("status_code", "code", "error_type", "param", "message")}
    said = from_document(fields)
    status = fields["status_code"]
    said.status = status if isinstance(status, int) else None
    wait = retry_after({"retry-after": str(getattr(error, "retry_after", None))})
    return RefusalError(
        meaning(said.names, said.words) or otherwise, "The model's provider refused the call", said, wait
    )


def unreachable(error: Exception) -> OrchestraError:
    """The error for a connection that could not be made, broke, or timed out."""
    # httpx's transport reports a refused or dropped connection as a timeout, too; only the cause distinguishes them.
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) else error
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return OrchestraError(ErrorCode.UNAVAILABLE, "The model's provider cannot be reached.")
    if isinstance(cause, TimeoutError):
        return OrchestraError(ErrorCode.TIMEOUT, "The model's provider sent nothing in time.")
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The connection to the model's provider failed.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date); None if absent."""
    millis = _number(headers.get("retry-after-ms"))
    seconds = millis / 1000 if millis is not None else _number(headers.get("retry-after"))
    if seconds is None:
        seconds = _seconds_until(headers.get("retry-after", ""))
    return None if seconds is None else longest_wait(seconds)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(date: str) -> float | None:
    try:
        when = parsedate_to_datetime(date)
        return (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
