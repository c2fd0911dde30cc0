"""Promises that hold for every route of the gateway, checked for each operation of its OpenAPI document.

Kafka and Postgres are unreachable, so a call that is refused here is refused before either of them is needed.
"""

import gzip
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gateway.app import create_app
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens, WebSession
from gateway.settings import GatewaySettings
from orchestra.store.database import Database
from tests.support.fakes import FakeProducer, away
from tests.support.tree import ROOT

SECRET = "s" * 32
ANY_ID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"


class Away(Database):
    """A Postgres that cannot be reached."""

    async def run(self, sql: str, **parameters: Any) -> Any:
        """Raise ``DatabaseUnavailableError``."""
        del sql, parameters
        raise away()


@cache
def app_of(**given: Any) -> FastAPI:
    """A gateway without connections; cached per arguments."""
    settings = GatewaySettings.model_validate({"orchestra_secret": SECRET, **given})
    return create_app(settings, database=Away.connect(settings, "test"), producer=FakeProducer)  # type: ignore[arg-type]


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of that gateway."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app_of()) as opened:
        opened.headers["Sec-Fetch-Site"] = "same-origin"  # As its own pages send it.
        yield opened


DOCUMENT = app_of().openapi()
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
WITH_A_BODY = [(method, path) for method, path, operation in OPERATIONS if "requestBody" in operation]


# Below it errors have OpenAI's form.
OPENAIS = "/openai/"


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The code and the detail of a problem or, below OpenAI's prefix, of an error in its form."""
    body = answer.json()
    if not answer.request.url.path.startswith(OPENAIS):
        return dict(body)
    return {**body["error"], "detail": body["error"]["message"]}


def at(path: str) -> str:
    """The path with a plausible value for each parameter."""
    return path.replace("{letter_id}", "7").format_map(defaultdict(lambda: ANY_ID))


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
@pytest.mark.parametrize("encoding", ["gzip", "identity, GZIP", "br", "x"])
async def test_a_packed_body_is_415(client: httpx.AsyncClient, method: str, path: str, encoding: str) -> None:
    """No route mistakes a compressed body for invalid JSON: each refuses it and names the encoding it accepts."""
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json", "X-User-ID": "ada"}
    answer = await client.request(method, at(path), content=gzip.compress(b"{}"), headers=headers)

    assert (415, "unsupported_media_type") == (answer.status_code, error_of(answer)["code"])
    assert "identity" == answer.headers["accept-encoding"]


@pytest.mark.parametrize("encoding", ["", "identity", "Identity , identity"])
async def test_a_plain_body_may_say_so(client: httpx.AsyncClient, encoding: str) -> None:
    """A body with the encoding `identity` is read."""
    answer = await client.post("/v1/messages", content=b"{", headers={"Content-Encoding": encoding})

    assert "not_json" == answer.json()["code"]


@pytest.mark.parametrize("path", sorted({path for _, path in WITH_A_BODY} - {"/token", "/v1/files"}))
async def test_a_byte_order_mark_is_skipped(client: httpx.AsyncClient, path: str) -> None:
    """JSON with a byte order mark, as some editors and languages write it, is read; a second mark is refused."""
    raw, headers = json.dumps({"canary": 1}).encode(), {"Content-Type": "application/json", "X-User-ID": "ada"}
    method = next(method for method, each in WITH_A_BODY if each == path)

    plain, marked, twice = [
        error_of(await client.request(method, at(path), content=mark + raw, headers=headers))["code"]
        for mark in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2)
    ]

    assert plain == marked != "not_json"
    assert "not_json" == twice


# Bodies in which an unknown field is not an error, each with the reason.
IGNORING = {
    ("POST", "/v1/messages"): "clients of the old system send what they like; the answer names it in `warnings`",
    ("POST", "/tasks"): "the old system ignored it, and its answer has no room for a warning",
    ("POST", "/v1/users"): "the old system ignored it, and its answer has no room for a warning",
    ("PUT", "/v1/users/{user_id}"): "the old system ignored it, and its answer has no room for a warning",
    ("POST", "/v1/files"): "a form, no JSON; an unknown field of it is refused, see tests of the route",
    ("POST", "/token"): "a form, no JSON; RFC 6749, 3.2: unrecognized parameters must be ignored",
}


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
async def test_an_unknown_field_is_refused(client: httpx.AsyncClient, method: str, path: str) -> None:
    """No route silently ignores a field of its body, except those listed here."""
    answer = await client.request(method, at(path), json={"canary": "canary"}, headers={"X-User-ID": "ada"})

    if path.startswith(OPENAIS):
        # As in OpenAI's API, the error may name the field. That it does not if it is no ordinary name is checked here.
        assert 400 == answer.status_code
        answer = await client.request(method, at(path), json={"a canary!": 1}, headers={"X-User-ID": "ada"})
        assert 400 == answer.status_code
    else:
        refused = "unknown field" in answer.json()["detail"]
        assert ((method, path) not in IGNORING) == refused
        assert not refused or (422, "invalid_request") == (answer.status_code, answer.json()["code"])
    assert "canary" not in answer.text


def test_every_body_that_is_ignored_in_part_is_there() -> None:
    """The list of exceptions names existing routes."""
    assert IGNORING.keys() <= set(WITH_A_BODY)


# Probes and scrapers send arbitrary parameters.
PROBES = {"/healthz", "/readyz", "/metrics"}
ASKED = [(method, path) for method, path, _ in OPERATIONS if path not in PROBES]


@pytest.mark.parametrize(("method", "path"), ASKED)
async def test_an_unknown_query_is_refused(client: httpx.AsyncClient, method: str, path: str) -> None:
    """No read or action silently ignores a query parameter, and the error repeats nothing of it."""
    refused = await client.request(method, at(path), params={"canary": "canary"}, headers={"X-User-ID": "ada"})

    expected = (400, "invalid_value") if path.startswith(OPENAIS) else (422, "invalid_request")
    assert expected == (refused.status_code, error_of(refused)["code"])
    assert error_of(refused)["detail"].startswith("query: unknown parameter; known are ")
    assert "canary" not in refused.text


QUERIES = [(method, path, each["name"], "array" in str(each["schema"]))
           for method, path, operation in OPERATIONS if path not in PROBES
           for each in operation.get("parameters", ()) if each["in"] == "query"]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "name", "many"), QUERIES)
async def test_a_repeated_query_is_refused(
    client: httpx.AsyncClient, method: str, path: str, name: str, many: bool
) -> None:
    """Of a query parameter that comes twice no value is ignored: it is a list, or the error names it."""
    answer = await client.request(method, at(path), params=[(name, "canary"), (name, "")], headers={"X-User-ID": "ada"})

    assert many != (answer.is_error and f"{name}: must be given only once" == error_of(answer)["detail"])
    assert "canary" not in answer.text


LISTS = {path: [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
         for method, path, operation in OPERATIONS if method == "GET"}  # fmt: skip


@pytest.mark.parametrize("path", sorted(path for path, names in LISTS.items() if "limit" in names))
async def test_every_filter_that_is_documented_is_known(client: httpx.AsyncClient, path: str) -> None:
    """Every documented parameter is known to its route; an unknown one beside it is refused with the known names."""
    for name in LISTS[path]:
        answer = await client.get(at(path), params={name: ""})
        assert "unknown parameter" not in error_of(answer)["detail"]
    detail = error_of(await client.get(at(path), params={"limit": 1, "canary": 1}))["detail"]
    assert [] == [name for name in LISTS[path] if name not in detail]


@pytest.mark.parametrize("path", [path for path in DOCUMENT["paths"] if not path.startswith(OPENAIS)])
async def test_a_path_names_the_methods_that_it_has(client: httpx.AsyncClient, path: str) -> None:
    """A method that a path lacks is 405, and `Allow` has those of its own and not of another path that fits."""
    answer = await client.request("OPTIONS", at(path))

    methods = {method for method, each, _ in OPERATIONS if each == path}
    assert (405, methods) == (answer.status_code, set(answer.headers["allow"].split(", ")) - {"HEAD"})


async def test_health_is_told_whatever_the_query(client: httpx.AsyncClient) -> None:
    """Health and metrics answer whatever the query is."""
    assert 200 == (await client.get("/healthz?probe=1")).status_code
    assert 200 == (await client.get("/metrics?collect[]=x")).status_code


def test_the_document_is_of_the_installed_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OpenAPI document says the version of the package, whatever it is."""
    monkeypatch.setattr(metadata, "version", {"llm-orchestra-pipeline": "9.8.7"}.get)

    assert app_of.__wrapped__().openapi()["info"]["version"] == "9.8.7"


PAGES = ("/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css", "/asyncapi")

OTHERS = [("GET", path) for path in (*PAGES, "/openapi.json", "/asyncapi.json", "/nowhere")] + [
    ("PATCH", "/v1/messages")
]


@pytest.mark.parametrize("mode", [{}, {"open_mode": False}], ids=["open", "closed"])
@pytest.mark.parametrize(("method", "path"), [*((method, path) for method, path, _ in OPERATIONS), *OTHERS])
async def test_no_cache_keeps_an_answer(mode: dict[str, Any], method: str, path: str) -> None:
    """JSON and problems of every route are never cached or sniffed; pages stay as they were."""
    async with client_of(app_of(**mode)) as client:
        answers = [
            await client.request(method, at(path), headers={"Host": host}) for host in ("localhost", "evil.test")
        ]
    for answer in answers:
        kind, rules = answer.headers["content-type"].partition(";")[0], answer.headers.get("cache-control")
        is_json = kind in ("application/json", "application/problem+json")
        assert is_json or path in (*PAGES, "/healthz", "/metrics")
        assert is_json == (rules == "no-store")
        assert not is_json or ["nosniff"] == answer.headers.get_list("x-content-type-options")


@pytest.mark.parametrize("mode", [{}, {"open_mode": False}], ids=["open", "closed"])
@pytest.mark.parametrize(("method", "path"), [*((method, path) for method, path, _ in OPERATIONS), *OTHERS])
async def test_every_answer_names_its_call(mode: dict[str, Any], method: str, path: str) -> None:
    """Each answer of any route, errors included, has one `x-request-id`, and no two have the same."""
    async with client_of(app_of(**mode)) as client:
        answers = [
            await client.request(method, at(path), headers={"Host": host}) for host in ("localhost", "evil.test")
        ]
    first, second = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(re.fullmatch("req_[0-9a-f]{32}", each) for each in (*first, *second))
    assert (1, 1) == (len(first), len(second))
    assert first != second


@pytest.mark.parametrize("path", ["/openai/v1/files", "/openai/v1/files/file-1", "/openai/v1/files/file-1/content"])
async def test_files_are_below_the_prefix_too(path: str) -> None:
    """The routes of files are found below OpenAI's prefix, and their errors have OpenAI's form there."""
    async with client_of(app_of(open_mode=False)) as client:
        answer = await client.get(path)
    assert (401, "invalid_api_key") == (answer.status_code, answer.json()["error"]["code"])
    assert path not in DOCUMENT["paths"]


APP, EVIL = "https://app.example", "https://evil.example"
OPEN = {"cors_origins": f"{APP},http://localhost:3000"}
CLOSED = {**OPEN, "open_mode": False}
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,prefer"}


@pytest.mark.parametrize("mode", [OPEN, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize("path", sorted(DOCUMENT["paths"]))
async def test_a_listed_origin_may_ask_first(mode: dict[str, Any], path: str) -> None:
    """At every path the preflight of a listed origin is answered, without credentials, and any other is not."""
    methods = {method for method, each, _ in OPERATIONS if each == path}
    async with client_of(app_of(**mode)) as client:
        for method in methods:
            asks = {**ASKS, "Access-Control-Request-Method": method}
            good = await client.options(at(path), headers={"Origin": APP, "Sec-Fetch-Site": "cross-site", **asks})
            evil = await client.options(at(path), headers={"Origin": EVIL, "Sec-Fetch-Site": "cross-site", **asks})
            assert (200, APP) == (good.status_code, good.headers["access-control-allow-origin"])
            assert method in good.headers["access-control-allow-methods"]
            assert "Origin" in good.headers["vary"]
            assert "access-control-allow-credentials" not in good.headers
            assert (evil.is_error, "access-control-allow-origin" in evil.headers) == (True, False)


@pytest.mark.parametrize("header", ["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Last-Event-ID",
                                    "traceparent", "X-User-ID", "OpenAI-Beta", "x-stainless-lang"])  # fmt: skip
async def test_every_header_of_a_call_may_be_sent(header: str) -> None:
    """A page may send each header that a route reads; any other is refused."""
    async with client_of(app_of(**OPEN)) as client:
        for name, status in ((header.lower(), 200), ("x-canary", 400)):
            asks = {**ASKS, "Access-Control-Request-Headers": name}
            assert status == (await client.options("/v1/messages", headers={"Origin": APP, **asks})).status_code


async def test_the_example_page_may_do_what_it_does() -> None:
    """Each header that examples/05_browser.html sends is allowed, and each route that it calls exists."""
    page = (ROOT / "examples/05_browser.html").read_text("utf-8")
    sent = set(re.findall(r'{ "([A-Za-z-]+)":|, "([A-Za-z-]+)":', page))
    names = {name for pair in sent for name in pair if name}
    assert {"Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"} == names
    async with client_of(app_of(**OPEN)) as client:
        asks = {**ASKS, "Access-Control-Request-Headers": ",".join(sorted(names)).lower()}
        assert 200 == (await client.options("/v1/messages", headers={"Origin": APP, **asks})).status_code
    one = "/v1/requests/{request_id}"
    assert {"/v1/messages", f"{one}/events", f"{one}/cancel"} <= DOCUMENT["paths"].keys()


@pytest.mark.parametrize("mode", [OPEN, CLOSED], ids=["open", "closed"])
@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("GET", "/healthz", {}), ("GET", "/nowhere", {}), ("PATCH", "/v1/messages", {}), ("GET", "/v1/requests", {}),
        ("POST", "/v1/messages", {"content": b"{"}), ("POST", "/v1/messages", {"content": b"x" * 2 * 1024 * 1024}),
        ("GET", f"/v1/requests/{ANY_ID}/events", {}), ("GET", "/v1/keys?canary=1", {}), ("GET", "/readyz", {}),
    ],
)  # fmt: skip
async def test_a_listed_origin_may_read_every_answer(
    mode: dict[str, Any], method: str, path: str, sent: dict[str, Any]
) -> None:
    """A page of a listed origin may read every response, errors included, and no cache reuses it for another origin."""
    async with client_of(app_of(**mode)) as client:
        answer = await client.request(method, path, headers={"Origin": APP}, **sent)
        other = await client.request(method, path, headers={"Origin": EVIL}, **sent)

    assert APP == answer.headers["access-control-allow-origin"]
    assert "Location" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-origin" not in other.headers


async def test_a_listed_origin_may_read_an_answer_to_what_nobody_foresaw(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may also read the response to an internal error, from a hot route or any other."""
    app = app_of(**OPEN)
    monkeypatch.setattr(Callers, "identify", None)  # Calling it is a TypeError.
    async with client_of(app) as client:
        for method, path in (("POST", "/v1/messages"), ("GET", "/v1/requests")):
            answer = await client.request(method, path, headers={"Origin": APP})
            assert (500, APP) == (answer.status_code, answer.headers["access-control-allow-origin"])


# What a page sends with a call, and the status where it reads and where it changes something. 503: the session counts,
# and then Postgres is needed.
MADE_BY = [
    ({"Sec-Fetch-Site": "same-origin"}, 503, 503),
    ({"Origin": "http://localhost:8080"}, 503, 503),
    ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3000"}, 401, 403),
    ({"Sec-Fetch-Site": "cross-site", "Origin": APP}, 401, 403),
    ({"Origin": APP}, 401, 403),
    ({}, 503, 403),
]


@pytest.mark.parametrize(("headers", "reads", "changes"), MADE_BY, ids=str)
async def test_whose_page_uses_a_session(headers: dict[str, str], reads: int, changes: int) -> None:
    """At every route a session counts for the gateway's own pages only, be another page's origin listed or not."""
    now = datetime.now(UTC)
    session = Tokens([SECRET.encode()]).sign_session(WebSession("a" * 12, now, now)).get_secret_value()
    cookie = {"Cookie": f"orchestra={session}; __Host-orchestra={session}"}
    async with client_of(app_of(**CLOSED)) as client:
        for method, path, operation in OPERATIONS:
            if operation.get("security") == []:
                continue
            answer = await client.request(method, at(path), headers={**headers, **cookie})
            assert (reads if method == "GET" else changes) == answer.status_code, (method, path)
            told = {401: {"unauthorized", "invalid_api_key"}, 403: {"cross_origin"}, 503: {"unavailable"}}
            assert error_of(answer)["code"] in told[answer.status_code], (method, path)
            assert "access-control-allow-credentials" not in answer.headers


async def test_without_the_setting_no_page_is_let_in(client: httpx.AsyncClient) -> None:
    """Without CORS_ORIGINS no page of another origin, even of this machine, reaches a route or may read a response."""
    asked = await client.options("/v1/messages", headers={"Origin": "http://localhost:3000", **ASKS})
    answer = await client.get("/healthz", headers={"Origin": "http://localhost:3000"})

    assert (403, 403) == (asked.status_code, answer.status_code)
    assert [] == [name for name in (*asked.headers, *answer.headers) if name.startswith("access-control")]
