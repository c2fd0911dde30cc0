"""Every error that a client, a producer or an operator can encounter: one closed list."""

from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple


class ErrorKind(NamedTuple):
    """The HTTP status of an error, and whether a retry can help."""

    status: int
    retryable: bool
    title: str


class ErrorCode(StrEnum):
    """Stable names: the ``code`` of a problem document and of a failed request, and the reason of a dead letter."""

    # Faults of what was sent.
    NOT_JSON = "not_json"
    INVALID_REQUEST = "invalid_request"
    NOT_SUPPORTED = "not_supported"
    UNSUPPORTED_PART = "unsupported_part"
    UNSUPPORTED_OPTION = "unsupported_option"
    TOOL_RESULTS_MISSING = "tool_results_missing"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNKNOWN_MODEL = "unknown_model"
    UNKNOWN_AGENT = "unknown_agent"
    MISSING_HEADER = "missing_header"
    NOTHING_TO_CHANGE = "nothing_to_change"
    USERNAME_TAKEN = "username_taken"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    NOT_RETRYABLE = "not_retryable"
    NOT_CHANGEABLE = "not_changeable"
    NOT_REPLAYABLE = "not_replayable"
    TOO_LARGE = "too_large"
    MALFORMED_HTTP = "malformed_http"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_SLOW = "too_slow"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    NOT_FOUND = "not_found"
    FILE_NOT_FOUND = "file_not_found"
    FILE_TOO_LARGE = "file_too_large"
    QUOTA_EXCEEDED = "quota_exceeded"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    CROSS_ORIGIN = "cross_origin"
    SIGN_IN_AGAIN = "sign_in_again"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CONVERSATION_FULL = "conversation_full"
    TOO_MANY_OPEN = "too_many_open"
    TOO_MANY_PARKED = "too_many_parked"
    TOO_MANY_STREAMS = "too_many_streams"
    TOO_MANY_CALLS = "too_many_calls"
    STORAGE_FULL = "storage_full"
    CONVERSATION_DELETED = "conversation_deleted"
    CONVERSATION_BUSY = "conversation_busy"
    OWNER_ERASED = "owner_erased"
    CONVERSATION_TOO_LARGE = "conversation_too_large"
    CONTEXT_TOO_LONG = "context_too_long"
    # How a request ended, or that it has not.
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    STILL_RUNNING = "still_running"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal"
    # Faults of the gateway.
    OUTCOME_UNKNOWN = "outcome_unknown"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    # Faults of the model's side. With overloaded, unavailable, invalid_request, unknown_model and context_too_long from
    # above they are the closed list between LLM service and workers (`schemas.generation`).
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    AUTH = "auth"
    CONTENT_FILTER = "content_filter"
    BAD_UPSTREAM = "bad_upstream"
    EMPTY_REPLY = "empty_reply"
    QUOTA_EXHAUSTED = "quota_exhausted"
    REFUSED_BY_PROVIDER = "refused_by_provider"
    # Faults that the worker found in the model's answer.
    ANSWER_MISMATCH = "answer_mismatch"
    # Why a record became a dead letter.
    TOMBSTONE = "tombstone"
    BAD_HEADER = "bad_header"
    UNKNOWN_TYPE = "unknown_type"
    BAD_SIGNATURE = "bad_signature"
    UNSIGNED = "unsigned"
    REFUSED_BY_DATABASE = "refused_by_database"


ERRORS: dict[ErrorCode, ErrorKind] = {
    ErrorCode.NOT_JSON: ErrorKind(400, False, "The body is not JSON"),
    ErrorCode.INVALID_REQUEST: ErrorKind(422, False, "The request is invalid"),
    ErrorCode.NOT_SUPPORTED: ErrorKind(422, False, "The request uses a feature that is not supported"),
    ErrorCode.UNSUPPORTED_PART: ErrorKind(422, False, "A part of a message is not supported"),
    ErrorCode.UNSUPPORTED_OPTION: ErrorKind(422, False, "An option is not supported"),
    ErrorCode.TOOL_RESULTS_MISSING: ErrorKind(422, False, "Results of tool calls are missing"),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorKind(415, False, "The body's encoding is not supported"),
    ErrorCode.UNKNOWN_MODEL: ErrorKind(422, False, "No model has this name"),
    ErrorCode.UNKNOWN_AGENT: ErrorKind(422, False, "No agent has this name"),
    ErrorCode.MISSING_HEADER: ErrorKind(400, False, "A required header is missing"),
    ErrorCode.NOTHING_TO_CHANGE: ErrorKind(400, False, "The body changes nothing"),
    ErrorCode.USERNAME_TAKEN: ErrorKind(409, False, "This username is taken"),
    ErrorCode.TOO_MANY_ATTEMPTS: ErrorKind(429, True, "Too many failed sign-in attempts"),
    ErrorCode.NOT_RETRYABLE: ErrorKind(409, False, "Only a failed, expired or cancelled request can be retried"),
    ErrorCode.NOT_CHANGEABLE: ErrorKind(409, False, "Only a request that no worker runs yet can be changed"),
    ErrorCode.NOT_REPLAYABLE: ErrorKind(409, False, "The dead letter cannot be replayed as it is"),
    ErrorCode.TOO_LARGE: ErrorKind(413, False, "The body is too large"),
    ErrorCode.MALFORMED_HTTP: ErrorKind(400, False, "The request is not valid HTTP/1.1"),
    ErrorCode.HEAD_TOO_LARGE: ErrorKind(431, False, "The request's URL, headers or trailers are too large"),
    ErrorCode.TOO_SLOW: ErrorKind(408, True, "The request did not arrive in time"),
    ErrorCode.TOO_MANY_CONNECTIONS: ErrorKind(
        429, True, "Too many connections from this address have not sent a complete request"
    ),
    ErrorCode.NOT_FOUND: ErrorKind(404, False, "Not found"),
    ErrorCode.FILE_NOT_FOUND: ErrorKind(404, False, "No file has this id"),
    ErrorCode.FILE_TOO_LARGE: ErrorKind(413, False, "The file is too large"),
    ErrorCode.QUOTA_EXCEEDED: ErrorKind(403, False, "The owner's files would exceed their storage limit"),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorKind(405, False, "Method not allowed"),
    ErrorCode.UNAUTHORIZED: ErrorKind(401, False, "Credentials are missing or wrong"),
    ErrorCode.FORBIDDEN: ErrorKind(403, False, "Not allowed"),
    ErrorCode.CROSS_ORIGIN: ErrorKind(403, False, "A session is accepted only from the gateway's own pages"),
    ErrorCode.SIGN_IN_AGAIN: ErrorKind(403, False, "This action requires a recent sign-in"),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorKind(
        422, False, "This Idempotency-Key was already used with a different body"
    ),
    ErrorCode.CONVERSATION_FULL: ErrorKind(429, True, "The conversation has too many open turns"),
    ErrorCode.TOO_MANY_OPEN: ErrorKind(429, True, "The caller or their tenant has too many open requests"),
    ErrorCode.TOO_MANY_PARKED: ErrorKind(429, True, "The caller or their tenant has too many delayed requests"),
    ErrorCode.TOO_MANY_STREAMS: ErrorKind(429, True, "The caller has too many open streams"),
    ErrorCode.TOO_MANY_CALLS: ErrorKind(429, True, "The caller has too many calls in progress"),
    ErrorCode.STORAGE_FULL: ErrorKind(429, True, "The caller or their tenant has too much data stored"),
    ErrorCode.CONVERSATION_DELETED: ErrorKind(404, False, "The conversation was deleted"),
    ErrorCode.CONVERSATION_BUSY: ErrorKind(409, True, "The conversation has a request that has not ended"),
    ErrorCode.OWNER_ERASED: ErrorKind(409, False, "Everything that the owner has is being deleted"),
    ErrorCode.CONVERSATION_TOO_LARGE: ErrorKind(413, False, "The conversation is too large to be copied"),
    ErrorCode.CONTEXT_TOO_LONG: ErrorKind(422, False, "The messages exceed the model's context"),
    ErrorCode.CANCELLED: ErrorKind(409, False, "The request was cancelled"),
    ErrorCode.EXPIRED: ErrorKind(504, True, "The request was not answered before its deadline"),
    ErrorCode.STILL_RUNNING: ErrorKind(504, True, "The request is still being answered"),
    ErrorCode.WORKER_LOST: ErrorKind(502, True, "Every worker that took the request was lost"),
    ErrorCode.INTERNAL: ErrorKind(500, True, "Internal error"),
    ErrorCode.OUTCOME_UNKNOWN: ErrorKind(503, True, "It is not known whether the request was accepted"),
    ErrorCode.OVERLOADED: ErrorKind(503, True, "Too busy to accept more work"),
    ErrorCode.UNAVAILABLE: ErrorKind(503, True, "A required service is unavailable"),
    ErrorCode.RATE_LIMITED: ErrorKind(429, True, "The model's provider limited the rate of calls"),
    ErrorCode.TIMEOUT: ErrorKind(504, True, "The model did not answer in time"),
    ErrorCode.AUTH: ErrorKind(502, True, "The model's provider rejected our credentials"),
    ErrorCode.CONTENT_FILTER: ErrorKind(422, False, "The model's provider filtered the content"),
    ErrorCode.BAD_UPSTREAM: ErrorKind(502, True, "The model's provider returned an invalid response or none"),
    ErrorCode.EMPTY_REPLY: ErrorKind(502, True, "The model's answer is empty"),
    ErrorCode.QUOTA_EXHAUSTED: ErrorKind(502, True, "The quota at the model's provider is exhausted"),
    ErrorCode.REFUSED_BY_PROVIDER: ErrorKind(502, False, "The model's provider rejected the request"),
    ErrorCode.ANSWER_MISMATCH: ErrorKind(502, True, "The model's answer does not match the agent's schema"),
    ErrorCode.TOMBSTONE: ErrorKind(422, False, "The record has no value"),
    ErrorCode.BAD_HEADER: ErrorKind(422, False, "A record header is invalid"),
    ErrorCode.UNKNOWN_TYPE: ErrorKind(422, False, "The record's type is unknown"),
    ErrorCode.BAD_SIGNATURE: ErrorKind(403, False, "The record's signature is invalid"),
    ErrorCode.UNSIGNED: ErrorKind(403, False, "The record is not signed"),
    ErrorCode.REFUSED_BY_DATABASE: ErrorKind(422, False, "The database rejected the data"),
}


# The client's own fault, though only a worker could detect it, or how the request ended. All else is the model's side.
_ENDS_AS_IT_IS = frozenset(
    {
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_MODEL,
        ErrorCode.UNKNOWN_AGENT,
        ErrorCode.CONTEXT_TOO_LONG,
        ErrorCode.UNSUPPORTED_PART,
        ErrorCode.UNSUPPORTED_OPTION,
        ErrorCode.TOOL_RESULTS_MISSING,
        ErrorCode.NOT_FOUND,
        ErrorCode.FILE_NOT_FOUND,
        ErrorCode.FILE_TOO_LARGE,
        ErrorCode.CONVERSATION_BUSY,
        ErrorCode.CONVERSATION_DELETED,
        ErrorCode.OWNER_ERASED,
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        ErrorCode.CANCELLED,
        ErrorCode.EXPIRED,
    }
)


def ending_status(code: ErrorCode) -> int:
    """HTTP status of a POST that waited for its reply, if the request was accepted and then ended with this error.

    502 unless it is the client's own error, as clients of the v0 API expect.
    """
    return ERRORS[code].status if code in _ENDS_AS_IT_IS else HTTPStatus.BAD_GATEWAY


class OrchestraError(Exception):
    """An error with a code from the closed list. ``detail`` never repeats what was sent."""

    def __init__(self, code: ErrorCode, detail: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(detail or ERRORS[code].title)
        self.code = code
        self.detail = detail or ERRORS[code].title
        self.retry_after = retry_after
