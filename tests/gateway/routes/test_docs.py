"""Promises of gateway/routes/docs.py: the documentation works without access to any other server."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from gateway.routes.docs import build_router
from schemas import asyncapi

PAGES = ("/docs", "/asyncapi")


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(build_router())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as opened:
        yield opened


async def test_the_document_is_served(client: httpx.AsyncClient) -> None:
    """`/asyncapi.json` is the published document."""
    response = await client.get("/asyncapi.json")

    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == asyncapi.document()


@pytest.mark.parametrize("page", PAGES)
async def test_pages_are_whole_on_a_closed_network(client: httpx.AsyncClient, page: str) -> None:
    """A page is HTML, and everything it loads or links to is on this gateway."""
    response = await client.get(page)
    wanted = set(re.findall(r'(?:src|href)="([^#"]+)"', response.text)) - {"data:,"}

    assert response.headers["content-type"].startswith("text/html")
    assert {link for link in wanted if not link.startswith("/")} == set()
    assert {link: (await client.get(link)).status_code for link in wanted} == dict.fromkeys(wanted, 200)


@pytest.mark.parametrize("page", PAGES)
async def test_pages_may_load_nothing_from_elsewhere(client: httpx.AsyncClient, page: str) -> None:
    """The policy of a page allows no other host and no inline script."""
    policy = (await client.get(page)).headers["content-security-policy"]
    sources = {word for rule in policy.split(";") for word in rule.split()[1:]}
    script = next((rule for rule in policy.split(";") if rule.strip().startswith("script-src")), "")

    assert {source for source in sources if not source.startswith("'")} <= {"data:"}
    assert "unsafe" not in script
    assert "default-src 'none'" in policy


async def test_swagger_ui_is_there(client: httpx.AsyncClient) -> None:
    """`/docs` loads Swagger UI itself and opens this gateway's own document."""
    script = (await client.get("/docs/swagger-ui-bundle.js")).text

    assert "SwaggerUIBundle" in script
    assert 'url: "/openapi.json"' in (await client.get("/docs/start.js")).text
