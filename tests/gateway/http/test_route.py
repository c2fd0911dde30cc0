"""Promises of gateway/http/route.py: a route's checks run before its handler and are documented."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from gateway.drain import Drain
from gateway.http.route import Body, Call, Route, Routing
from gateway.owner_turns import OwnerTurns
from gateway.people.callers import Callers
from gateway.people.tokens import Tokens
from orchestra.store.database import Database
from schemas.api.keys import Scope
from schemas.errors import ErrorCode
from tests.support.people import bearer, calling, make_key

ANSWERS = {200: {"description": "What came"}}


class Wanted(BaseModel):
    """A body."""

    count: int = 0


class Handlers:
    """The handlers keep what they were called with; a list ends when it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.lists = 0
        self.max_lists = 0
        self.go_on = asyncio.Event()

    def table(self) -> Sequence[Route]:
        """A route of each kind."""
        lenient, own = Body(Wanted, any_type=True), Body(Wanted, read=len)
        return [
            Route("POST", "/things", self.make, Scope.WRITE, ANSWERS, body=Body(Wanted), writes=True),
            Route("POST", "/old", self.make, Scope.WRITE, ANSWERS, body=lenient),
            Route("POST", "/own", self.make, Scope.WRITE, ANSWERS, body=own, also=[ErrorCode.USERNAME_TAKEN]),
            Route("GET", "/things", self.list, Scope.READ, ANSWERS, lists=True),
            Route("GET", "/things/{thing_id}", self.get, Scope.READ, ANSWERS),
        ]

    async def make(self, call: Call[Wanted | int]) -> Response:
        """Make a thing."""
        self.calls += 1
        body = call.body
        return JSONResponse({"user": call.caller.user, "body": body if isinstance(body, int) else body.count})

    async def get(self, call: Call[None], thing_id: UUID, more: int = 0) -> Response:
        """Get a thing."""
        self.calls += 1
        return JSONResponse({"is_id": isinstance(thing_id, UUID), "more": more, "body": call.body})

    async def list(self, _call: Call[None]) -> Response:
        """List things."""
        self.lists += 1
        self.max_lists = max(self.max_lists, self.lists)
        await self.go_on.wait()
        self.lists -= 1
        return JSONResponse([])


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
async def client(database: Database, handlers: Handlers, drain: Drain) -> AsyncIterator[httpx.AsyncClient]:
    callers = Callers(database, Tokens([b"s" * 32]), asks=True)
    router = Routing(callers, drain, OwnerTurns(1, max_waiting=60, max_seconds=60), 100).router(
        "things", handlers.table()
    )
    async with calling(router) as opened:
        yield opened


@pytest.fixture
async def writer(database: Database) -> dict[str, str]:
    return bearer(await make_key(database, "write"))


@pytest.fixture
async def reader(database: Database) -> dict[str, str]:
    return bearer(await make_key(database, "read"))


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_the_caller_comes_first(
    client: httpx.AsyncClient, handlers: Handlers, drain: Drain, reader: dict[str, str]
) -> None:
    """Whatever else is wrong, a caller without access gets 401 or 403, and no handler runs."""
    drain.begin()

    for headers, expected in (({}, (401, "unauthorized")), (reader, (403, "forbidden"))):
        assert expected == code(await client.post("/things", content=b"x" * 200, headers=headers))
    assert (401, "unauthorized") == code(await client.get("/things/none"))
    assert 0 == handlers.calls


async def test_nothing_is_written_while_the_gateway_drains(
    client: httpx.AsyncClient, handlers: Handlers, drain: Drain, writer: dict[str, str]
) -> None:
    """While draining, a route that writes to the log refuses, and no other does."""
    drain.begin()

    assert (503, "unavailable") == code(await client.post("/things", json={}, headers=writer))
    assert 0 == handlers.calls
    assert 200 == (await client.post("/old", json={}, headers=writer)).status_code


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        ("/things", b'{"count": 3}', {"content-type": "application/json"}, 3),
        ("/things", b"", {}, 0),
        ("/old", b'{"count": 3}', {"content-type": "text/plain"}, 3),
        ("/own", b"12345", {"content-type": "application/json"}, 5),
    ],
)
async def test_a_handler_gets_its_body(
    client: httpx.AsyncClient, writer: dict[str, str], path: str, body: bytes, headers: dict[str, str], expected: int
) -> None:
    """A handler gets its body as its model, or as its own reader returns it; no body is an empty object."""
    answer = await client.post(path, content=body, headers={**writer, **headers})

    assert {"user": "key:program", "body": expected} == answer.json()


@pytest.mark.parametrize(
    ("path", "body", "kind", "expected"),
    [
        ("/things", b"{}", "text/plain", (422, "invalid_request")),
        ("/things", b"{", "application/json", (400, "not_json")),
        ("/things", b'{"count": "many"}', "application/json", (422, "invalid_request")),
        ("/things", b" " * 101, "application/json", (413, "too_large")),
        ("/old", b"", "application/json", (400, "not_json")),
    ],
)
async def test_a_bad_body_reaches_no_handler(
    client: httpx.AsyncClient, handlers: Handlers, writer: dict[str, str], path: str, body: bytes, kind: str,
    expected: tuple[int, str],
) -> None:  # fmt: skip
    """A bad body is refused with its error code before it reaches a handler."""
    assert expected == code(await client.post(path, content=body, headers={**writer, "content-type": kind}))
    assert 0 == handlers.calls


async def test_a_handler_gets_what_the_path_and_the_query_say(
    client: httpx.AsyncClient, reader: dict[str, str]
) -> None:
    """An id is a UUID, an invalid one is not found, and an unknown query parameter is refused."""
    there = await client.get(f"/things/{uuid4()}?more=2", headers=reader)

    assert {"is_id": True, "more": 2, "body": None} == there.json()
    assert (404, "not_found") == code(await client.get("/things/none", headers=reader))
    assert (422, "invalid_request") == code(await client.get(f"/things/{uuid4()}?less=2", headers=reader))


async def test_lists_of_one_owner_wait_for_their_turn(
    client: httpx.AsyncClient, handlers: Handlers, reader: dict[str, str]
) -> None:
    """No more lists of one owner run at once than the gateway allows."""
    asked = [asyncio.create_task(client.get("/things", headers=reader)) for _ in range(5)]
    await asyncio.sleep(0)
    handlers.go_on.set()

    assert [200] * 5 == [answer.status_code for answer in await asyncio.gather(*asked)]
    assert 1 == handlers.max_lists


def test_a_route_documents_what_its_checks_answer(handlers: Handlers) -> None:
    """The document names each problem that a route's checks can raise, and those that its handler adds."""
    make, old, own, listed, get = handlers.table()

    assert {400, 401, 403, 413, 415, 422, 503, 200} <= make.responses().keys()
    assert "outcome_unknown" in make.responses()[503]["description"]
    assert "outcome_unknown" not in old.responses()[503]["description"]
    assert "username_taken" in own.responses()[409]["description"]
    assert "too_many_calls" in listed.responses()[429]["description"]
    assert "not_found" in get.responses()[404]["description"]
    assert {401, 403, 422, 503, 200, 404} == get.responses().keys()
    assert "requestBody" in make.extra
    assert {"x-scopes": [Scope.READ]} == get.extra
