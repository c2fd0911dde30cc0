"""Errors in the form of OpenAI's API, by the path of the call: body, status, and whether a client should retry.

OpenAI's clients retry 408, 409, 429 and every 5xx on their own, and some ignore `x-should-retry`. After a request was
accepted, its work goes on; a retry would do it twice. From then on none of these statuses is used.
"""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import orjson

from gateway.http import openapi
from gateway.http.problems import RequestProblemError, Told
from gateway.openai import ids
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.errors import ERRORS, ErrorCode, OrchestraError
from schemas.openai.errors import ErrorBody

_BAD_REQUEST, _NOT_FOUND, _FAILED = HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.FAILED_DEPENDENCY
_INVALID, _SERVER = "invalid_request_error", "server_error"
_LIMIT, _DEPENDENCY = "rate_limit_error", "failed_dependency"
# Where a detail names the field that is wrong: "messages.0.content: must be ...".
_FIELD = re.compile(r"([a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*): ")


class _Kind(NamedTuple):
    """``status`` None: that of our own API. ``code`` None: our own code."""

    status: int | None = None
    code: str | None = None
    param: str | None = None


# Faults of what was sent, before or after it was accepted.
_OF_THE_REQUEST: dict[ErrorCode, _Kind] = {
    ErrorCode.NOT_JSON: _Kind(_BAD_REQUEST),
    ErrorCode.INVALID_REQUEST: _Kind(_BAD_REQUEST, "invalid_value"),
    ErrorCode.NOT_SUPPORTED: _Kind(_BAD_REQUEST, "unsupported_parameter"),
    ErrorCode.UNSUPPORTED_PART: _Kind(_BAD_REQUEST, "unsupported_value"),
    ErrorCode.UNSUPPORTED_OPTION: _Kind(_BAD_REQUEST, "unsupported_value"),
    ErrorCode.TOOL_RESULTS_MISSING: _Kind(_BAD_REQUEST, param="messages"),
    ErrorCode.UNKNOWN_MODEL: _Kind(_NOT_FOUND, "model_not_found", "model"),
    ErrorCode.UNKNOWN_AGENT: _Kind(_NOT_FOUND, "model_not_found", "model"),
    ErrorCode.CONTEXT_TOO_LONG: _Kind(_BAD_REQUEST, "context_length_exceeded"),
    ErrorCode.CONTENT_FILTER: _Kind(_BAD_REQUEST),
    ErrorCode.REFUSED_BY_DATABASE: _Kind(_BAD_REQUEST),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: _Kind(_BAD_REQUEST),
    ErrorCode.CONVERSATION_BUSY: _Kind(_BAD_REQUEST),
    ErrorCode.OWNER_ERASED: _Kind(_BAD_REQUEST),
    ErrorCode.CONVERSATION_DELETED: _Kind(_NOT_FOUND),
    ErrorCode.NOT_FOUND: _Kind(_NOT_FOUND),
    ErrorCode.FILE_NOT_FOUND: _Kind(_NOT_FOUND),
    ErrorCode.FILE_TOO_LARGE: _Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    ErrorCode.UNAUTHORIZED: _Kind(code="invalid_api_key"),
    ErrorCode.FORBIDDEN: _Kind(),
    ErrorCode.CROSS_ORIGIN: _Kind(),
}
# Paths of OpenAI's API, with and without the version that its clients include in the base URL. An id may be any text.
_OPENAIS = re.compile(
    r"/openai(/.*)?|/files(/.*)?|(/v1)?/(assistants|audio|batches|chat|completions|embeddings|evals|fine_tuning|images|models|"
    r"moderations|realtime|responses|threads|uploads|vector_stores|videos)(/.*)?",
    re.DOTALL,
)
_FILES = re.compile(r"/v1/files(/.*)?", re.DOTALL)
# Calls of our own API at paths that are OpenAI's otherwise.
_OURS = re.compile(r"/v1/models/.+/(pause|resume)", re.DOTALL)
_RESPONSES = re.compile(r"(/openai)?/v1/responses")
# Calls that are not offered at paths that other methods have, or that look like the id of a response.
_WITH_ANOTHER_METHOD = re.compile(r"(/openai)?/v1/(chat/completions|responses|responses/(compact|input_tokens))")
_AFTER_ACCEPTANCE = frozenset({ErrorCode.STILL_RUNNING, ErrorCode.EXPIRED, ErrorCode.CANCELLED})
_NOT_OFFERED = (
    "this call of OpenAI's API is not offered here; with the base URL http://HOST/openai/v1 it has chat/completions, "
    "responses, conversations, models and files"
)
_RATE_LIMIT = "rate_limit_exceeded"


# What a field of a record is called in a call of the Responses API.
OF_RESPONSES = {
    "agent": "model", "messages": "input", "max_tokens": "max_output_tokens", "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}  # fmt: skip


class DoorError(OrchestraError):
    """An error with what only OpenAI's form of it has: its ``code`` there, the ``param`` it is about, its status."""

    def __init__(
        self,
        said: str,
        detail: str,
        *,
        param: str | None = None,
        status: int = _BAD_REQUEST,
        code: ErrorCode = ErrorCode.INVALID_REQUEST,
    ) -> None:
        super().__init__(code, detail)
        self.said = said
        self.param = param
        self.status = status


class ErrorShape(NamedTuple):
    """An error in OpenAI's form. ``retry``: the value of `x-should-retry`; None: the status says it."""

    status: int
    body: dict[str, dict[str, str | None]]
    retry: bool | None


def shape(error: OrchestraError, kind_of_id: ids.Kind = "chatcmpl-") -> ErrorShape:
    """The error in OpenAI's form. ``kind_of_id``: how it spells the id of its request."""
    accepted = isinstance(error, RequestProblemError)
    kind = _OF_THE_REQUEST.get(error.code)
    status, code, param = kind or _Kind()
    retry = None
    if isinstance(error, DoorError):
        status, code, param = error.status, error.said, error.param
    elif kind is None and accepted:
        status, retry = _FAILED, False
    if error.code is ErrorCode.INTERNAL:
        retry = False  # It may have been accepted.
    status = status or Problem.of(error.code).status
    if kind_of_id == "resp_" and not isinstance(error, DoorError):
        param, detail = OF_RESPONSES.get(param or "", param), in_responses(error.detail)
    else:
        detail = error.detail
    field = _FIELD.match(detail)
    value = {
        "message": _message(error, detail, kind_of_id),
        "type": _type(status),
        "param": param or (_spelled(field[1]) if field and kind else None),
        "code": code or (_RATE_LIMIT if status == HTTPStatus.TOO_MANY_REQUESTS else error.code.value),
    }
    return ErrorShape(status, {"error": value}, False if accepted else retry)


class OpenAIErrors:
    """The form of errors by path, for `gateway.http.problems`."""

    def missing(self, path: str) -> str:
        """The detail of the error about a path that no route has; empty: there is no more to say."""
        return _NOT_OFFERED if _OPENAIS.fullmatch(path) or _FILES.fullmatch(path) else ""

    def exists(self, path: str) -> bool:
        """False for a path of OpenAI's API that is not offered, though a route with another method matches it."""
        return not _WITH_ANOTHER_METHOD.fullmatch(path)

    def documented(self, path: str, codes: Sequence[ErrorCode]) -> openapi.Responses | None:
        """What a route of this path may answer besides its answer."""
        if not _is_openais(path):
            return None
        found: openapi.Responses = {}
        for code in codes:
            status = _FAILED if code in _AFTER_ACCEPTANCE else shape(OrchestraError(code)).status
            _document(found, status, code)
            if code is ErrorCode.OUTCOME_UNKNOWN:
                _document(found, _FAILED, code)
        return found

    def told(self, path: str, error: OrchestraError, problem: Problem) -> Told | None:
        """The answer to a call of this path; None: the problem document. Files, which are ours too, get both in one."""
        both = _FILES.fullmatch(path)
        if not both and not _is_openais(path):
            return None
        status, body, retry = shape(error, "resp_" if _RESPONSES.match(path) else "chatcmpl-")
        headers = {} if retry is None else {"x-should-retry": "true" if retry else "false"}
        if both:
            whole = {**problem.model_dump(mode="json", exclude_none=True), **body}
            return Told(problem.status, orjson.dumps(whole), MEDIA_TYPE, headers)
        return Told(status, orjson.dumps(body), "application/json", headers)


def _is_openais(path: str) -> bool:
    return bool(_OPENAIS.fullmatch(path)) and not _OURS.fullmatch(path)


def _document(found: openapi.Responses, status: int, code: ErrorCode) -> None:
    entry = found.setdefault(int(status), {"description": "", "model": ErrorBody})
    entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {ERRORS[code].title}"


def _type(status: int) -> str:
    match status:
        case HTTPStatus.TOO_MANY_REQUESTS:
            return _LIMIT
        case HTTPStatus.FAILED_DEPENDENCY:
            return _DEPENDENCY
    return _SERVER if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _INVALID


def in_responses(detail: str) -> str:
    """The detail of a fault of a request, with the name that the field has in the Responses API.

    Which of the input's items it is cannot be said: they and the messages of a record are not the same in number.
    """
    if not (field := _FIELD.match(detail)):
        return detail
    first = field[1].partition(".")[0]
    return f"{OF_RESPONSES[first]}{detail[field.end(1) :]}" if first in OF_RESPONSES else detail


def _message(error: OrchestraError, detail: str, kind_of_id: ids.Kind) -> str:
    if isinstance(error, RequestProblemError) and error.request_id:
        return f"{detail} (request {ids.spell(kind_of_id, error.request_id)})"
    return detail


def _spelled(place: str) -> str:
    """The place of a field as OpenAI writes it: ``messages[0].content``."""
    return re.sub(r"\.([0-9]+)(?=\.|$)", r"[\1]", place)
