"""Promises that the gateway keeps at every route, held at each operation of its OpenAPI document.

Kafka and Postgres are away, so what is refused here is refused before either of them is asked.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from orchestra.store.database import Database
from tests.support.fakes import FakeProducer, away

SECRET = "s" * 32
ANY_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


class Away(Database):
    """A Postgres that cannot be reached."""

    async def run(self, sql: str, **parameters: Any) -> Any:
        """Raise ``DatabaseUnavailableError``."""
        del sql, parameters
        raise away()


def app_of(**given: Any) -> FastAPI:
    """A gateway that is not connected to anything."""
    settings = GatewaySettings.model_validate({"orchestra_secret": SECRET, **given})
    return create_app(settings, database=Away.connect(settings, "test"), producer=FakeProducer)  # type: ignore[arg-type]


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of it."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_of()) as opened:
        yield opened


DOCUMENT = app_of().openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
WITH_A_BODY = [(method, path) for method, path, operation in OPERATIONS if "requestBody" in operation]


def at(path: str) -> str:
    """A path with something in the place of each name that could be one."""
    return path.replace("{letter_id}", "7").format_map(defaultdict(lambda: ANY_ID))


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
@pytest.mark.parametrize("encoding", ["gzip", "identity, GZIP", "br", "x"])
async def test_a_packed_body_is_415(client: httpx.AsyncClient, method: str, path: str, encoding: str) -> None:
    """No route takes a compressed body for broken JSON: each says that it reads none, and what it would read."""
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json", "X-User-ID": "ada"}
    answer = await client.request(method, at(path), content=gzip.compress(b"{}"), headers=headers)

    assert (415, "unsupported_media_type") == (answer.status_code, answer.json()["code"])
    assert "identity" == answer.headers["accept-encoding"]


@pytest.mark.parametrize("encoding", ["", "identity", "Identity , identity"])
async def test_a_plain_body_may_say_so(client: httpx.AsyncClient, encoding: str) -> None:
    """A body that claims no encoding is read."""
    answer = await client.post("/v1/messages", content=b"{", headers={"Content-Encoding": encoding})

    assert "not_json" == answer.json()["code"]


@pytest.mark.parametrize("path", sorted({path for _, path in WITH_A_BODY} - {"/token"}))
async def test_a_byte_order_mark_is_skipped(client: httpx.AsyncClient, path: str) -> None:
    """JSON as some editors and languages write it is JSON; a second mark is not."""
    raw, headers = json.dumps({"canary": 1}).encode(), {"Content-Type": "application/json", "X-User-ID": "ada"}
    method = next(method for method, each in WITH_A_BODY if each == path)

    plain, marked, twice = [
        (await client.request(method, at(path), content=mark + raw, headers=headers)).json()["code"]
        for mark in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2)
    ]

    assert plain == marked != "not_json"
    assert "not_json" == twice


READING = sorted({path for method, path, _ in OPERATIONS if method == "GET"} - {"/healthz", "/readyz", "/metrics"})


@pytest.mark.parametrize("path", READING)
async def test_an_unknown_filter_is_refused(client: httpx.AsyncClient, path: str) -> None:
    """No list, nor anything else that is read, answers as if what it was asked for were not there."""
    refused = await client.get(at(path), params={"canary_filter": "canary"}, headers={"X-User-ID": "ada"})

    assert (422, "invalid_request") == (refused.status_code, refused.json()["code"])
    assert "canary" not in refused.text


LISTS = {path: [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
         for method, path, operation in OPERATIONS if method == "GET"}  # fmt: skip


@pytest.mark.parametrize("path", sorted(path for path, names in LISTS.items() if "limit" in names))
async def test_every_filter_that_is_documented_is_known(client: httpx.AsyncClient, path: str) -> None:
    """What the OpenAPI document names gets as far as its value; beside it, an unknown name is told what there is."""
    for name in LISTS[path]:
        answer = await client.get(at(path), params={name: ""})
        assert "does not know" not in answer.json()["detail"]
    detail = (await client.get(at(path), params={"limit": 1, "canary": 1})).json()["detail"]
    assert [] == [name for name in LISTS[path] if name not in detail]


async def test_health_is_told_whatever_the_query(client: httpx.AsyncClient) -> None:
    """Probes and scrapers send what they like."""
    assert 200 == (await client.get("/healthz?probe=1")).status_code
    assert 200 == (await client.get("/metrics?collect[]=x")).status_code
