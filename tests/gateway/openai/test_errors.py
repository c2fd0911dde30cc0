"""Promises of gateway/openai/errors.py."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from gateway.http.problems import Problems, RequestProblemError
from gateway.metrics import Metrics
from gateway.openai.errors import DoorError, OpenAIErrors, shape
from orchestra.store.database import DatabaseUnavailableError
from schemas.errors import ERRORS, ErrorCode, OrchestraError

ID = uuid4()
# What OpenAI's clients retry on their own.
RETRIED = {408, 409, 429, *range(500, 600)}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """An app whose routes raise the error that their path ends with; with ``accepted-`` it comes after acceptance."""
    app = FastAPI()
    Problems(Metrics(), OpenAIErrors()).install(app)

    async def fail(name: str) -> None:
        match name:
            case "database":
                raise DatabaseUnavailableError("canary")
            case "bug":
                raise ZeroDivisionError("canary")
            case "door":
                raise DoorError("unsupported_parameter", "n: more than 1 is not offered", param="n")
        code = ErrorCode(name.removeprefix("accepted-"))
        raise RequestProblemError(code, request_id=ID) if name.startswith("accepted-") else OrchestraError(code)

    for prefix in ("/openai/v1/chat", "/openai/v1/responses", "/v1/responses", "/v1/files", "/v1/conversations"):
        app.add_api_route(f"{prefix}/{{name}}", fail)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_error_before_acceptance(client: httpx.AsyncClient, code: ErrorCode) -> None:
    """Every error has OpenAI's four keys and never the status 422; what can be retried says after how long."""
    for prefix in ("/openai/v1/chat", "/v1/responses"):
        response = await client.get(f"{prefix}/{code}")
        error = response.json()["error"]
        assert (response.json().keys(), error.keys()) == ({"error"}, {"message", "type", "param", "code"})
        assert error["message"] == ERRORS[code].title
        assert response.headers["content-type"] == "application/json"
        assert response.status_code not in (409, 422) or code in _NEVER_RAISED_BY_THE_DOOR
        assert ("retry-after" in response.headers) == (response.status_code in (429, 503))


# Errors of accounts, tasks and dead letters, or reasons of records: no route of the door raises them.
_NEVER_RAISED_BY_THE_DOOR = frozenset(
    "username_taken not_retryable not_changeable not_replayable cancelled tombstone bad_header unknown_type".split()
)


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_error_after_acceptance(client: httpx.AsyncClient, code: ErrorCode) -> None:
    """After acceptance no error has a status that a client retries on its own; header and message name the request."""
    for prefix, kind in (
        ("/openai/v1/chat", "chatcmpl-"),
        ("/v1/responses", "resp_"),
        ("/openai/v1/responses", "resp_"),
    ):
        response = await client.get(f"{prefix}/accepted-{code}")

        assert response.status_code not in RETRIED
        assert response.headers["x-should-retry"] == "false"
        assert response.headers["x-request-id"] == f"req_{ID.hex}"
        assert f"{kind}{ID.hex}" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("name", "status", "kind", "code", "param"),
    [
        ("unauthorized", 401, "invalid_request_error", "invalid_api_key", None),
        ("unknown_model", 404, "invalid_request_error", "model_not_found", "model"),
        ("context_too_long", 400, "invalid_request_error", "context_length_exceeded", None),
        ("too_many_open", 429, "rate_limit_error", "rate_limit_exceeded", None),
        ("overloaded", 503, "server_error", "overloaded", None),
        ("database", 503, "server_error", "unavailable", None),
        ("bug", 500, "server_error", "internal", None),
        ("door", 400, "invalid_request_error", "unsupported_parameter", "n"),
        ("accepted-content_filter", 400, "invalid_request_error", "content_filter", None),
        ("accepted-bad_upstream", 424, "failed_dependency", "bad_upstream", None),
        ("accepted-still_running", 424, "failed_dependency", "still_running", None),
    ],
)
async def test_names_that_clients_know(
    client: httpx.AsyncClient, name: str, status: int, kind: str, code: str, param: str | None
) -> None:
    """Errors that OpenAI's API has too have its status and code; all others have our own code."""
    response = await client.get(f"/openai/v1/chat/{name}")
    error = response.json()["error"]

    assert (response.status_code, error["type"], error["code"], error["param"]) == (status, kind, code, param)
    assert "canary" not in response.text
    assert ("x-should-retry" in response.headers) == (name.startswith("accepted") or name == "bug")


def test_the_field_that_is_wrong() -> None:
    """``param`` is the field that the detail of a fault of the request begins with."""
    for detail, param in (
        ("temperature: must be a number", "temperature"),
        ("messages.0.content: is required", "messages[0].content"),
        ("the oldest request: waits", None),
        ("a text", None),
    ):
        body = shape(OrchestraError(ErrorCode.INVALID_REQUEST, detail)).body
        assert (body["error"]["param"], body["error"]["message"]) == (param, detail)
    assert shape(OrchestraError(ErrorCode.OVERLOADED, "queue: too long")).body["error"]["param"] is None


def test_the_field_of_a_response() -> None:
    """A fault that was found in the record of a response names the field as its API does."""
    for code, detail, param, message in (
        (ErrorCode.FILE_NOT_FOUND, "messages.2.content.0.file.file_id: unknown", "input", "input: unknown"),
        (ErrorCode.UNSUPPORTED_OPTION, "max_tokens: too many", "max_output_tokens", "max_output_tokens: too many"),
        (ErrorCode.UNSUPPORTED_OPTION, "tool_choice: no tools", "tool_choice", "tool_choice: no tools"),
        (ErrorCode.TOOL_RESULTS_MISSING, "1 of 2 have none", "input", "1 of 2 have none"),
    ):
        body = shape(OrchestraError(code, detail), "resp_").body["error"]
        assert (param, message) == (body["param"], body["message"])
    own = DoorError("invalid_value", "messages: no such field", param="messages")
    assert "messages" == shape(own, "resp_").body["error"]["param"]


async def test_files_have_both_forms(client: httpx.AsyncClient) -> None:
    """A problem with a file keeps its form and status, and has an `error` in OpenAI's form as well."""
    response = await client.get("/v1/files/invalid_request")
    body = response.json()

    assert (response.status_code, body["status"], body["code"]) == (422, 422, "invalid_request")
    assert response.headers["content-type"] == "application/problem+json"
    assert body["error"] == {
        "message": "The request is invalid", "type": "invalid_request_error", "param": None, "code": "invalid_value"
    }  # fmt: skip


async def test_other_paths_keep_problem_documents(client: httpx.AsyncClient) -> None:
    """Our own paths have problem documents and nothing else."""
    body = (await client.get("/v1/conversations/invalid_request")).json()

    assert body.keys() == {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize(
    "path",
    ["/openai/v1/embeddings", "/openai/v2/models", "/openai", "/v1/completions", "/v1/embeddings", "/v1/assistants/x",
     "/v1/images/generations", "/chat/completions", "/models/m", "/v1/chat/x/y", "/openai/v1/responses/compact",
     "/v1/responses/input_tokens", "/openai/v1/embeddings/%0Ax"],
)  # fmt: skip
async def test_paths_that_are_not_offered(client: httpx.AsyncClient, path: str) -> None:
    """A path of OpenAI's API that is not offered is a 404 in its form, which says what is offered."""
    response = await client.post(path)
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["type"]) == (404, "not_found", "invalid_request_error")
    assert "/openai/v1 it has chat/completions" in error["message"]
    assert (await client.post(f"/elsewhere{path}")).json()["code"] == "not_found"


async def test_a_method_that_is_not_offered(client: httpx.AsyncClient) -> None:
    """A wrong method is a 405 in OpenAI's form that names the right ones."""
    response = await client.delete("/openai/v1/chat/x")

    assert (response.status_code, response.headers["allow"]) == (405, "GET")
    assert response.json()["error"]["code"] == "method_not_allowed"
