from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from structlog.testing import capture_logs

from gateway.http.problems import Problems, RequestProblemError
from gateway.metrics import Metrics
from gateway.openai.errors import OpenAIErrors
from orchestra.store.database import DatabaseUnavailableError, DatabaseUnsuitableError, DataRefusedError
from schemas.errors import ERRORS, ErrorCode, OrchestraError

ID = uuid4()
CANARY = "postgres://user:canary@host"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    Problems(Metrics(), OpenAIErrors()).install(app)
    errors: dict[str, Exception] = {
        **{code: OrchestraError(code) for code in ErrorCode},
        "retry": OrchestraError(ErrorCode.OVERLOADED, retry_after=29.2),
        "request": RequestProblemError(ErrorCode.RATE_LIMITED, "slow down", request_id=ID, status=502),
        "database": DatabaseUnavailableError(CANARY),
        "tables": DatabaseUnsuitableError("the database lacks tables"),
        "data": DataRefusedError(CANARY),
        "bug": ZeroDivisionError(CANARY),
    }

    @app.get("/{name}")
    async def fail(name: str, limit: int = 0) -> None:
        raise errors[name]

    router = APIRouter(prefix="/pair")
    router.add_api_route("/of/one", fail, methods=["DELETE"])
    app.include_router(router)
    app.add_api_route("/{name}", fail, methods=["DELETE"])

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as opened:
        yield opened


@pytest.mark.parametrize("code", ErrorCode)
async def test_every_code(client: httpx.AsyncClient, code: ErrorCode) -> None:
    """Every error code has a complete problem document with its own status."""
    response = await client.get(f"/{code}")
    assert response.status_code == ERRORS[code].status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": f"urn:llm-orchestra:error:{code}",
        "title": ERRORS[code].title,
        "status": ERRORS[code].status,
        "detail": ERRORS[code].title,
        "code": code,
    }
    assert ("retry-after" in response.headers) == (ERRORS[code].status in (429, 503))


async def test_retry_after(client: httpx.AsyncClient) -> None:
    """Retry-After is in whole seconds, rounded up."""
    assert (await client.get("/retry")).headers["retry-after"] == "30"


async def test_about_a_request(client: httpx.AsyncClient) -> None:
    """An error about a request contains its id and location; its status may differ from its code's."""
    response = await client.get("/request")
    assert response.status_code == response.json()["status"] == 502
    assert response.headers["location"] == f"/v1/requests/{ID}"
    assert (response.json()["request_id"], response.json()["code"]) == (str(ID), "rate_limited")


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("database", 503, "unavailable"), ("data", 422, "refused_by_database"), ("bug", 500, "internal")],
)
async def test_inside(client: httpx.AsyncClient, name: str, status: int, code: str) -> None:
    """An internal error shows only the type of the exception."""
    with capture_logs() as logged:
        response = await client.get(f"/{name}")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "canary" not in response.text
    assert [entry["event"] for entry in logged] == ["unexpected_error"] * (name == "bug")


async def test_a_database_that_is_not_set_up(client: httpx.AsyncClient) -> None:
    """While Postgres lacks something, the answer says so, and not that it is away."""
    response = await client.get("/tables")
    assert (response.status_code, response.json()["detail"]) == (503, "the database lacks tables")


async def test_allow(client: httpx.AsyncClient) -> None:
    """A method that a path does not support is refused with all those it does, whichever route each belongs to."""
    for method, path in (("POST", "/pair"), ("OPTIONS", "/pair"), ("PUT", "/pair/of/one")):
        response = await client.request(method, path)
        assert response.status_code == 405
        assert response.headers["allow"] == ("DELETE" if path.endswith("one") else "DELETE, GET")


async def test_framework(client: httpx.AsyncClient) -> None:
    """Errors that the framework raises are problem documents too, without any of the input."""
    for method, path, status in (("GET", "/a/canary", 404), ("POST", "/canary", 405), ("GET", "/x?limit=canary", 422)):
        response = await client.request(method, path)
        assert response.status_code == response.json()["status"] == status
        assert response.headers["content-type"] == "application/problem+json"
        assert "canary" not in response.text
