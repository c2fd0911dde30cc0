"""Errors → problem documents (RFC 9457), or another form by path. They never contain any of the input."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gateway.http import openapi
from gateway.metrics import Metrics
from orchestra.http.hot_routes import CALL_ID, new_call_id
from orchestra.store.database import DatabaseUnavailableError, DataRefusedError
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.errors import ErrorCode, OrchestraError
from schemas.invalid import wording

# The client has left, so no one receives this answer; the number is the customary one in logs.
_CLIENT_GONE = 499
_RETRY_AFTER_SECONDS = 2.0
_RETRIED = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 64 * 1024 * 1024
# Key of the scope of a call whose handler reads the body itself: true until it has been read to its end.
UNREAD = "orchestra.unread"
# Raised before the body was read to its end.
_UNREAD = frozenset({ErrorCode.TOO_LARGE, ErrorCode.UNSUPPORTED_MEDIA_TYPE})
_BY_STATUS = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED, 413: ErrorCode.TOO_LARGE}
log = structlog.get_logger()


class Told(NamedTuple):
    """An error as one call is answered."""

    status: int
    body: str | bytes
    media_type: str
    headers: Mapping[str, str]


class ErrorForm(Protocol):
    """The form that errors have on some paths instead of a problem document."""

    def missing(self, path: str) -> str:
        """The detail of the error about a path that no route has; empty: its title."""

    def exists(self, path: str) -> bool:
        """False if a path that a route matches is not offered all the same."""

    def told(self, path: str, error: OrchestraError, problem: Problem) -> Told | None:
        """The answer to a call of this path; None: the problem document."""

    def documented(self, path: str, codes: Sequence[ErrorCode]) -> openapi.Responses | None:
        """What a route with these errors may answer; None: problem documents."""


class RequestProblemError(OrchestraError):
    """An error about a request whose id the caller may see. ``status`` overrides the code's usual HTTP status."""

    def __init__(
        self,
        code: ErrorCode,
        detail: str = "",
        *,
        request_id: UUID,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, detail, retry_after=retry_after)
        self.request_id = request_id
        self.status = status


class LingeringResponse(Response):
    """A response that is sent before the request's body was read to its end.

    A client cut off while sending may never read the response, so the rest of its body is drained for a while.
    """

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then keep reading the body for a while."""
        headers = [*self.raw_headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                more = True
                while more and left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


class Problems:
    """Turns every error of the app into a problem document, or into the form that its path has, and counts it."""

    def __init__(self, metrics: Metrics, form: ErrorForm | None = None) -> None:
        self._metrics = metrics
        self._form = form

    def install(self, app: FastAPI) -> None:
        """Register the handlers of all errors."""
        app.add_exception_handler(OrchestraError, self._on_error)
        app.add_exception_handler(HTTPException, self._on_http_exception)
        app.add_exception_handler(RequestValidationError, self._on_bad_parameters)
        app.add_exception_handler(DatabaseUnavailableError, self._on_database_away)
        app.add_exception_handler(DataRefusedError, self._on_refused_data)
        app.add_exception_handler(ClientDisconnect, self._on_client_gone)
        app.add_exception_handler(Exception, self._on_bug)

    def answer(self, error: OrchestraError, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
        """The answer to a call that ended with this error."""
        request_id, status = (
            (error.request_id, error.status) if isinstance(error, RequestProblemError) else (None, None)
        )
        problem = Problem.of(error.code, error.detail, status=status, request_id=request_id)
        self._metrics.problems.labels(error.code).inc()
        told = self._form.told(scope["path"], error, problem) if self._form else None
        if told is None:
            told = Told(problem.status, problem.model_dump_json(exclude_none=True), MEDIA_TYPE, {})
        headers = {**told.headers, **(headers or {})}
        if request_id is not None:
            headers["Location"] = f"/v1/requests/{request_id}"
            headers[CALL_ID] = f"req_{request_id.hex}"
        if told.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        if error.code is ErrorCode.UNSUPPORTED_MEDIA_TYPE:
            headers["Accept-Encoding"] = "identity"  # RFC 9110, 12.5.3: what would be accepted.
        retry_after = error.retry_after
        if retry_after is None and told.status in _RETRIED:
            retry_after = _RETRY_AFTER_SECONDS
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(retry_after)))
        # The client may still be sending the body.
        unread = scope.get(UNREAD, False) or error.code in _UNREAD
        return (LingeringResponse if unread else Response)(told.body, told.status, headers, media_type=told.media_type)

    async def _on_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, OrchestraError)
        return self.answer(error, request.scope)

    async def _on_http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _BY_STATUS.get(
            error.status_code, ErrorCode.INVALID_REQUEST if error.status_code < 500 else ErrorCode.INTERNAL
        )
        headers, detail = dict(error.headers or {}), ""
        if code is ErrorCode.METHOD_NOT_ALLOWED and self._form and not self._form.exists(request.scope["path"]):
            code = ErrorCode.NOT_FOUND
        if code is ErrorCode.NOT_FOUND and self._form:
            detail = self._form.missing(request.scope["path"])
        if code is ErrorCode.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
        return self.answer(OrchestraError(code, detail), request.scope, headers)

    async def _on_bad_parameters(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        lines = [_bad_parameter(problem) for problem in error.errors()[:5]]
        return self.answer(OrchestraError(ErrorCode.INVALID_REQUEST, "; ".join(lines)), request.scope)

    async def _on_database_away(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, DatabaseUnavailableError)
        return self.answer(OrchestraError(ErrorCode.UNAVAILABLE, error.told), request.scope)

    async def _on_refused_data(self, request: Request, _error: Exception) -> Response:
        return self.answer(OrchestraError(ErrorCode.REFUSED_BY_DATABASE), request.scope)

    async def _on_client_gone(self, _request: Request, _error: Exception) -> Response:
        return Response(status_code=_CLIENT_GONE)

    async def _on_bug(self, request: Request, error: Exception) -> Response:
        route = request.scope.get("route")
        call_id = new_call_id()  # So that a client's report leads to this line.
        log.error("unexpected_error", route=getattr(route, "path", None), request_id=call_id, exc_info=error)
        return self.answer(OrchestraError(ErrorCode.INTERNAL), request.scope, {CALL_ID: call_id})


def _bad_parameter(problem: Any) -> str:
    """The problem with a parameter: its name, if it is one of ours, and a message with its limits."""
    if problem["type"] == "extra_forbidden":
        return "query: unknown parameter"
    name = next(part for part in reversed(problem["loc"]) if isinstance(part, str))  # Of a list, also a number.
    return f"{name}: {wording(problem)}"


def _methods(request: Request) -> list[str]:
    """The methods of a path. Each method is a separate route, and Starlette lists only those of the first."""
    path = request.scope["route"].path
    return sorted(
        {name for each in iter_route_contexts(request.app.routes) if each.path == path for name in each.methods or ()}
    )
