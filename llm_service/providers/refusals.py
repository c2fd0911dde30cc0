"""What a provider's refusals, broken connections and silences mean in our closed list of errors.

A provider's own words may repeat the prompt, so none of them is passed on.
"""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import orjson

from schemas.errors import ErrorCode, OrchestraError

_BY_STATUS = {
    400: ErrorCode.INVALID_REQUEST,
    401: ErrorCode.AUTH,
    402: ErrorCode.AUTH,
    403: ErrorCode.AUTH,
    404: ErrorCode.INVALID_REQUEST,
    408: ErrorCode.TIMEOUT,
    413: ErrorCode.INVALID_REQUEST,
    422: ErrorCode.INVALID_REQUEST,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.OVERLOADED,
    504: ErrorCode.TIMEOUT,
    529: ErrorCode.OVERLOADED,
}
# Parts of the `code`, `type` or `message` with which the known servers say the same in their own ways.
_REASONS = {
    "context_length": ErrorCode.CONTEXT_TOO_LONG,
    "context_size": ErrorCode.CONTEXT_TOO_LONG,
    "context length": ErrorCode.CONTEXT_TOO_LONG,
    "context size": ErrorCode.CONTEXT_TOO_LONG,
    "content_filter": ErrorCode.CONTENT_FILTER,
    "content_policy": ErrorCode.CONTENT_FILTER,
    "model_not_found": ErrorCode.UNKNOWN_MODEL,
    "prompt is too long": ErrorCode.CONTEXT_TOO_LONG,
    "input token count": ErrorCode.CONTEXT_TOO_LONG,
    "credit balance": ErrorCode.AUTH,
    "api key not valid": ErrorCode.AUTH,
}
# What a 404 says when it is the model that is missing: the last is how Anthropic says it.
_MODEL_MISSING = ("not found", "model:")
_KINDS = {
    "rate_limit": ErrorCode.RATE_LIMITED,
    "quota": ErrorCode.RATE_LIMITED,
    "overloaded": ErrorCode.OVERLOADED,
    "unavailable": ErrorCode.OVERLOADED,
    "timeout": ErrorCode.TIMEOUT,
    "authentication": ErrorCode.AUTH,
    "permission": ErrorCode.AUTH,
    "api_key": ErrorCode.AUTH,
    "invalid_request": ErrorCode.INVALID_REQUEST,
}
_LONGEST_RETRY_AFTER = 24 * 60 * 60.0


def refused(status: int, headers: Mapping[str, str], body: bytes) -> OrchestraError:
    """The error for an answer that is not 200."""
    code = _BY_STATUS.get(status, ErrorCode.BAD_UPSTREAM)
    if code is ErrorCode.INVALID_REQUEST:
        code = _reason(status, _error_of(body)) or code
    wait = retry_after(headers)
    if wait is None:
        wait = _told_wait(body)
    return OrchestraError(code, f"The model's provider answered with status {status}.", retry_after=wait)


def stated(error: object) -> OrchestraError:
    """The error for an error object inside a stream."""
    fields = error if isinstance(error, dict) else {"message": error}
    status = fields.get("code")
    code = _BY_STATUS.get(status) if isinstance(status, int) else _named(fields, _KINDS)
    code = _named(fields, _REASONS) or code or ErrorCode.BAD_UPSTREAM
    return OrchestraError(code, "The model's provider broke off with an error.")


def unreachable(error: Exception) -> OrchestraError:
    """The error for a connection that could not be made, broke or fell silent."""
    # httpx's transport calls a refused or dropped connection a timeout as well; only the cause tells them apart.
    if isinstance(error.__cause__ if isinstance(error, httpx.TimeoutException) else error, TimeoutError):
        return OrchestraError(ErrorCode.TIMEOUT, "The model's provider sent nothing in time.")
    return OrchestraError(ErrorCode.BAD_UPSTREAM, "The connection to the model's provider failed.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from ``retry-after-ms`` or ``Retry-After`` (seconds or an HTTP date); None when not told."""
    millis = _number(headers.get("retry-after-ms"))
    seconds = millis / 1000 if millis is not None else _number(headers.get("retry-after"))
    if seconds is None:
        seconds = _seconds_until(headers.get("retry-after", ""))
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


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


def _told_wait(body: bytes) -> float | None:
    """The wait that Gemini tells in the body: ``"retryDelay": "7s"`` in one of the details."""
    details = _error_of(body).get("details")
    for detail in details if isinstance(details, list) else []:
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        seconds = _number(delay.removesuffix("s")) if isinstance(delay, str) else None
        if seconds is not None:
            return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)
    return None


def _error_of(body: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = document.get("error", document) if isinstance(document, dict) else {}
    return error if isinstance(error, dict) else {"message": error}


def _reason(status: int, fields: Mapping[str, object]) -> ErrorCode | None:
    said = str(fields.get("message"))
    if status == 404 and any(part in said for part in _MODEL_MISSING):
        return ErrorCode.UNKNOWN_MODEL
    return _named(fields, _REASONS)


def _named(fields: Mapping[str, object], names: Mapping[str, ErrorCode]) -> ErrorCode | None:
    said = " ".join(str(fields.get(name, "")) for name in ("code", "type", "message")).lower()
    return next((code for part, code in names.items() if part in said), None)
