"""Reading what a caller sends costs no more than in proportion to its length, at every place where something is read.

The places are found, in the routes and in the code, so that a new one is tried too or is missed by name. Compared are
two lengths of the same call, by the processor's time: how often it grows while the length grows fourfold.
"""

import ast
import gc
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import pytest
from fastapi import FastAPI, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.types import Message

from gateway.app import create_app
from gateway.people.cookies import session_cookie
from gateway.settings import GatewaySettings
from llm_service.app import create_app as create_llm_app
from llm_service.settings import LlmServiceSettings
from orchestra.http.client_address import CONNECTION, Connection, Proxies, client_address, forwarded_https
from orchestra.store.database import Database
from tests.support.fakes import FakeProducer, away
from tests.support.tree import ROOT

KIB = 1024
FACTOR = 4
# Four for what is linear, sixteen for what is quadratic.
MAX_GROWTH = 9
TRIES = 6
# A head may have 64 KiB, a body more.
HEAD_SIZES, BODY_SIZES, FIELD_SIZES = (1 * KIB, 16 * KIB), (16 * KIB, 64 * KIB), (16 * KIB,)

UNITS = [
    " ", ",", '"', "\\", ";", "=", "[", "{", "(", "%", "%41", "%ff", "9", ".", "-", ":", "/", "@", "&", "a", "\xe9",
    '"",', 'a;"\\",', "a=", "a, ", "&a=", '\\"',
]  # fmt: skip
ENDS = ["", '"', "("]
BODY_UNITS = [
    "a=%41&",
    "%41",
    "&",
    "username=a&",
    "[",
    '{"a":',
    "[[],",
    " ",
    "9",
    "1.",
    "-",
    "1e",
    '"',
    '"\\',
    '"\\ud800',
    '"a":1,',
    "\\",
    "\xff",
]
WRAPS = ["{}", '{{"a":{}}}', '{{"a":[{}]}}', "[{}]", '"{}"', '{{"messages":[{}]}}', '{{"requests":[{}]}}']
VALUES = ["{0}", "[{0}]", "{{{0}:{0}}}", '[{{"role":"user","content":{0}}}]']
STRINGS = ["a", " ", "9", ":", "=", ",", ".", "-", "/", "é", "\\u0000", '\\"']

# Each read of a header, as the code spells the name: the name, what good values begin with, and calls that get there.
POST, GET, EVENTS, CREATE = ("POST", "/v1/messages"), ("GET", "/v1/requests/{request_id}"), (
    "GET", "/v1/requests/{request_id}/events"), ("POST", "/v1/conversations")  # fmt: skip
TURNS, ID = ("GET", "/v1/conversations/{conversation_id}/events"), "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CONTENT = ("GET", "/v1/files/{file_id}/content")
CONSOLE = ("GET", "/console")
GENERATE, MODELS = ("POST", "/generate"), ("GET", "/models")
HEADERS: dict[str, tuple[str, list[str], list[tuple[str, str]]]] = {
    "'accept', ''": ("accept", ["", "text/html,"], [("GET", "/")]),
    "'accept-encoding', ''": ("accept-encoding", ["", "gzip,"], [CONSOLE]),
    "'if-none-match', ''": ("if-none-match", ["", '"a",', "W/"], [CONSOLE]),
    "'accept'": ("accept", ["", "text/event-stream;", "text/event-stream;q=0."], [POST]),
    "b'authorization'": ("authorization", ["", "Bearer ", "Bearer orc_", "Bearer e30.e30."], [GET]),
    "'authorization', ''": ("authorization", ["", "Bearer "], [MODELS, GENERATE]),
    "'content-encoding'": ("content-encoding", ["", "identity,"], [POST]),
    "b'content-encoding'": ("content-encoding", ["", "identity"], [POST, GENERATE]),
    "b'content-length', 0": ("content-length", [], []),  # Of at most twenty digits: the server's parser has seen to it.
    "'content-length', 0": ("content-length", [], []),  # As above.
    "'content-type', ''": ("content-type", ["", "application/json;", "application/"], [CREATE]),
    "b'content-type', b''": ("content-type", [], []),  # Of an answer.
    "'idempotency-key'": ("idempotency-key", ["", '"'], [POST]),
    "'last-event-id'": ("last-event-id", ["", "1.", "1.1.", "1.1-", f"{ID}:1."], [EVENTS, TURNS]),
    "'if-range', etag": ("if-range", [], []),  # It is only compared.
    "'range', ''": ("range", ["", "bytes=", "bytes=1-"], [CONTENT]),
    "b'cookie', []": (
        "cookie",
        ["", "orchestra=", "orchestra=e30.e30.", "__Host-orchestra=", "a=b; "],
        [GET, ("POST", "/v1/session")],
    ),
    "'sec-fetch-site'": ("sec-fetch-site", [""], [("POST", "/v1/session")]),
    # The guard of an open gateway lets only known ones pass; the test below reads others.
    "'origin'": ("origin", [], []),
    "'origin', ''": ("origin", [], []),  # Only its beginning.
    "'host'": ("host", [], []),  # It is only compared.
    "'prefer'": ("prefer", ["", "a", "wait", "wait=", 'a;"', "a="], [POST, GET]),
    "'traceparent'": ("traceparent", ["", "00-"], [POST]),
    "b'x-user-id', []": ("x-user-id", [""], [GET, POST]),
    "_REQUEST_ID_NAME, b''": ("x-request-id", [""], [GENERATE]),
    "_TRACEPARENT_NAME, b''": ("traceparent", ["", "00-"], [GENERATE]),
    "b'host'": ("host", ["", "localhost:", "["], [GET, MODELS]),
    "b'origin'": ("origin", ["", "http://", "http://[", "null"], [GET, MODELS]),
    "b'sec-fetch-site'": ("sec-fetch-site", [""], [GET, MODELS]),
    "b'x-forwarded-for'": ("x-forwarded-for", [], []),  # Below.
    "b'x-forwarded-proto'": ("x-forwarded-proto", [], []),  # Below.
    # Of Kafka's records, which only those send who may write to the topic of events.
    "TYPE": ("", [], []),
    "SUBJECT": ("", [], []),
    "TENANT": ("", [], []),
    "BODY_HASH": ("", [], []),
    "SIGNATURE": ("", [], []),
}
# Other ways into a request, which are looked for by name.
OTHER_READS = {"body", "cookies", "form", "json", "stream", "path_params", "session", "user", "auth"}


class Away(Database):
    """A Postgres that cannot be reached."""

    async def run(self, sql: str, **parameters: Any) -> Any:
        """Raise ``DatabaseUnavailableError``."""
        del sql, parameters
        raise away()


def gateway() -> FastAPI:
    settings = GatewaySettings.model_validate({"orchestra_secret": "s" * 32, "cors_origins": "https://app.example"})
    return create_app(settings, database=Away.connect(settings, "test"), producer=FakeProducer)  # type: ignore[arg-type]


def llm_service(**settings: Any) -> FastAPI:
    return create_llm_app(LlmServiceSettings.model_validate({"llm_provider": "simulated", **settings}))


APPS = {"gateway": gateway(), "llm_service": llm_service()}
WITH_TOKEN = llm_service(llm_service_token="s3cret")


Call = Callable[[str], Awaitable[float]]


class Place(NamedTuple):
    """A route of a service."""

    app: str
    method: str
    path: str


def routes() -> Iterator[tuple[Place, APIRoute]]:
    for name, app in APPS.items():
        for each in iter_route_contexts(app.routes):
            if isinstance(each.original_route, APIRoute):
                for method in each.methods or ():
                    yield Place(name, method, each.path or ""), each.original_route


PLACES = [place for place, _ in routes()]
WITH_BODY = [place for place in PLACES if place.method in ("POST", "PUT", "PATCH")]


def find(call: tuple[str, str]) -> Place:
    """The route of a call in the tables above."""
    return next(place for place in PLACES if (place.method, place.path) == call)


async def cost(app: FastAPI, place: Place, path: str, headers: dict[str, bytes], query: bytes, body: bytes) -> float:
    """The processor's time that one call takes."""
    sent = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return sent.pop() if sent else {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    given = {
        "host": b"localhost",
        "sec-fetch-site": b"same-origin",
        "content-type": b"application/json",
        "x-user-id": b"ada",
        **headers,
    }
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": place.method, "path": path,
        "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": query,
        "headers": [(name.encode(), value) for name, value in given.items()], "client": ("127.0.0.1", 1),
        "server": ("localhost", 80), "state": {},
    }  # fmt: skip
    began = time.thread_time()
    await app(scope, receive, send)
    return time.thread_time() - began


def at(path: str, name: str = "", text: str = "") -> str:
    """A path with something in the place of each name."""
    plain = re.sub(r":path}", "}", path)
    return plain.format_map(defaultdict(lambda: ID, {name: text} if name else {}))


async def grows(call: Call, unit: str, sizes: tuple[int, ...]) -> bool:
    """True when the call costs more, with four times as much of this in it, than what is linear could."""
    for size in sizes:
        short, long = (unit * (length // len(unit)) for length in (size, FACTOR * size))
        least, most = await call(short), await call(long)
        for _ in range(TRIES):
            if most <= MAX_GROWTH * least:
                break
            least, most = min(least, await call(short)), min(most, await call(long))
        else:
            return True
    return False


def with_header(app: FastAPI, place: Place, name: str, start: str, end: str) -> Call:
    async def call(text: str) -> float:
        return await cost(app, place, at(place.path), {name: f"{start}{text}{end}".encode("latin-1")}, b"", b"{}")

    return call


def with_forwarded() -> Call:
    async def call(text: str) -> float:
        connection, headers = Connection(Proxies(["127.0.0.1", "::1"])), [(b"x-forwarded-for", text.encode("latin-1"))]
        began = time.thread_time()
        client_address({"client": ("127.0.0.1", 1), "headers": headers, CONNECTION: connection})
        return time.thread_time() - began

    return call


def with_proto() -> Call:
    async def call(text: str) -> float:
        connection, headers = Connection(Proxies(["127.0.0.1"])), [(b"x-forwarded-proto", text.encode("latin-1"))]
        began = time.thread_time()
        forwarded_https({"client": ("127.0.0.1", 1), "headers": headers, CONNECTION: connection})
        return time.thread_time() - began

    return call


def with_origin() -> Call:
    async def call(text: str) -> float:
        headers = [(b"host", text.encode("latin-1")), (b"origin", f"http://{text}".encode("latin-1"))]
        request = Request({"type": "http", "method": "GET", "headers": headers})
        began = time.thread_time()
        session_cookie(request, [b"orchestra=x"])
        return time.thread_time() - began

    return call


def with_query(place: Place, name: str) -> Call:
    async def call(text: str) -> float:
        query = f"{name}={text}" if name else text
        return await cost(APPS[place.app], place, at(place.path), {}, query.encode("latin-1"), b"")

    return call


def with_path(place: Place, name: str) -> Call:
    async def call(text: str) -> float:
        return await cost(APPS[place.app], place, at(place.path, name, text.replace("/", "_")), {}, b"", b"")

    return call


def with_body(place: Place, wrap: str, encoding: str) -> Call:
    async def call(text: str) -> float:
        return await cost(APPS[place.app], place, at(place.path), {}, b"", wrap.format(text).encode(encoding))

    return call


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    """Nothing else is done meanwhile that would be counted."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def reads() -> Iterator[tuple[str, str]]:
    """Each place in the services' code where a header is read: the file, and how its name is spelt."""
    folders = [
        *(ROOT / "gateway").rglob("*.py"),
        *(ROOT / "llm_service").glob("*.py"),
        *(ROOT / "orchestra").glob("*.py"),
        *(ROOT / "orchestra/http").glob("*.py"),
    ]
    for path in folders:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            place = path.relative_to(ROOT).as_posix()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("get", "getlist") and ast.unparse(node.func.value).endswith("headers"):
                    yield place, ", ".join(map(ast.unparse, node.args))
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                if ast.unparse(node.value).split(".")[-1] == "headers":
                    yield place, ast.unparse(node.slice)
            elif isinstance(node, ast.Compare) and ast.unparse(node.left) == "name":
                yield from ((place, ast.unparse(each)) for each in node.comparators if _is_bytes(each))
            elif (
                isinstance(node, ast.Compare) and _is_bytes(node.left) and "headers" in ast.unparse(node.comparators[0])
            ):
                yield place, ast.unparse(node.left)


def _is_bytes(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


def test_every_read_of_a_header_is_known() -> None:
    """Code that reads another header must add it to the table above, so that it is tested too."""
    assert set(HEADERS) == {name for _, name in reads()}


def test_a_request_is_read_in_known_ways_only() -> None:
    """Bodies are read where their length is bounded, cookies as a header; forms and the like are not read at all."""
    found = set()
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "llm_service").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "request" and node.attr in OTHER_READS:
                found.add((path.relative_to(ROOT).as_posix(), node.attr))
    assert {("gateway/http/bodies.py", "stream"), ("llm_service/routes.py", "stream")} == found


def test_every_parameter_is_one_of_path_or_query() -> None:
    """No route lets FastAPI read a header, a cookie or a body, so the tables here name all that is read."""
    for place, route in routes():
        dependant = route.dependant
        assert [] == [*dependant.header_params, *dependant.cookie_params, *dependant.body_params], place


@pytest.mark.parametrize("read", sorted(read for read, (_, starts, _) in HEADERS.items() if starts))
async def test_headers(read: str) -> None:
    """A header costs in proportion to its length, whatever it repeats."""
    name, starts, calls = HEADERS[read]
    for place in map(find, calls):
        app = WITH_TOKEN if name == "authorization" and place.app == "llm_service" else APPS[place.app]
        for start, unit, end in product(starts, UNITS, ENDS):
            call = with_header(app, place, name, start, end)
            assert not await grows(call, unit, HEAD_SIZES), (place, start, unit, end)


@pytest.mark.parametrize("unit", [*UNITS, "1,", "127.0.0.1,", "::1,", "192.0.2.1, "])
async def test_forwarded_addresses(unit: str) -> None:
    """What proxies add is read from its end, and no further than it is believed."""
    assert not await grows(with_forwarded(), unit, HEAD_SIZES)


@pytest.mark.parametrize("unit", [*UNITS, "http,", "https,"])
async def test_schemes_and_origins(unit: str) -> None:
    """What says by which scheme and from which page a browser calls costs in proportion to its length."""
    assert not await grows(with_proto(), unit, HEAD_SIZES)
    assert not await grows(with_origin(), unit, HEAD_SIZES)


@pytest.mark.parametrize("place", PLACES, ids=str)
async def test_queries_and_paths(place: Place) -> None:
    """A query, each parameter in it, and each name in a path cost in proportion to their length."""
    route = next(route for each, route in routes() if each == place)
    names = {each.alias for each in get_flat_params(route.dependant)} - set(route.param_convertors)
    calls = [with_query(place, name) for name in ("", *names)]
    calls += [with_path(place, name) for name in route.param_convertors]
    for call, unit in product(calls, UNITS):
        assert not await grows(call, unit, HEAD_SIZES), unit


@pytest.mark.parametrize("place", WITH_BODY, ids=str)
async def test_bodies(place: Place) -> None:
    """A body costs in proportion to its length, whatever it repeats, be it JSON or not."""
    for wrap, unit in product(WRAPS, BODY_UNITS):
        assert not await grows(with_body(place, wrap, "latin-1"), unit, BODY_SIZES), (wrap, unit)


def properties(place: Place) -> set[str]:
    """The names that a body of this route may have, at any depth."""
    document = APPS["gateway"].openapi() if place.app == "gateway" else {}
    content = (
        document["paths"][place.path.replace(":path", "")][place.method.lower()]
        .get("requestBody", {})
        .get("content", {})
    )

    def walk(node: Any, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        if isinstance(node, dict):
            yield from node.get("properties", {})
            reference = node.get("$ref")
            if reference and reference not in seen:
                yield from walk(document["components"]["schemas"][reference.rpartition("/")[2]], seen | {reference})
            for child in node.values():
                yield from walk(child, seen)
        elif isinstance(node, list):
            for child in node:
                yield from walk(child, seen)

    return set(walk(content))


# What a message or an option may have at any depth, with a place for what is repeated.
NESTED = [
    '"messages":[{{"role":"user","content":[{}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"text","text":{}}}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"text","text":"x",{0}:{0}}}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:","detail":{}}}}}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":{}}}}}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"input_audio","input_audio":{{"data":"","format":{}}}}}]}}]',
    '"messages":[{{"role":"user","content":[{{"type":"file","file":{{"file_data":"data:","filename":{}}}}}]}}]',
    '"messages":[{{"role":"assistant","tool_calls":[{}]}}]',
    '"messages":[{{"role":"assistant","tool_calls":[{{"id":{},"type":"function"}}]}}]',
    '"messages":[{{"role":"tool","tool_call_id":{},"content":""}}]',
    '"messages":[{{"role":"tool","tool_call_id":"c","content":""}},{}]',
    '"tools":[{}]',
    '"tools":[{{"type":"function","function":{{"name":{}}}}}]',
    '"tools":[{{"type":"function","function":{{"name":"f","parameters":{{"a":{}}}}}}}]',
    '"tools":[{{"type":"function","function":{{"name":"f","description":{}}}}}]',
    '"tools":[{{"type":"function","function":{{"name":"f"}}}}],"tool_choice":{{"type":"function","function":{}}}',
    '"response_format":{{"type":"json_schema","json_schema":{{"name":"n","schema":{{{0}:{0}}}}}}}',
    '"response_format":{{"type":{}}}',
]
REPEATED = [*(f'"{each}' for each in STRINGS), '"a",', "[", '{"a":', '{"type":"text","text":"x"},', "{},", "9"]


@pytest.mark.parametrize("nested", NESTED)
async def test_nested_fields(nested: str) -> None:
    """What is within a message, a tool or a format costs in proportion to its length, be it JSON or not."""
    messages = "" if "messages" in nested else '"messages":[{{"role":"user","content":"x"}}],'
    for unit, end in product(REPEATED, ["", '"']):
        call = with_body(
            find(POST), f"{{{{{messages}{nested.replace('{}', '{}' + end).replace('{0}', '{0}' + end)}}}}}", "utf-8"
        )
        assert not await grows(call, unit, FIELD_SIZES), (unit, end)


# A second path of a route is not documented again.
DOCUMENTED = [place for place, route in routes() if place in WITH_BODY and route.include_in_schema]


@pytest.mark.parametrize("place", [place for place in DOCUMENTED if place.app == "gateway"], ids=str)
async def test_fields(place: Place) -> None:
    """Each field of a body costs in proportion to its length, as a text, a list or an object."""
    for name, value, unit in product(sorted(properties(place)), VALUES, STRINGS):
        body = f'{{{{"messages":[{{{{"role":"user","content":"x"}}}}],"{name}":{value}}}}}'
        assert not await grows(with_body(place, body, "utf-8"), unit, FIELD_SIZES), (name, value, unit)
