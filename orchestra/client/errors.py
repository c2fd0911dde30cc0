"""Errors of the client: one class, and a subclass for each case that callers handle differently."""

import json
import math
from typing import Any, Self
from uuid import UUID

from schemas.errors import ERRORS, ErrorCode

# Of an error response without one of our codes, such as that of a proxy.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# Codes of problems that name a request which has not ended, or which is not that of the call.
_NOT_ENDED = frozenset({ErrorCode.STILL_RUNNING, ErrorCode.OUTCOME_UNKNOWN, ErrorCode.IDEMPOTENCY_KEY_REUSED})


class ClientError(Exception):
    """A call that failed.

    ``code``: one of ``docs/reference/errors.md``; None if it was no gateway that responded, or none did. ``status``: of
    the HTTP response, if there was one. ``detail``: what is wrong, in words. ``request_id``: the request that it is
    about, if one was or may have been accepted. ``retryable``: whether the same call can succeed later.
    ``retry_after``: seconds after which the gateway asked to be called again. ``idempotency_key``: the key of the call,
    with which it can be repeated without being done twice.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        status: int | None = None,
        request_id: UUID | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.status = status
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.idempotency_key = idempotency_key

    def __str__(self) -> str:
        return f"{self.detail} ({self.code})".strip() if self.code else self.detail

    @classmethod
    def by_code(cls, code: str, detail: str, request_id: UUID | None = None) -> Self:
        """The error with this code."""
        return cls(detail, code=code, request_id=request_id, retryable=_retryable(code))


class UnreachableError(ClientError):
    """No gateway could be reached for too long. If ``request_id`` is set, the request goes on all the same."""


class RequestFailedError(ClientError):
    """The request was accepted and ended without an answer. ``code``: why, or ``cancelled``, or ``expired``.

    To try again, send it as a new request: under the same key it stays the one that failed.
    """


class StillRunningError(ClientError, TimeoutError):
    """The time for waiting is over. The request goes on, and can be waited for again by ``request_id``."""


def error_of(status: int, reason: str, retry_after: str | None, body: bytes) -> ClientError:
    """The error that a response reports."""
    said = _json(body)
    code, request_id, detail = None, None, f"{status} {reason}".strip()
    if isinstance(said, dict) and isinstance(said.get("code"), str):
        code, request_id = str(said["code"]), _uuid(said)
        detail = str(said.get("detail") or said.get("title") or "").strip()
    kind = RequestFailedError if request_id and code not in _NOT_ENDED else ClientError
    return kind(
        detail,
        code=code,
        status=status,
        request_id=request_id,
        retryable=_retryable(code) if code in ERRORS else status in _PASSING,
        retry_after=_seconds(retry_after),
    )


def _retryable(code: str | None) -> bool:
    return code in ERRORS and ERRORS[ErrorCode(code)].retryable


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _uuid(said: dict[str, Any]) -> UUID | None:
    try:
        return UUID(said["request_id"])
    except (KeyError, ValueError, AttributeError, TypeError):
        return None


def _seconds(text: str | None) -> float | None:
    """The value of ``Retry-After`` in seconds; None for a date, which gateways do not send."""
    try:
        seconds = float(text) if text else None
    except ValueError:
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds >= 0 else None
