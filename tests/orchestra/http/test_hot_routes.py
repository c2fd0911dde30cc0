"""Promises of orchestra/http/hot_routes.py: hot routes are called without layers, and nothing else is different."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestra.http.hot_routes import HotApp, HotRoute

Endpoint = Callable[[Request], Awaitable[Response]]


class _KnownError(Exception):
    """Has an answer of its own."""


class _KinError(_KnownError):
    """Is answered like its parent."""


class _Doorman:
    """Middleware that rejects every caller that does not knock."""

    def __init__(self, app: ASGIApp, word: bytes) -> None:
        self._app = app
        self._word = word

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"knock", self._word) not in scope["headers"]:
            await Response(status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Stamp:
    """Middleware that adds a header to each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamping(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", b"stamped")]
            await send(message)

        await self._app(scope, receive, stamping)


def _app(endpoint: Endpoint, route_class: type[APIRoute] = HotRoute, dependency: Endpoint | None = None) -> HotApp:
    async def told(request: Request, error: Exception) -> Response:
        return Response(f"{type(error).__name__} on {request.scope['route'].path}", 418)

    async def bug(_request: Request, _error: Exception) -> Response:
        return Response("a bug", 500)

    router = APIRouter()
    router.add_api_route("/hot", endpoint, methods=["POST"], route_class_override=route_class, response_model=None)
    app = HotApp()
    app.add_middleware(_Doorman, word=b"twice")
    app.add_exception_handler(_KnownError, told)
    app.add_exception_handler(Exception, bug)
    app.include_router(router, dependencies=[Depends(dependency)] if dependency else None)
    return app


async def _call(
    app: HotApp, method: str = "POST", *, knock: bytes = b"twice", query: bytes = b""
) -> tuple[int, bytes, list[Message]]:
    """One call: status, body, and all that was sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"asked", "more_body": False}

    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": "/hot", "raw_path": b"/hot", "query_string": query, "root_path": "",
        "headers": [(b"knock", knock)], "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    try:
        await app(scope, receive, send)
    except Exception as error:
        error.add_note(f"sent: {sent}")
        raise
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent), sent


async def _echo(request: Request) -> Response:
    return Response(b"heard " + await request.body())


async def test_a_hot_route_answers() -> None:
    """The function gets the request and its answer is sent."""
    assert (await _call(_app(_echo)))[:2] == (200, b"heard asked")


async def test_the_apps_middleware_stands_before_a_hot_route() -> None:
    """A caller that the middleware rejects does not reach the route."""
    assert (await _call(_app(_echo), knock=b"never"))[0] == 403


async def test_another_method_is_refused_as_everywhere() -> None:
    """The path of a hot route takes its own methods only."""
    assert (await _call(_app(_echo), "GET"))[0] == 405


async def test_a_query_is_for_the_dependencies_to_judge() -> None:
    """They are not looked at without one; with one the call takes the way of all others, and is answered alike."""

    async def refuse_canaries(request: Request) -> Response:
        if "canary" in request.query_params or not request.query_params:
            raise _KnownError
        return Response()

    app = _app(_echo, dependency=refuse_canaries)
    assert (200, b"heard asked") == (await _call(app))[:2] == (await _call(app, query=b"known=1"))[:2]
    assert 418 == (await _call(app, query=b"canary=1"))[0]


@pytest.mark.parametrize("error", [_KnownError, _KinError])
async def test_an_error_is_answered_by_the_apps_handler(error: type[Exception]) -> None:
    """The handler of the error, or of its nearest parent, answers, and knows the route."""

    async def fail(_request: Request) -> Response:
        raise error

    assert (await _call(_app(fail)))[:2] == (418, f"{error.__name__} on /hot".encode())


async def test_a_bug_is_answered_and_told_to_the_server() -> None:
    """The caller gets the app's 500, and the server hears of the error."""

    async def fail(_request: Request) -> Response:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as raised:
        await _call(_app(fail))
    assert "a bug" in raised.value.__notes__[0]


@pytest.mark.parametrize("route_class", [HotRoute, APIRoute])
async def test_the_apps_middleware_stands_around_every_answer(route_class: type[APIRoute]) -> None:
    """Also around the one to a bug, so that it has what middleware adds to each; hot or not makes no difference."""

    async def fail(_request: Request) -> Response:
        raise ZeroDivisionError

    app = _app(fail, route_class)
    app.add_middleware(_Stamp)
    with pytest.raises(ZeroDivisionError) as raised:
        await _call(app)
    assert "stamped" in raised.value.__notes__[0]


async def test_an_error_in_mid_answer_ends_the_answer() -> None:
    """No second answer follows the beginning of the first; the server hears of the error and cuts it off."""

    class Breaking(Response):
        async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            raise _KnownError

    async def fail(_request: Request) -> Response:
        return Breaking()

    with pytest.raises(_KnownError) as raised:
        await _call(_app(fail))
    assert raised.value.__notes__[0].count("http.response.start") == 1


def test_the_schema_has_hot_routes() -> None:
    """What is hot is documented like the rest."""
    assert "/hot" in _app(_echo).openapi()["paths"]


@pytest.mark.parametrize("route_class", [HotRoute, APIRoute])
@pytest.mark.parametrize(
    ("given", "rules", "sniffing"),
    [
        ({"content-type": "application/json"}, ["no-store"], ["nosniff"]),
        ({"content-type": "application/problem+json"}, ["no-store"], ["nosniff"]),
        ({"content-type": "application/json", "cache-control": "private"}, ["private"], ["nosniff"]),
        ({"content-type": "application/json", "etag": '"1"'}, [], ["nosniff"]),
        ({"content-type": "text/event-stream"}, [], []),
        ({"content-type": "text/html"}, [], []),
        ({}, [], []),
    ],
)
async def test_json_is_not_kept(
    route_class: type[APIRoute], given: dict[str, str], rules: list[str], sniffing: list[str]
) -> None:
    """JSON that says nothing of it is kept by no cache; what is no JSON, or has rules of its own, is left as it is."""

    async def answer(_request: Request) -> Response:
        return Response(b"{}", headers=given)

    _, _, sent = await _call(_app(answer, route_class))
    values = [[value.decode() for name, value in sent[0]["headers"] if name == wanted] for wanted in
              (b"cache-control", b"x-content-type-options")]  # fmt: skip

    assert [rules, sniffing] == values
