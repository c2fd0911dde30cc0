"""Errors → problem documents (RFC 9457). They never contain any of the input."""

import math

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from llm_service.tracing import request_id
from schemas.api.problems import MEDIA_TYPE, Problem
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import REQUEST_ID

# The client has left, so no one receives this answer; the number is the customary one in logs.
_CLIENT_GONE = 499
_BY_STATUS = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}


def install(app: FastAPI) -> None:
    """Register the handlers of all errors."""
    app.add_exception_handler(OrchestraError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_exception_handler(Exception, _on_bug)


def answer(error: OrchestraError, _scope: Scope) -> Response:
    """The problem document of an error without further handling."""
    return _answer(Problem.of(error.code, error.detail), {})


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OrchestraError)
    headers = {}
    if named := request_id(dict(request.scope["headers"])):
        headers[REQUEST_ID] = named
    if error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    if error.code is ErrorCode.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return _answer(Problem.of(error.code, error.detail), headers)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, ErrorCode.INTERNAL)
    return _answer(Problem.of(code, status=error.status_code), dict(error.headers or {}))


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _on_bug(_request: Request, _error: Exception) -> Response:
    return _answer(Problem.of(ErrorCode.INTERNAL), {})


def _answer(problem: Problem, headers: dict[str, str]) -> Response:
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, problem.status, headers, media_type=MEDIA_TYPE)
